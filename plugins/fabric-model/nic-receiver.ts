import type { DeploymentParts } from './deployment-parts.js';
import { NAPI_BUDGET } from './guest-nic.js';
import type { ReceiveQueue } from './nic-queue.js';
import type { TimedScheduler } from './timed-scheduler.js';
import type { Timing } from './timing.js';
import type { VirtualCpu } from './virtual-cpu.js';
import { Worker, type SleepCosts } from './worker.js';

/** One queue of the host's NIC while it is measured, and the softirq that polls it (NAPI). */
export class NicReceiver {
  readonly worker: Worker;
  readonly #parts: DeploymentParts;
  readonly #scheduler: TimedScheduler;
  readonly #nic: string;
  /** Frames of the poll under way. */
  #polled = 0;

  constructor(
    parts: DeploymentParts,
    scheduler: TimedScheduler,
    readonly cpu: VirtualCpu,
    readonly queue: ReceiveQueue,
  ) {
    const { timing, plan } = parts;
    this.#parts = parts;
    this.#scheduler = scheduler;
    this.#nic = plan.host.nics[0]!.name;
    this.worker = new Worker({
      cpu,
      batch: NAPI_BUDGET,
      work: () => this.#receive(),
      costs: () => softirqCosts(timing),
    });
    this.expect();
  }

  /** Cleaning up after a frame that was sent is work of the CPU that polls the NIC. */
  clean(): void {
    const { timing } = this.#parts;
    this.cpu.time = Math.max(this.cpu.time, timing.now);
    this.cpu.charge(timing.costs['nic-tx-clean']);
  }

  #receive(): boolean {
    const { accounting, host, timing } = this.#parts;
    const received = this.queue.take(timing.now);
    if (received !== undefined) {
      if (this.#polled++ === 0) timing.charge(timing.costs['nic-poll']);
      const { bytes, arrived, account } = received;
      host.receiveFromWire(this.#nic, accounting.begin(bytes, arrived, account));
    }
    if (this.#polled >= NAPI_BUDGET || (this.#polled > 0 && received === undefined)) {
      this.#polled = 0;
      host.endPoll();
    }
    if (received === undefined) this.expect();
    return received !== undefined;
  }

  /** Has the softirq run when the next frame arrives. */
  expect(): void {
    const { nextAt } = this.queue;
    if (nextAt !== Infinity) this.#parts.clock.at(nextAt, () => this.#scheduler.wakeAt(this.worker, nextAt));
  }
}

/** The NIC interrupts, and its softirq runs some time later; nobody pays for that. */
export function softirqCosts({ costs }: Timing): SleepCosts {
  return {
    wake: 0,
    latency: costs['nic-interrupt'],
    jitter: 0,
    enter: 0,
    leave: 0,
    pollTimeout: 0,
  };
}
