import type { Cancel, Picoseconds, SteeredClock } from '../contract/clock.js';
import { canceller, DueQueue, runDue, type Due } from './due-queue.js';

/**
 * A clock whose time is nobody's but its own: discrete events, each of which happens in an instant. Time moves only
 * between them, to the next that is due, so the same events give the same run on any machine.
 */
export class VirtualClock implements SteeredClock {
  #now: Picoseconds = 0;
  readonly #later = new DueQueue();
  /** Due now, in order: most of what is ever asked for, so it does not pass through the heap. */
  #due: Due[] = [];
  #nextDue = 0;
  /** How far the run under way goes. */
  #end: Picoseconds = 0;

  now(): Picoseconds {
    return this.#now;
  }

  at(time: Picoseconds, run: () => void): Cancel {
    const due = this.#later.make(time, run);
    if (time > this.#now) this.#later.push(due);
    else this.#due.push(due);
    return canceller(due);
  }

  /** Runs what is due up to `time`, in order, and sets the clock to it. What that asks for in turn is run, too. */
  runUntil(time: Picoseconds): void {
    this.#run(time);
    if (time > this.#now) this.#now = time;
  }

  leapTo(time: Picoseconds): boolean {
    const next = this.#later.first();
    if (time > this.#end || this.#nextDue < this.#due.length || (next !== undefined && next.time <= time))
      return false;
    this.#now = Math.max(this.#now, time);
    return true;
  }

  /** Runs until nothing is left to do; the clock then stands where the last of it was. */
  runUntilIdle(): void {
    this.#run(Infinity);
  }

  /** What throws ends the run under way; the rest of what is due stays due. */
  #run(end: Picoseconds): void {
    this.#end = end;
    for (;;) {
      while (this.#nextDue < this.#due.length) {
        const due = this.#due[this.#nextDue++]!;
        if (this.#nextDue === this.#due.length) {
          this.#due = [];
          this.#nextDue = 0;
        }
        runDue(due);
      }
      const next = this.#later.first();
      if (next === undefined || next.time > end) return;
      this.#now = next.time;
      // All of that time before anything it asks for in turn: those were asked for earlier.
      while (this.#later.first()?.time === this.#now) this.#due.push(this.#later.pop());
    }
  }
}
