import { XdpbedError } from '../core/diagnostic.js';
import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from './descriptor-format.js';
import type { GuestMemory } from './guest-memory.js';
import type { BufferPart, BufferRequest } from './virtqueue.js';

/** The most bytes a chain may describe (virtio 1.3, 2.7.5.2). */
export const MAX_CHAIN_BYTES = 2 ** 32;

const NO_PARTS: readonly BufferPart[] = [];

/** A buffer that a driver wants to offer, after it was looked at: its parts in the order of their descriptors. */
export class CheckedRequest {
  readonly #readable: readonly BufferPart[];
  readonly #writable: readonly BufferPart[];
  /** Parts, and so descriptors. */
  readonly count: number;
  /** Bytes the device may write. */
  readonly writableBytes: number;

  /**
   * @param size entries of the queue
   * @throws XdpbedError `virtio-violation` for a request that the specification forbids
   */
  constructor(request: BufferRequest, memory: GuestMemory, size: number) {
    this.#readable = request.readable ?? NO_PARTS;
    this.#writable = request.writable ?? NO_PARTS;
    this.count = this.#readable.length + this.#writable.length;
    if (this.count === 0) throw new XdpbedError('virtio-violation', 'a buffer has no parts');
    if (this.count > size) {
      throw new XdpbedError('virtio-violation', `${this.count} parts exceed the queue size of ${size}`);
    }
    this.writableBytes = checkedLength(this.#writable, memory);
    checkChainBytes(checkedLength(this.#readable, memory) + this.writableBytes);
  }

  part(index: number): BufferPart {
    const { length } = this.#readable;
    return index < length ? this.#readable[index]! : this.#writable[index - length]!;
  }

  /** VIRTQ_DESC_F_WRITE for a device-writable part, else 0. */
  writeFlag(index: number): number {
    return index < this.#readable.length ? 0 : VIRTQ_DESC_F_WRITE;
  }

  /** VIRTQ_DESC_F_NEXT for all but the last part, else 0. */
  nextFlag(index: number): number {
    return index === this.count - 1 ? 0 : VIRTQ_DESC_F_NEXT;
  }
}

/** @throws XdpbedError `virtio-violation` for a part that cannot be offered */
export function checkPart({ address, length }: BufferPart, memory: GuestMemory): void {
  if (length > 0 && memory.contains(address, length)) return;
  throw new XdpbedError(
    'virtio-violation',
    `a part of ${length} bytes at 0x${address.toString(16)} is empty or outside guest memory`,
  );
}

/** @throws XdpbedError `virtio-violation` for more than a chain may have */
export function checkChainBytes(bytes: number): void {
  if (bytes > MAX_CHAIN_BYTES) {
    throw new XdpbedError('virtio-violation', `a chain of ${bytes} bytes exceeds 2^32`);
  }
}

function checkedLength(parts: readonly BufferPart[], memory: GuestMemory): number {
  let total = 0;
  for (const part of parts) {
    checkPart(part, memory);
    total += part.length;
  }
  return total;
}
