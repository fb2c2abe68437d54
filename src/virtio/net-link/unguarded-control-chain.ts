import type { GuestMemory } from '../guest-memory.js';
import type { BufferPart } from '../virtqueue.js';

/**
 * The device-readable part of a command where it lies in the guest's memory. What is read twice may differ, and what is
 * written there the guest sees: both are defects of a device that does it, and this is for devices that are meant to have
 * them. Bounded by the chain's descriptors, which were checked when it was popped.
 */
export class UnguardedControlChain {
  readonly readableBytes: number;

  constructor(
    readonly memory: GuestMemory,
    readonly parts: readonly BufferPart[],
  ) {
    this.readableBytes = parts.reduce((sum, { length }) => sum + length, 0);
  }

  /** Copies what is there now, from `offset` on: as many of `length` bytes as the chain has. */
  read(offset: number, length: number): Uint8Array {
    const copy = new Uint8Array(Math.max(0, Math.min(length, this.readableBytes - offset)));
    this.#eachPiece(offset, copy.length, (address, at, count) => {
      this.memory.readInto(address, copy, at, count);
    });
    return copy;
  }

  /** Writes into the device-readable part, as many as it has room for. */
  overwrite(offset: number, bytes: Uint8Array): void {
    const length = Math.max(0, Math.min(bytes.length, this.readableBytes - offset));
    this.#eachPiece(offset, length, (address, at, count) => {
      this.memory.write(address, bytes.subarray(at, at + count));
    });
  }

  #eachPiece(
    offset: number,
    length: number,
    act: (address: number, at: number, count: number) => void,
  ): void {
    let skip = offset;
    let done = 0;
    for (const part of this.parts) {
      if (done === length) return;
      if (skip >= part.length) {
        skip -= part.length;
        continue;
      }
      const count = Math.min(part.length - skip, length - done);
      act(part.address + skip, done, count);
      done += count;
      skip = 0;
    }
  }
}
