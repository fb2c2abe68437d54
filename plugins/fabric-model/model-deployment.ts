import type { SteeredClock } from '../../src/core/contract/clock.js';
import type { Deployment, HostPlace, NicPlaces, TrafficReport } from '../../src/core/contract/fabric.js';
import type { WorkloadFrame } from '../../src/core/contract/workload.js';
import type { EventLoopTurns } from '../../src/core/clock/event-loop-turns.js';
import type { FrameAccounting } from './frame-accounting.js';
import { NAPI_BUDGET } from './guest-nic.js';
import type { ModelHost } from './model-host.js';
import type { Softirq } from './worker.js';

export interface DeploymentParts {
  /** Name of the NIC at which frames come in from the wire. */
  readonly nic: string;
  readonly host: ModelHost;
  readonly hostPlaces: readonly HostPlace[];
  readonly nics: readonly NicPlaces[];
  readonly accounting: FrameAccounting;
  readonly softirq: Softirq;
  readonly clock: SteeredClock;
  readonly turns: EventLoopTurns;
  readonly teardown: () => Promise<void>;
}

/** A model that is up: drives frames through it. */
export class ModelDeployment implements Deployment {
  readonly hostPlaces: readonly HostPlace[];
  readonly nics: readonly NicPlaces[];
  readonly #parts: DeploymentParts;

  constructor(parts: DeploymentParts) {
    this.#parts = parts;
    this.hostPlaces = parts.hostPlaces;
    this.nics = parts.nics;
  }

  /**
   * Frames arrive in bursts of one NAPI poll. Each meets the NIC's hook at the time at which it was sent; readers and
   * guests are woken when the poll is over, and work until nothing is left to do.
   */
  async traffic(frames: Iterable<WorkloadFrame>): Promise<TrafficReport> {
    const { accounting, turns } = this.#parts;
    let burst: WorkloadFrame[] = [];
    for (const frame of frames) {
      burst.push(frame);
      if (burst.length < NAPI_BUDGET) continue;
      this.#receiveBurst(burst);
      burst = [];
      const turn = turns.next();
      if (turn !== undefined) await turn;
    }
    this.#receiveBurst(burst);
    return { framesSent: accounting.sent, framesCopied: accounting.copied, ends: accounting.ends() };
  }

  async down(): Promise<void> {
    await this.#parts.teardown();
  }

  #receiveBurst(burst: readonly WorkloadFrame[]): void {
    const { nic, host, accounting, softirq, clock } = this.#parts;
    softirq.begin();
    try {
      for (const { bytes, at } of burst) {
        clock.runUntil(at);
        host.receiveFromWire(nic, accounting.begin(bytes, at));
        softirq.frameDone();
      }
    } finally {
      softirq.end();
    }
    clock.runUntilIdle();
  }
}
