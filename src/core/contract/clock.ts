import { token } from './injection.js';

/** Picoseconds since the run began, an integer: exact up to 2^53 ps, which is two and a half hours. */
export type Picoseconds = number;

export const PS_PER_NS = 1_000;

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
