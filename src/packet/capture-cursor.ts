import { XdpbedError } from '../core/diagnostic.js';
import type { CaptureBytes } from './capture-bytes.js';
import { MAX_CAPTURED_BYTES } from './captured-packet.js';

export const NS_PER_S = 1_000_000_000n;

/** A hostile file in either byte order: every read is checked, every failure names its offset. */
export class CaptureCursor {
  constructor(
    readonly source: CaptureBytes,
    public littleEndian = true,
  ) {}

  fail(offset: number, message: string, hint?: string): never {
    throw new XdpbedError('pcap-invalid', message, { at: { offset }, hint });
  }

  /** @throws XdpbedError unless `length` bytes are left at `offset` */
  need(offset: number, length: number, what: string, hint?: string): void {
    const left = this.source.length - offset;
    if (length > left) {
      this.fail(offset, `${what} needs ${length} bytes, ${Math.max(left, 0)} are left`, hint);
    }
  }

  u8(offset: number): number {
    this.need(offset, 1, 'a byte');
    const at = this.source.place(offset, 1);
    return this.source.view.getUint8(at);
  }

  u16(offset: number): number {
    this.need(offset, 2, 'a 16-bit field');
    const at = this.source.place(offset, 2);
    return this.source.view.getUint16(at, this.littleEndian);
  }

  u32(offset: number): number {
    this.need(offset, 4, 'a 32-bit field');
    const at = this.source.place(offset, 4);
    return this.source.view.getUint32(at, this.littleEndian);
  }

  u64(offset: number): bigint {
    this.need(offset, 8, 'a 64-bit field');
    const at = this.source.place(offset, 8);
    return this.source.view.getBigUint64(at, this.littleEndian);
  }

  i64(offset: number): bigint {
    return BigInt.asIntN(64, this.u64(offset));
  }

  /** A packet's bytes: no length in the file makes this allocate more than a packet may have. */
  packet(offset: number, length: number, what: string, hint?: string): Uint8Array {
    if (length > MAX_CAPTURED_BYTES) {
      this.fail(offset, `${what} claims ${length} bytes, more than the ${MAX_CAPTURED_BYTES} of any capture`);
    }
    this.need(offset, length, what, hint);
    return this.source.bytes(offset, length);
  }
}

/** What is still good about a file that is damaged behind so many packets. */
export function hintOfWhole(packets: number): string | undefined {
  if (packets === 0) return undefined;
  return packets === 1 ? 'the packet before it is whole' : `the ${packets} packets before it are whole`;
}
