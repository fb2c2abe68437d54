/**
 * A descriptor chain as the device works with it: what the driver sent is already copied, what the device
 * answers goes through a bounded writer.
 */

import type { FreshPiece } from '../core/fresh-bytes.js';
import type { GuestMemory } from './guest-memory.js';

/**
 * Writes into the device-writable part of a chain, front to back.
 *
 * Writing only ever appends, because `used.len` promises the driver that the *first* `len` writable bytes
 * were written (virtio 1.3, 2.7.8.2).
 */
export class ChainWriter {
  /** Writable bytes of the chain. */
  readonly capacity: number;
  readonly #memory: GuestMemory;
  readonly #addresses: readonly number[];
  readonly #lengths: readonly number[];
  #segment = 0;
  #offset = 0;
  #written = 0;
  #open = true;

  /** The segments have been checked to lie in `memory`; the writer checks again with every write. */
  constructor(
    memory: GuestMemory,
    addresses: readonly number[],
    lengths: readonly number[],
    /** Bytes that were written already. */
    written = 0,
  ) {
    this.#memory = memory;
    this.#addresses = addresses;
    this.#lengths = lengths;
    let capacity = 0;
    for (const length of lengths) capacity += length;
    this.capacity = capacity;
    for (let left = written; left > 0;) {
      const count = Math.min(left, lengths[this.#segment]! - this.#offset);
      this.#advance(count);
      left -= count;
    }
  }

  /** Bytes written: what the used element will carry. */
  get written(): number {
    return this.#written;
  }

  /** Bytes that can still be written; 0 once the chain is pushed or revoked. */
  get remaining(): number {
    return this.#open ? this.capacity - this.#written : 0;
  }

  /** Appends all of `bytes`; `false`, with nothing written, when they do not fit or the chain is gone. */
  write(bytes: Uint8Array): boolean {
    if (bytes.length > this.remaining) return false;
    let from = 0;
    while (from < bytes.length) {
      const room = this.#lengths[this.#segment]! - this.#offset;
      const count = Math.min(room, bytes.length - from);
      // Nearly always all of them: a view costs more than the copy.
      const piece = count === bytes.length ? bytes : bytes.subarray(from, from + count);
      this.#memory.write(this.#addresses[this.#segment]! + this.#offset, piece);
      this.#advance(count);
      from += count;
    }
    return true;
  }

  /** Appends `count` zeros; `false`, with nothing written, when they do not fit or the chain is gone. */
  writeZeros(count: number): boolean {
    if (count > this.remaining) return false;
    let left = count;
    while (left > 0) {
      const room = Math.min(this.#lengths[this.#segment]! - this.#offset, left);
      this.#memory.fill(this.#addresses[this.#segment]! + this.#offset, room);
      this.#advance(room);
      left -= room;
    }
    return true;
  }

  /** Where it writes and how far it has come, as JSON has it. */
  save(): {
    readonly addresses: readonly number[];
    readonly lengths: readonly number[];
    readonly written: number;
  } {
    return { addresses: [...this.#addresses], lengths: [...this.#lengths], written: this.#written };
  }

  /** The queue calls this when the chain is the driver's again: its memory may have a new use. */
  close(): void {
    this.#open = false;
  }

  #advance(count: number): void {
    this.#written += count;
    this.#offset += count;
    if (this.#offset === this.#lengths[this.#segment]) {
      this.#segment += 1;
      this.#offset = 0;
    }
  }
}

/** One chain that the device holds. */
export class DescriptorChain {
  #view: Uint8Array | undefined;

  constructor(
    /** Index of the head descriptor, or the buffer ID in a packed queue: what the device will name when it returns it. */
    readonly head: number,
    /** How many were popped before it, modulo 2^16; in a split queue, the avail ring position. */
    readonly position: number,
    /** All device-readable bytes, copied once when the chain was popped: the driver cannot change them any more. */
    readonly copied: FreshPiece,
    /** The device-writable bytes. */
    readonly writer: ChainWriter,
  ) {}

  /** The device-readable bytes. */
  get readable(): Uint8Array {
    return (this.#view ??= this.copied.from(0));
  }
}
