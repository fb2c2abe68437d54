import type { RateExplanation } from '../../src/core/contract/explanation.js';
import type { MeasuredRate } from '../../src/core/contract/fabric.js';
import type { MeasurePlan } from '../../src/core/contract/plan.js';
import type { CostModel } from '../../src/core/cost-model/index.js';
import { framesFor, framesForEach, uniformFrame } from '../../src/core/measurement/measured-frames.js';
import type { MeasuredNic } from '../../src/core/measurement/measured-nics.js';
import { median, spread } from '../../src/core/measurement/spread.js';
import type { DeploymentParts } from './deployment-parts.js';
import { flowQueue } from './flow-hash.js';
import { NicQueue, type WireStream, type WireTraffic } from './nic-queue.js';
import { NicReceiver } from './nic-receiver.js';
import { RateObservation, type FrameWay } from './rate-observation.js';
import { TimedScheduler } from './timed-scheduler.js';
import { runFor, runUntilIdle } from './virtual-run.js';

const PS_PER_SECOND = 1e12;
/** Part of the frames that arrive during the samples that may still be under way at their end. */
const NOTHING_LOST = 0.98;

/** A guest nic and the frames for it. */
interface Load extends MeasuredNic {
  readonly frames: readonly Uint8Array[];
}

/** A load while it is measured. */
interface Stream extends WireStream {
  readonly load: Load;
  readonly way: FrameWay;
  /** When the samples began: frames that had arrived. */
  arrivedBefore: number;
  /** Frames per second of each sample: that came to an end that is no loss, and that arrived. */
  readonly rates: number[];
  readonly offered: number[];
}

/**
 * Predicts the rates of guest nics that are loaded at the same time: as many frames to them as the wire carries, in
 * virtual time.
 */
export class RateMeasurement {
  readonly #loads: readonly Load[];
  /** In the order in which the wire carries them. */
  readonly #frames: readonly { readonly load: Load; readonly bytes: Uint8Array }[];
  #streams: readonly Stream[] = [];
  #receivers: readonly NicReceiver[] = [];
  #queues: readonly NicQueue[] = [];

  /** @param workload its first frames; none where they are not asked for */
  constructor(
    readonly parts: DeploymentParts,
    readonly costs: CostModel,
    nics: readonly MeasuredNic[],
    readonly measure: MeasurePlan,
    workload: readonly Uint8Array[],
  ) {
    if (measure.frames === 'uniform') {
      const flows = Array.from({ length: measure.flows }, (_, flow) => flow);
      this.#loads = nics.map((each) => ({
        ...each,
        frames: flows.map((flow) => uniformFrame(each.nic, measure, flow)),
      }));
      this.#frames = flows.flatMap((flow) =>
        this.#loads.map((load) => ({ load, bytes: load.frames[flow]! })),
      );
    } else if (measure.together) {
      const each = framesForEach(nics, workload);
      this.#loads = nics.map((nic, index) => ({ ...nic, frames: each.ofNics[index]! }));
      this.#frames = each.inOrder.map(([index, bytes]) => ({ load: this.#loads[index]!, bytes }));
    } else {
      this.#loads = nics.map((each) => ({ ...each, frames: framesFor(each.node, each.nic, workload) }));
      this.#frames = this.#loads.flatMap((load) => load.frames.map((bytes) => ({ load, bytes })));
    }
  }

  /** In the order of the nics. */
  async run(): Promise<MeasuredRate[]> {
    const { accounting, clock, host, schedule, timing, bursts, random } = this.parts;
    // One alone counts all that there is, of whatever becomes of its frames elsewhere.
    accounting.restart(this.#loads.length === 1 ? [] : this.#loads.map(({ node }) => node));
    const scheduler = new TimedScheduler(clock, timing, random);
    schedule.scheduler = scheduler;
    timing.start(this.costs);
    try {
      this.#plugIn(scheduler);
      host.onTransmit = () => this.#receivers[0]!.clean();
      return await this.#measure();
    } finally {
      timing.stop();
      schedule.scheduler = bursts;
      host.onTransmit = undefined;
    }
  }

  async #measure(): Promise<MeasuredRate[]> {
    const { measure } = this;
    const { config } = this.parts;
    const seconds = Math.min(measure.seconds, config['sample-ms'] / 1000);
    const warmUp = Math.min(measure.warmUp, config['warm-up-ms'] / 1000);
    await runFor(this.parts, Math.round(warmUp * PS_PER_SECOND));
    const sample = Math.round(seconds * PS_PER_SECOND);
    const observation = new RateObservation(this.parts, sample * measure.samples);
    this.#receive();
    for (const stream of this.#streams) stream.arrivedBefore = stream.arrived;
    for (let index = 0; index < measure.samples; index++) {
      const before = this.#streams.map(({ account, arrived }) => [account.ended, arrived] as const);
      await runFor(this.parts, sample);
      this.#receive();
      for (const [index, { account, arrived, rates, offered }] of this.#streams.entries()) {
        rates.push((account.ended - before[index]![0]) / seconds);
        offered.push((arrived - before[index]![1]) / seconds);
      }
    }
    const limit = measure.rate === undefined ? 'the wire' : 'the rate that was asked for';
    const explanations = this.#streams.map(({ account, way, arrived, arrivedBefore }) =>
      observation.explain(
        account,
        (_, ended) => (ended > NOTHING_LOST * (arrived - arrivedBefore) ? limit : undefined),
        way,
      ),
    );
    observation.stop();
    await this.#drain();
    return this.#streams.map((stream, index) => this.#result(stream, seconds, explanations[index]!));
  }

  #result(
    { load, account, rates, offered }: Stream,
    seconds: number,
    explanation: RateExplanation,
  ): MeasuredRate {
    const { measure, costs } = this;
    const { plan } = this.parts;
    return {
      node: load.node,
      hook: plan.host.hook,
      guest: `a model of one, ${costs.name}`,
      ...kindOfFrames(measure, load),
      ...(measure.rate === undefined
        ? {}
        : { rate: (measure.rate * load.frames.length) / this.#frames.length }),
      seconds,
      framesPerSecond: spread(rates),
      samples: rates,
      offeredPerSecond: median(offered),
      framesSent: account.sent,
      framesCopied: account.copied,
      ends: account.ends(),
      unexplained: account.underWay,
      explanation,
    };
  }

  /** The NIC's queues, each with a CPU, and the frames that each gets. */
  #plugIn(scheduler: TimedScheduler): void {
    const { accounting, clock, config, cpus, plan, workers } = this.parts;
    const count = config['nic-queues'];
    const nic = plan.host.nics[0]!.name;
    const softirqs = Array.from({ length: count }, (_, index) => cpus.forNic(nic, index, count));
    const queueOf = (bytes: Uint8Array): number => flowQueue(bytes, count);
    const isAlone = this.#loads.length === 1;
    this.#streams = this.#loads.map((load): Stream => {
      const queues = new Set(load.frames.map(queueOf));
      const own = workers.filter(({ node }) => isAlone || node === load.node);
      const vhostFirst = [...own].sort((a, b) => Number(a.isGuest) - Number(b.isGuest));
      return {
        load,
        account: accounting.of(load.node),
        way: {
          cpus: [
            ...softirqs.filter((_, index) => isAlone || queues.has(index)),
            ...vhostFirst.map(({ worker }) => worker.options.cpu),
          ],
          node: isAlone ? undefined : load.node,
          tap: isAlone ? undefined : load.nic.tap,
        },
        arrived: 0,
        lost: 0,
        arrivedBefore: 0,
        rates: [],
        offered: [],
      };
    });
    const streams = new Map(this.#streams.map((stream) => [stream.load, stream]));
    const { frames, period } = onTheWire(
      this.#frames.map(({ load, bytes }) => ({ bytes, stream: streams.get(load)! })),
      this.costs,
      this.measure.rate,
    );
    const ring = this.costs.of['nic-ring'];
    this.#queues = softirqs.map((_, index) => {
      const own = frames.filter(({ bytes }) => queueOf(bytes) === index);
      return new NicQueue(ring, { frames: own, period }, clock.now());
    });
    this.#receivers = softirqs.map(
      (cpu, index) => new NicReceiver(this.parts, scheduler, cpu, this.#queues[index]!),
    );
  }

  /** Brings what has arrived up to date. */
  #receive(): void {
    for (const queue of this.#queues) queue.receive(this.parts.clock.now());
  }

  /** The wire falls silent, and everything that is under way comes to its end. */
  async #drain(): Promise<void> {
    const { clock, plan, workers } = this.parts;
    for (const queue of this.#queues) queue.stop(clock.now());
    const isBusy = (): boolean =>
      this.#receivers.some(({ worker }) => worker.awake) ||
      this.#queues.some(({ length }) => length > 0) ||
      workers.some(({ worker }) => worker.awake);
    await runUntilIdle(this.parts, isBusy);
    const node = `host.${plan.host.nics[0]!.name}`;
    for (const { account, lost } of this.#streams) {
      if (lost > 0) account.lostOnArrival(node, 'nic-ring-full', lost);
    }
  }
}

function kindOfFrames(
  { frames: source, size, flows }: MeasurePlan,
  { frames }: Load,
): Pick<MeasuredRate, 'size' | 'flows' | 'workloadFrames'> {
  if (source === 'uniform') return { size, flows };
  const bytes = frames.reduce((sum, { length }) => sum + length, 0);
  return { size: bytes / frames.length, workloadFrames: frames.length };
}

/** Frames back to back, as the wire carries them, or as far apart as the rate says that was asked for. */
function onTheWire(
  frames: readonly { readonly bytes: Uint8Array; readonly stream: WireStream }[],
  { of: { framing, 'line-rate': psPerByte } }: CostModel,
  rate: number | undefined,
): WireTraffic {
  let offset = 0;
  const placed = frames.map(({ bytes, stream }, index) => {
    const frame = { bytes, offset, stream };
    const next = offset + (bytes.length + framing) * psPerByte;
    // Rounded down once for each frame and not once for each gap, so that the rate holds.
    offset = rate === undefined ? next : Math.max(next, Math.floor(((index + 1) * PS_PER_SECOND) / rate));
    return frame;
  });
  return { frames: placed, period: offset };
}
