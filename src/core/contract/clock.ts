import { token } from './injection.js';

/**
 * Picoseconds since the run began, an integer. A number, because a model asks for the time millions of times a second:
 * exact for the first two and a half hours (2^53 ps), then to the nearest 2, 4, 8 ps and so on, 16 after a day.
 */
export type Picoseconds = number;

export const PS_PER_NS = 1_000;
export const PS_PER_MS = 1_000_000_000;

/** Calls the thing off; does nothing once it has happened. */
export type Cancel = () => void;

/**
 * The one clock of a run. A model's is virtual: time stands still while something runs and leaps to the next thing
 * that is due. A real fabric's is the machine's.
 */
export interface Clock {
  now(): Picoseconds;
  /**
   * Has `run` called once it is `time`, never before this call returns. What is due at the same time runs in the
   * order in which it was asked for; a time that has passed counts as now.
   */
  at(time: Picoseconds, run: () => void): Cancel;
}

export const CLOCK = token<Clock>('clock');

/** A clock that whoever makes the run happen sets going. */
export interface SteeredClock extends Clock {
  /** Runs what is due up to `time`, in order, and sets the clock to it. What that asks for in turn is run, too. */
  runUntil(time: Picoseconds): void;
  /**
   * Sets the clock to `time` where nothing is due up to then, and `runUntil` goes that far: whether it did. For who has
   * nothing to do until then and need not be called by `at`.
   */
  leapTo(time: Picoseconds): boolean;
  /** Runs until nothing is left to do; the clock then stands where the last of it was. */
  runUntilIdle(): void;
}

/** Bound to the same clock as CLOCK, and only for a fabric whose time is virtual. */
export const VIRTUAL_CLOCK = token<SteeredClock>('virtual-clock');
