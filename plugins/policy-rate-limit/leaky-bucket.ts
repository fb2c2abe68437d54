import type { Picoseconds } from '../../src/core/contract/clock.js';

const PS_PER_SECOND = 1e12;

/**
 * A token bucket as a meter (ITU-T I.371's leaky bucket): what was asked for fills it, and it drains at a constant rate.
 * In any stretch of t seconds no more goes through than `burst` + t × `perSecond`.
 */
export class LeakyBucket {
  #level = 0;
  #time: Picoseconds = 0;

  constructor(
    readonly perSecond: number,
    readonly burst: number,
  ) {}

  /** What is in it: at most `burst` of what went through by `fits`, more of what was poured in without asking. */
  level(now: Picoseconds): number {
    this.#drain(now);
    return this.#level;
  }

  /** Whether there is room for this much. */
  fits(now: Picoseconds, amount: number): boolean {
    return this.level(now) + amount <= this.burst;
  }

  /** Pours in what is spent, whether or not there is room. */
  add(now: Picoseconds, amount: number): void {
    this.#drain(now);
    this.#level += amount;
  }

  #drain(now: Picoseconds): void {
    // A clock that steps back is no reason to let more through.
    const elapsed = Math.max(0, now - this.#time) / PS_PER_SECOND;
    this.#time = Math.max(this.#time, now);
    this.#level = Math.max(0, this.#level - elapsed * this.perSecond);
  }
}
