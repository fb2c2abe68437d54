import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { Frame } from './frame-accounting.js';

/** How full a queue was, over time. */
export interface QueueWatch {
  /** It holds so many from this time on. */
  note(now: Picoseconds, length: number): void;
}

/** Frames that wait, first come, first served: a ptr_ring. */
export class FrameQueue {
  readonly #slots: (Frame | undefined)[];
  #head = 0;
  #length = 0;
  watch: QueueWatch | undefined;

  constructor(readonly capacity: number) {
    this.#slots = new Array<Frame | undefined>(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** Whether there was room. */
  push(frame: Frame, now: Picoseconds): boolean {
    if (this.#length === this.capacity) return false;
    let tail = this.#head + this.#length;
    if (tail >= this.capacity) tail -= this.capacity;
    this.#slots[tail] = frame;
    this.#length++;
    this.watch?.note(now, this.#length);
    return true;
  }

  shift(now: Picoseconds): Frame | undefined {
    if (this.#length === 0) return undefined;
    const frame = this.#slots[this.#head];
    this.#slots[this.#head] = undefined;
    if (++this.#head === this.capacity) this.#head = 0;
    this.#length--;
    this.watch?.note(now, this.#length);
    return frame;
  }
}
