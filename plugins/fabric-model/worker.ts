import type { Clock } from '../../src/core/contract/clock.js';

/**
 * The host's softirq while it handles a burst of frames (NAPI poll). Who is woken meanwhile runs when it is over: the
 * CPU is taken, and redirected frames are flushed to their devices at its end (xdp_do_flush). Who looks for work by
 * itself, on a CPU of its own, runs after each frame.
 */
export class Softirq {
  #active = false;
  #woken: Worker[] = [];
  #polling: Worker[] = [];

  get active(): boolean {
    return this.#active;
  }

  begin(): void {
    this.#active = true;
  }

  /** A frame was handled: those that poll have seen it. */
  frameDone(): void {
    if (this.#polling.length === 0) return;
    for (const worker of this.#polling.splice(0)) worker.runOnce();
  }

  end(): void {
    this.#active = false;
    for (const worker of this.#polling.splice(0)) worker.schedule();
    for (const worker of this.#woken.splice(0)) worker.schedule();
  }

  defer(worker: Worker): void {
    (worker.polls ? this.#polling : this.#woken).push(worker);
  }
}

/** Somebody who sleeps until there is something to do: the reader of a tap, a guest's NAPI. */
export class Worker {
  #awake = false;

  constructor(
    readonly clock: Clock,
    readonly softirq: Softirq,
    /** Does a turn's work: whether there is more. */
    readonly work: () => boolean,
    /** Looks for work by itself instead of being woken. */
    readonly polls = false,
  ) {}

  /** Wakes it, unless it is awake. */
  wake(): void {
    if (this.#awake) return;
    this.#awake = true;
    if (this.softirq.active) this.softirq.defer(this);
    else this.schedule();
  }

  /** Has it do a turn as soon as what is due before is done. */
  schedule(): void {
    this.clock.at(this.clock.now(), () => this.runOnce());
  }

  /** One turn; with more to do it stays awake. */
  runOnce(): void {
    this.#awake = false;
    if (this.work()) this.wake();
  }
}
