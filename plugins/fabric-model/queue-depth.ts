import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { QueueWatch } from './frame-queue.js';

/** Points of the course of a queue. */
const POINTS = 40;

/** How many were in a queue: on average, at most, and over time. */
export class QueueDepth implements QueueWatch {
  #since: Picoseconds;
  #length: number;
  /** Frames times picoseconds. */
  #area = 0;
  max: number;
  /** By stretch of time: the most that were in it. */
  readonly #course = new Array<number>(POINTS).fill(0);

  constructor(
    readonly start: Picoseconds,
    /** Of a stretch of the course. */
    readonly stretch: Picoseconds,
    length: number,
  ) {
    this.#since = start;
    this.#length = length;
    this.max = length;
    this.#course[0] = length;
  }

  static over(start: Picoseconds, duration: Picoseconds, length: number): QueueDepth {
    return new QueueDepth(start, Math.ceil(duration / POINTS), length);
  }

  note(now: Picoseconds, length: number): void {
    this.#advance(now);
    this.#length = length;
    if (length > this.max) this.max = length;
    const point = Math.floor((now - this.start) / this.stretch);
    if (point < POINTS && length > this.#course[point]!) this.#course[point] = length;
  }

  /** Until this time: the average over it, and the course. */
  result(end: Picoseconds): { readonly mean: number; readonly course: readonly number[] } {
    this.#advance(end);
    return { mean: this.#area / (end - this.start), course: [...this.#course] };
  }

  #advance(now: Picoseconds): void {
    if (now <= this.#since) return;
    this.#area += this.#length * (now - this.#since);
    // What lies there meanwhile counts in every stretch that passes.
    const from = Math.floor((this.#since - this.start) / this.stretch);
    const to = Math.min(Math.floor((now - this.start) / this.stretch), POINTS - 1);
    for (let point = from + 1; point <= to; point++) {
      if (this.#length > this.#course[point]!) this.#course[point] = this.#length;
    }
    this.#since = now;
  }
}
