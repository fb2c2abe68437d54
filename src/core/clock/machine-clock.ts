import { PS_PER_MS, type Cancel, type Clock, type Picoseconds } from '../contract/clock.js';
import { canceller, DueQueue, runDue } from './due-queue.js';

/** The longest that setTimeout waits: what is due later is looked at again then. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

/** The machine's monotonic clock, counted from when this was made. What waits for it keeps the process alive. */
export class MachineClock implements Clock {
  readonly #start = performance.now();
  readonly #queue = new DueQueue();
  #timer: NodeJS.Timeout | undefined;

  now(): Picoseconds {
    return Math.round((performance.now() - this.#start) * PS_PER_MS);
  }

  at(time: Picoseconds, run: () => void): Cancel {
    const due = this.#queue.make(time, run);
    this.#queue.push(due);
    if (this.#queue.first() === due) this.#wait();
    const cancel = canceller(due);
    return () => {
      cancel();
      // A process must not be kept alive for what was called off.
      this.#wait();
    };
  }

  /** Until the first that is due and was not called off. */
  #wait(): void {
    clearTimeout(this.#timer);
    while (this.#queue.first()?.run === undefined && this.#queue.first() !== undefined) this.#queue.pop();
    const first = this.#queue.first();
    if (first === undefined) return;
    // Timers count in milliseconds and may fire a little early: rounded up, and looked at again.
    const ms = Math.max(0, Math.ceil((first.time - this.now()) / PS_PER_MS));
    this.#timer = setTimeout(() => this.#runDue(), Math.min(ms, MAX_TIMEOUT_MS));
  }

  #runDue(): void {
    try {
      for (let first = this.#queue.first(); first !== undefined && first.time <= this.now();) {
        runDue(this.#queue.pop());
        first = this.#queue.first();
      }
    } finally {
      this.#wait();
    }
  }
}
