import type {
  Deployment,
  HostPlace,
  MeasuredRate,
  Measurements,
  NicPlaces,
  TrafficReport,
} from '../../src/core/contract/fabric.js';
import type { MeasurePlan } from '../../src/core/contract/plan.js';
import type { ExchangeResult } from '../../src/core/contract/result.js';
import type { WorkloadFrame } from '../../src/core/contract/workload.js';
import type { CostModel } from '../../src/core/cost-model/index.js';
import { firstFrames } from '../../src/core/measurement/measured-frames.js';
import { measuredNics } from '../../src/core/measurement/measured-nics.js';
import type { DeploymentParts } from './deployment-parts.js';
import { ExchangeMeasurement } from './exchange/exchange-measurement.js';
import { NAPI_BUDGET } from './guest-nic.js';
import { RateMeasurement } from './rate-measurement.js';

/** A model that is up: drives frames through it. */
export class ModelDeployment implements Deployment {
  readonly hostPlaces: readonly HostPlace[];
  readonly nics: readonly NicPlaces[];
  readonly countWork: boolean;
  /** One guest nic with a program after the other, or several together. Absent without a cost model. */
  readonly measure?: (measure: MeasurePlan, frames: Iterable<WorkloadFrame>) => Promise<Measurements>;
  readonly #parts: DeploymentParts;

  constructor(parts: DeploymentParts) {
    this.#parts = parts;
    this.hostPlaces = parts.hostPlaces;
    this.nics = parts.nics;
    const { costs, plan } = parts;
    this.countWork = costs !== undefined && plan.measure !== undefined;
    if (costs !== undefined) this.measure = (measure, frames) => this.#measure(measure, costs, frames);
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
    const { whole } = accounting;
    return { framesSent: whole.sent, framesCopied: whole.copied, ends: whole.ends() };
  }

  async #measure(
    measure: MeasurePlan,
    costs: CostModel,
    frames: Iterable<WorkloadFrame>,
  ): Promise<Measurements> {
    const workload = firstFrames(frames);
    const rates: MeasuredRate[] = [];
    const nics = measuredNics(this.#parts.plan, measure);
    for (const loaded of measure.together ? [nics] : nics.map((nic) => [nic])) {
      if (loaded.length === 0) continue;
      rates.push(...(await new RateMeasurement(this.#parts, costs, loaded, measure, workload).run()));
    }
    const exchanges: ExchangeResult[] = [];
    const plans = this.#parts.plan.guests.flatMap(({ nics }) => nics);
    for (const [index, nic] of this.#parts.nics.entries()) {
      for (const exchange of measure.exchanges) {
        const plan = plans[index]!;
        exchanges.push(await new ExchangeMeasurement(this.#parts, costs, nic, plan, exchange, measure).run());
      }
    }
    return { rates, exchanges };
  }

  async down(): Promise<void> {
    await this.#parts.teardown();
  }

  #receiveBurst(burst: readonly WorkloadFrame[]): void {
    const { plan, host, accounting, bursts, clock } = this.#parts;
    const nic = plan.host.nics[0]!.name;
    bursts.begin();
    try {
      for (const { bytes, at } of burst) {
        clock.runUntil(at);
        host.receiveFromWire(nic, accounting.begin(bytes, at));
        bursts.frameDone();
      }
    } finally {
      bursts.end();
    }
    clock.runUntilIdle();
  }
}
