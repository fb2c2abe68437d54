import { XdpbedError } from '../diagnostic.js';

/**
 * Milliseconds between two turns of the event loop: each costs more than a burst of frames. Of the machine's clock,
 * which decides nothing else: a program may take as long for a frame as others for many.
 */
const MS_PER_TURN = 20;

/** Lets work that takes long give the event loop its turn now and then, and with it an interruption. */
export class EventLoopTurns {
  #last = performance.now();

  /** @param what is interrupted, for the message: `the run` */
  constructor(
    readonly signal?: AbortSignal,
    readonly what = 'the run',
  ) {}

  /** Undefined as long as it is not yet time; else what to await. Rejects with `interrupted` once the signal has fired. */
  next(): Promise<void> | undefined {
    return this.isDue ? this.#turn() : undefined;
  }

  /** As `next`, for work that ends with what it has so far: whether to go on. */
  async goOn(): Promise<boolean> {
    if (this.isDue) await this.#giveWay();
    return this.signal?.aborted !== true;
  }

  /** It is time for `goOn`: for who cannot afford to await it each time. */
  get isDue(): boolean {
    return performance.now() - this.#last >= MS_PER_TURN;
  }

  async #turn(): Promise<void> {
    await this.#giveWay();
    if (this.signal?.aborted === true)
      throw new XdpbedError('interrupted', `interrupted while ${this.what} was under way`);
  }

  async #giveWay(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#last = performance.now();
  }
}
