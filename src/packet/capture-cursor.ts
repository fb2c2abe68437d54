import { XdpbedError } from '../core/diagnostic.js';
import { MAX_CAPTURED_BYTES } from './captured-packet.js';

export const NS_PER_S = 1_000_000_000n;

/** A hostile file in either byte order: every read is checked, every failure names its offset. */
export class CaptureCursor {
  private readonly view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    public littleEndian = true,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  fail(offset: number, message: string, hint?: string): never {
    throw new XdpbedError('pcap-invalid', message, { at: { offset }, hint });
  }

  /** Does a reader's work on all that is left: what is wrong with the file, if anything is. */
  damageOf(read: () => void): XdpbedError | undefined {
    try {
      read();
    } catch (error) {
      if (error instanceof XdpbedError) return error;
      throw error;
    }
    return undefined;
  }

  /** @throws XdpbedError unless `length` bytes are left at `offset` */
  need(offset: number, length: number, what: string, hint?: string): void {
    const left = this.bytes.length - offset;
    if (length > left) {
      this.fail(offset, `${what} needs ${length} bytes, ${Math.max(left, 0)} are left`, hint);
    }
  }

  u16(offset: number): number {
    this.need(offset, 2, 'a 16-bit field');
    return this.view.getUint16(offset, this.littleEndian);
  }

  u32(offset: number): number {
    this.need(offset, 4, 'a 32-bit field');
    return this.view.getUint32(offset, this.littleEndian);
  }

  u64(offset: number): bigint {
    this.need(offset, 8, 'a 64-bit field');
    return this.view.getBigUint64(offset, this.littleEndian);
  }

  i64(offset: number): bigint {
    return BigInt.asIntN(64, this.u64(offset));
  }

  /** A view of a packet's bytes: no copy, so no length in the file makes this allocate. */
  packet(offset: number, length: number, what: string, hint?: string): Uint8Array {
    if (length > MAX_CAPTURED_BYTES) {
      this.fail(offset, `${what} claims ${length} bytes, more than the ${MAX_CAPTURED_BYTES} of any capture`);
    }
    this.need(offset, length, what, hint);
    return this.bytes.subarray(offset, offset + length);
  }
}

/** What is still good about a file that is damaged behind so many packets. */
export function hintOfWhole(packets: number): string | undefined {
  if (packets === 0) return undefined;
  return packets === 1 ? 'the packet before it is whole' : `the ${packets} packets before it are whole`;
}
