import { FreshPiece } from '../core/fresh-bytes.js';
import { ChainWriter, DescriptorChain } from './descriptor-chain.js';
import { addressOf, DESCRIPTOR_BYTES } from './descriptor-format.js';
import type { GuestMemory } from './guest-memory.js';
import type { DriverViolation, DriverViolationReason } from './violation.js';
import type { BufferPart } from './virtqueue.js';

const NOTHING = new FreshPiece(0);

/**
 * The device's copy of the descriptors of the chain that is being popped: a queue fills it from what the driver wrote,
 * reading each field once, and only the copy is checked and used. One for each queue, used again for each chain.
 */
export class ChainCopy {
  /** Descriptors copied so far. */
  count = 0;
  // Addresses stay split in two 32-bit halves because a number cannot hold all of a u64 and a bigint per descriptor
  // would be garbage in the hot path.
  readonly #addressHigh: Uint32Array;
  readonly #addressLow: Uint32Array;
  readonly #length: Uint32Array;
  readonly #writable: Uint8Array;
  /** Descriptors of the chain that was taken last that are device-readable; they come first. */
  #readableCount = 0;
  /** Of all chains that have none writable: nothing can be written by it. */
  readonly #noRoom: ChainWriter;

  constructor(
    readonly memory: GuestMemory,
    /** The most descriptors that a chain may have: entries of the queue. */
    readonly size: number,
    /** Readable and writable bytes of one chain together. */
    readonly maxBytes: number,
  ) {
    this.#noRoom = new ChainWriter(memory, [], []);
    this.#addressHigh = new Uint32Array(size);
    this.#addressLow = new Uint32Array(size);
    this.#length = new Uint32Array(size);
    this.#writable = new Uint8Array(size);
  }

  clear(): void {
    this.count = 0;
  }

  /** Adds a descriptor; false when the chain has as many as it may have. */
  add(high: number, low: number, length: number, writable: boolean): boolean {
    const { count } = this;
    if (count === this.size) return false;
    this.#addressHigh[count] = high;
    this.#addressLow[count] = low;
    this.#length[count] = length;
    this.#writable[count] = writable ? 1 : 0;
    this.count = count + 1;
    return true;
  }

  /** Where the device-readable bytes of the chain that was taken last lie, in order. */
  readableParts(): BufferPart[] {
    return Array.from({ length: this.#readableCount }, (_, i) => ({
      address: this.#address(i),
      length: this.#length[i]!,
    }));
  }

  /** A view of the indirect table that a descriptor of chain `head` refers to. */
  indirectTable(head: number, high: number, low: number, length: number): DataView | DriverViolation {
    if (length === 0 || length % DESCRIPTOR_BYTES !== 0) {
      return violation(
        'indirect-length-invalid',
        `the indirect table of chain ${head} has ${length} bytes, not a multiple of ${DESCRIPTOR_BYTES}`,
      );
    }
    return this.memory.window(addressOf(high, low), length) ?? outside(head, high, low, length);
  }

  /** Checks what the copied descriptors describe, copies what is readable, and makes the chain of it. */
  take(head: number, position: number): DescriptorChain | DriverViolation {
    const { count, memory } = this;
    let readableBytes = 0;
    let writableBytes = 0;
    let readableCount = 0;
    for (let i = 0; i < count; i++) {
      const length = this.#length[i]!;
      if (length === 0) return violation('zero-length', `descriptor ${i} of chain ${head} has no bytes`);
      if (this.#writable[i] === 1) {
        writableBytes += length;
      } else {
        if (readableCount !== i) {
          return violation(
            'readable-after-writable',
            `descriptor ${i} of chain ${head} is readable after a writable one`,
          );
        }
        readableCount += 1;
        readableBytes += length;
      }
      const high = this.#addressHigh[i]!;
      const low = this.#addressLow[i]!;
      if (!memory.contains(addressOf(high, low), length)) return outside(head, high, low, length);
      if (readableBytes + writableBytes > this.maxBytes) {
        return violation(
          'chain-bytes-over-limit',
          `chain ${head} exceeds the limit of ${this.maxBytes} bytes`,
        );
      }
    }

    this.#readableCount = readableCount;
    const copied = readableBytes === 0 ? NOTHING : new FreshPiece(readableBytes);
    for (let i = 0, to = 0; i < readableCount; i++) {
      const length = this.#length[i]!;
      memory.readPiece(this.#address(i), copied, to, length);
      to += length;
    }
    return new DescriptorChain(head, position, copied, this.#writer());
  }

  /** Of the chain's writable descriptors, of which there are rarely more than one. */
  #writer(): ChainWriter {
    const first = this.#readableCount;
    if (first === this.count) return this.#noRoom;
    const addresses = [this.#address(first)];
    const lengths = [this.#length[first]!];
    for (let i = first + 1; i < this.count; i++) {
      addresses.push(this.#address(i));
      lengths.push(this.#length[i]!);
    }
    return new ChainWriter(this.memory, addresses, lengths);
  }

  #address(index: number): number {
    return addressOf(this.#addressHigh[index]!, this.#addressLow[index]!);
  }
}

export function violation(reason: DriverViolationReason, message: string): DriverViolation {
  return { reason, message };
}

function outside(head: number, high: number, low: number, length: number): DriverViolation {
  const address = (BigInt(high) << 32n) | BigInt(low);
  const what = `chain ${head}: ${length} bytes at 0x${address.toString(16)}`;
  return address + BigInt(length) > 1n << 64n
    ? violation('address-overflow', `${what} wrap 2^64`)
    : violation('address-outside-memory', `${what} are outside guest memory`);
}
