import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { RateExplanation } from '../../src/core/contract/explanation.js';
import { LOSSES } from '../../src/core/contract/result.js';
import type { DeploymentParts } from './deployment-parts.js';
import type { FrameAccount } from './frame-accounting.js';
import type { FrameQueue } from './frame-queue.js';
import { LatencyHistogram } from './latency-histogram.js';
import { QueueDepth } from './queue-depth.js';
import type { VirtualCpu } from './virtual-cpu.js';

export type UsedCpu = RateExplanation['cpus'][number];

/**
 * What to name as the bottleneck, by what the CPUs did and how many frames came to an end; undefined: the CPU that was
 * too slow.
 */
export type Limit = (cpus: readonly UsedCpu[], ended: number) => string | undefined;

/** Part of the time from which on a CPU has none left. One that sleeps now and then, however shortly, has. */
const SATURATED = 0.999;

/** The way of the frames of a rate: CPUs along it, names of taps' rings, and of who works for the guest nic. */
export interface FrameWay {
  readonly cpus: readonly VirtualCpu[];
  /** The guest nic; undefined: everybody's queues and wake-ups are looked at. */
  readonly node: string | undefined;
  readonly tap: string | undefined;
}

/** What CPUs, queues and frames do while samples are taken: why a rate is what it is. */
export class RateObservation {
  readonly #parts: DeploymentParts;
  readonly #latencies = new Map<FrameAccount, LatencyHistogram>();
  readonly #start: Picoseconds;
  readonly #busyBefore: readonly number[];
  readonly #wokenBefore: readonly number[];
  readonly #depths: readonly {
    readonly name: string;
    readonly tap: string;
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
        return { tap: tap.name, name: `${tap.node} ring${tap.rings.length === 1 ? '' : index}`, ring, depth };
      }),
    );
    accounting.onEnd = (frame, fate) => {
      if (LOSSES.has(fate)) return;
      const { account } = frame.lineage;
      let latency = this.#latencies.get(account);
      if (latency === undefined) this.#latencies.set(account, (latency = new LatencyHistogram()));
      latency.add(timing.now - frame.born);
    };
  }

  /** Watches no more. */
  stop(): void {
    this.#parts.accounting.onEnd = undefined;
    for (const { ring } of this.#depths) ring.watch = undefined;
  }

  /**
   * What was seen until now of the frames of an account.
   *
   * @param way of these frames; undefined: everybody is looked at
   */
  explain(account: FrameAccount, limit: Limit, way?: FrameWay): RateExplanation {
    const { clock, cpus, workers } = this.#parts;
    const end = clock.now();
    const latency = this.#latencies.get(account) ?? new LatencyHistogram();
    const ended = latency.total;
    const used = cpus.all
      .map((cpu, index) => ({
        cpu,
        name: cpu.name,
        utilisation: rounded(Math.min(1, (cpu.busy - this.#busyBefore[index]!) / (end - this.#start)), 4),
      }))
      .filter(({ cpu, utilisation }) => utilisation > 0 && (way === undefined || way.cpus.includes(cpu)));
    const nanoseconds = (part: number): number => Math.round(latency.percentile(part) / 1000);
    return {
      bottleneck: limit(used, ended) ?? slowest(way, used) ?? 'nobody',
      cpus: used.map(({ name, utilisation }) => ({ name, utilisation })),
      queues: this.#depths
        .filter(({ tap }) => way?.tap === undefined || way.tap === tap)
        .map(({ name, ring, depth }) => {
          const { mean, course } = depth.result(end);
          return {
            name,
            capacity: ring.capacity,
            mean: rounded(mean, 2),
            max: depth.max,
            course: [...course],
          };
        }),
      wakeUps: workers
        .map(({ name, node, worker }, index) => ({
          name,
          node,
          perFrame: rounded((worker.wakeUps - this.#wokenBefore[index]!) / Math.max(1, ended), 4),
        }))
        .filter(({ node, perFrame }) => perFrame > 0 && (way?.node === undefined || way.node === node))
        .map(({ name, perFrame }) => ({ name, perFrame })),
      latency: {
        p50: nanoseconds(0.5),
        p90: nanoseconds(0.9),
        p99: nanoseconds(0.99),
        max: Math.round(latency.max / 1000),
      },
    };
  }
}

/**
 * The CPU that kept the rate from being higher: the last along the way that had no time left, as one before it may be
 * busy with frames that are lost behind it; where none had, the busiest.
 */
function slowest(
  way: FrameWay | undefined,
  used: readonly { readonly cpu: VirtualCpu; readonly utilisation: number; readonly name: string }[],
): string | undefined {
  const along = way?.cpus.flatMap((cpu) => used.find((each) => each.cpu === cpu) ?? []) ?? used;
  const saturated = along.filter(({ utilisation }) => utilisation >= SATURATED);
  const busiest = along.reduce((a, b) => Math.max(a, b.utilisation), 0);
  return (saturated.at(-1) ?? along.find(({ utilisation }) => utilisation === busiest))?.name;
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
