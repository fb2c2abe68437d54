import type { Picoseconds } from '../../src/core/contract/clock.js';

/**
 * A CPU of the model: what it does takes time, and it does one thing after the other. It is ahead of the clock by what
 * it was charged and has not yet lived through.
 */
export class VirtualCpu {
  /** When all is done that it was charged so far. */
  time: Picoseconds = 0;
  /** What it was charged in all. */
  busy: Picoseconds = 0;
  readonly #effects: (() => void)[] = [];
  #next = 0;

  constructor(
    /** As the result names it: `host.eth0 softirq`, `guest0.eth0 vhost`, `guest0 cpu0`. */
    readonly name: string,
    /**
     * Whether it goes into a deeper idle state when it has nothing to do for long. A guest's does not: its host looks on
     * for it (halt polling).
     */
    readonly idles = true,
  ) {}

  charge(cost: Picoseconds): void {
    this.time += cost;
    this.busy += cost;
  }

  /** Has this happen when it is done with what it was charged so far; in order. */
  then(effect: () => void): void {
    this.#effects.push(effect);
  }

  get hasEffects(): boolean {
    return this.#next < this.#effects.length;
  }

  /** What is to happen next, if anything is: its time is `time`. */
  nextEffect(): (() => void) | undefined {
    const effect = this.#effects[this.#next];
    if (effect === undefined) return undefined;
    if (++this.#next === this.#effects.length) {
      this.#effects.length = 0;
      this.#next = 0;
    }
    return effect;
  }
}
