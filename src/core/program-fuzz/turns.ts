import { setImmediate } from 'node:timers/promises';

/** Milliseconds of work between two looks at what else there is to do, such as a signal. */
const TURN_MS = 20;

/** Lets others have their turn in the midst of long work. */
export class Turns {
  #last = performance.now();

  constructor(readonly signal: AbortSignal | undefined) {}

  /** Gives way if it is time to; whether to go on. */
  async goOn(): Promise<boolean> {
    if (performance.now() - this.#last > TURN_MS) {
      await setImmediate();
      this.#last = performance.now();
    }
    return this.signal?.aborted !== true;
  }
}
