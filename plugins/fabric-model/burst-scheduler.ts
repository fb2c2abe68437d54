import type { Clock } from '../../src/core/contract/clock.js';
import type { Scheduler, Worker } from './worker.js';

/**
 * Turns when nothing takes time: everybody works in whole batches, in the order in which they were woken.
 *
 * A burst of frames from the wire is one NAPI poll of the host's softirq. Who is woken meanwhile runs when it is over:
 * the CPU is taken, and redirected frames are flushed to their devices at its end (xdp_do_flush). Who looks for work by
 * itself, on a CPU of its own, runs after each frame.
 */
export class BurstScheduler implements Scheduler {
  #inBurst = false;
  #woken: Worker[] = [];
  #polling: Worker[] = [];

  constructor(readonly clock: Clock) {}

  begin(): void {
    this.#inBurst = true;
  }

  /** A frame was handled: those that poll have seen it. */
  frameDone(): void {
    if (this.#polling.length === 0) return;
    for (const worker of this.#polling.splice(0)) this.#turn(worker);
  }

  end(): void {
    this.#inBurst = false;
    for (const worker of this.#polling.splice(0)) this.#schedule(worker);
    for (const worker of this.#woken.splice(0)) this.#schedule(worker);
  }

  wake(worker: Worker): void {
    if (worker.awake) return;
    worker.awake = true;
    if (!this.#inBurst) this.#schedule(worker);
    else if (worker.options.polls === true) this.#polling.push(worker);
    else this.#woken.push(worker);
  }

  /** Has it do a turn as soon as what is due before is done. */
  #schedule(worker: Worker): void {
    this.clock.at(this.clock.now(), () => this.#turn(worker));
  }

  /** One turn; with more to do it stays awake. */
  #turn(worker: Worker): void {
    worker.awake = false;
    const { work, batch } = worker.options;
    if (work(batch)) this.wake(worker);
  }
}
