import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { RateExplanation } from '../../src/core/contract/explanation.js';
import { LOSSES } from '../../src/core/contract/result.js';
import type { DeploymentParts } from './deployment-parts.js';
import type { FrameQueue } from './frame-queue.js';
import { LatencyHistogram } from './latency-histogram.js';
import { QueueDepth } from './queue-depth.js';

export type UsedCpu = RateExplanation['cpus'][number];

/** What CPUs, queues and frames do while samples are taken: why a rate is what it is. */
export class RateObservation {
  readonly #parts: DeploymentParts;
  readonly #latency = new LatencyHistogram();
  readonly #start: Picoseconds;
  readonly #busyBefore: readonly number[];
  readonly #wokenBefore: readonly number[];
  readonly #depths: readonly {
    readonly name: string;
    readonly ring: FrameQueue;
    readonly depth: QueueDepth;
  }[];

  /** @param duration of all samples together */
  constructor(parts: DeploymentParts, duration: Picoseconds) {
    const { accounting, clock, cpus, host, timing, workers } = parts;
    this.#parts = parts;
    this.#start = clock.now();
    this.#busyBefore = cpus.all.map(({ busy }) => busy);
    this.#wokenBefore = workers.map(({ worker }) => worker.wakeUps);
    this.#depths = host.taps.flatMap((tap) =>
      tap.rings.map((ring, index) => {
        const depth = QueueDepth.over(this.#start, duration, ring.length);
        ring.watch = depth;
        return { name: `${tap.node} ring${tap.rings.length === 1 ? '' : index}`, ring, depth };
      }),
    );
    accounting.onEnd = (frame, fate) => {
      if (!LOSSES.has(fate)) this.#latency.add(timing.now - frame.born);
    };
  }

  /** Watches no more. */
  stop(): void {
    this.#parts.accounting.onEnd = undefined;
    for (const { ring } of this.#depths) ring.watch = undefined;
  }

  /**
   * What was seen until now.
   *
   * @param limit what to name as the bottleneck, by what the CPUs did and how many frames came to an end; undefined:
   *   the busiest CPU
   */
  explain(limit: (cpus: readonly UsedCpu[], ended: number) => string | undefined): RateExplanation {
    const { clock, cpus, workers } = this.#parts;
    const end = clock.now();
    const ended = this.#latency.total;
    const used = cpus.all.map(({ name, busy }, index) => ({
      name,
      utilisation: rounded(Math.min(1, (busy - this.#busyBefore[index]!) / (end - this.#start)), 4),
    }));
    const busiest = [...used].sort((a, b) => b.utilisation - a.utilisation)[0];
    return {
      bottleneck: limit(used, ended) ?? busiest?.name ?? 'nobody',
      cpus: used.filter(({ utilisation }) => utilisation > 0),
      queues: this.#depths.map(({ name, ring, depth }) => {
        const { mean, course } = depth.result(end);
        return { name, capacity: ring.capacity, mean: rounded(mean, 2), max: depth.max, course: [...course] };
      }),
      wakeUps: workers
        .map(({ name, worker }, index) => ({
          name,
          perFrame: rounded((worker.wakeUps - this.#wokenBefore[index]!) / Math.max(1, ended), 4),
        }))
        .filter(({ perFrame }) => perFrame > 0),
      latency: {
        p50: this.#nanoseconds(0.5),
        p90: this.#nanoseconds(0.9),
        p99: this.#nanoseconds(0.99),
        max: Math.round(this.#latency.max / 1000),
      },
    };
  }

  #nanoseconds(part: number): number {
    return Math.round(this.#latency.percentile(part) / 1000);
  }
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
