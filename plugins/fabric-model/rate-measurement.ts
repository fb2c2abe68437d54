import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { MeasuredRate } from '../../src/core/contract/fabric.js';
import type { GuestNicPlan, MeasurePlan } from '../../src/core/contract/plan.js';
import { LOSSES } from '../../src/core/contract/result.js';
import type { CostModel } from '../../src/core/cost-model/index.js';
import { framesFor, uniformFrame } from '../../src/core/measurement/measured-frames.js';
import { median, spread } from '../../src/core/measurement/spread.js';
import type { DeploymentParts } from './deployment-parts.js';
import { flowQueue } from './flow-hash.js';
import { NicQueue, type WireTraffic } from './nic-queue.js';
import { NicReceiver } from './nic-receiver.js';
import { RateObservation } from './rate-observation.js';
import { TimedScheduler } from './timed-scheduler.js';

const PS_PER_SECOND = 1e12;
/** Virtual time that is simulated at once; then the event loop gets its turn. */
const SLICE: Picoseconds = 50_000_000;
/** Part of the frames that arrive during the samples that may still be under way at their end. */
const NOTHING_LOST = 0.98;

/** Predicts the rate of one guest nic: as many frames to it as the wire carries, in virtual time. */
export class RateMeasurement {
  readonly #traffic: WireTraffic;
  #receivers: readonly NicReceiver[] = [];
  #queues: readonly NicQueue[] = [];

  /** @param workload its first frames; none where they are not asked for */
  constructor(
    readonly parts: DeploymentParts,
    readonly costs: CostModel,
    readonly node: string,
    nic: GuestNicPlan,
    readonly measure: MeasurePlan,
    workload: readonly Uint8Array[],
  ) {
    const frames =
      measure.frames === 'workload'
        ? framesFor(node, nic, workload)
        : Array.from({ length: measure.flows }, (_, flow) => uniformFrame(nic, measure, flow));
    this.#traffic = onTheWire(frames, costs, measure.rate);
  }

  async run(): Promise<MeasuredRate> {
    const { accounting, clock, host, schedule, timing, bursts, random } = this.parts;
    accounting.restart();
    const scheduler = new TimedScheduler(clock, timing, random);
    schedule.scheduler = scheduler;
    timing.start(this.costs);
    try {
      this.#receivers = this.#plugIn(scheduler);
      host.onTransmit = () => this.#receivers[0]!.clean();
      return await this.#measure();
    } finally {
      timing.stop();
      schedule.scheduler = bursts;
      host.onTransmit = undefined;
    }
  }

  async #measure(): Promise<MeasuredRate> {
    const { measure, costs } = this;
    const { accounting, config, plan } = this.parts;
    const seconds = Math.min(measure.seconds, config['sample-ms'] / 1000);
    const warmUp = Math.min(measure.warmUp, config['warm-up-ms'] / 1000);
    await this.#runFor(Math.round(warmUp * PS_PER_SECOND));
    const sample = Math.round(seconds * PS_PER_SECOND);
    const observation = new RateObservation(this.parts, sample * measure.samples);
    const before = this.#sent();
    const rates: number[] = [];
    const offered: number[] = [];
    for (let index = 0; index < measure.samples; index++) {
      const [ended, sent] = [this.#ended(), this.#sent()];
      await this.#runFor(sample);
      rates.push((this.#ended() - ended) / seconds);
      offered.push((this.#sent() - sent) / seconds);
    }
    const limit = measure.rate === undefined ? 'the wire' : 'the rate that was asked for';
    const offeredInAll = this.#sent() - before;
    const explanation = observation.explain((_, ended) =>
      ended > NOTHING_LOST * offeredInAll ? limit : undefined,
    );
    observation.stop();
    await this.#drain();
    const ends = accounting.ends();
    const { sent: framesSent, copied: framesCopied } = accounting;
    return {
      node: this.node,
      hook: plan.host.hook,
      guest: `a model of one, ${costs.name}`,
      ...this.#kindOfFrames(),
      ...(measure.rate === undefined ? {} : { rate: measure.rate }),
      seconds,
      framesPerSecond: spread(rates),
      samples: rates,
      offeredPerSecond: median(offered),
      framesSent,
      framesCopied,
      ends,
      unexplained: framesSent + framesCopied - ends.reduce((sum, { frames }) => sum + frames, 0),
      explanation,
    };
  }

  /** The NIC's queues, each with a CPU, and the frames that each gets. */
  #plugIn(scheduler: TimedScheduler): NicReceiver[] {
    const { clock, config, cpus, plan } = this.parts;
    const count = config['nic-queues'];
    const { frames, period } = this.#traffic;
    const ring = this.costs.of['nic-ring'];
    this.#queues = Array.from({ length: count }, (_, index) => {
      const own = frames.filter(({ bytes }) => flowQueue(bytes, count) === index);
      return new NicQueue(ring, { frames: own, period }, clock.now());
    });
    return this.#queues.map((queue, index) => {
      const cpu = cpus.forNic(plan.host.nics[0]!.name, index, count);
      return new NicReceiver(this.parts, scheduler, cpu, queue);
    });
  }

  #kindOfFrames(): Pick<MeasuredRate, 'size' | 'flows' | 'workloadFrames'> {
    const { measure } = this;
    if (measure.frames === 'uniform') return { size: measure.size, flows: measure.flows };
    const { frames } = this.#traffic;
    const bytes = frames.reduce((sum, { bytes: { length } }) => sum + length, 0);
    return { size: bytes / frames.length, workloadFrames: frames.length };
  }

  /** Frames that have arrived by now. */
  #sent(): number {
    for (const queue of this.#queues) queue.receive(this.parts.clock.now());
    return this.#queues.reduce((sum, queue) => sum + queue.arrived, 0);
  }

  /** Frames that came to an end that is no loss. */
  #ended(): number {
    const { accounting } = this.parts;
    return accounting.ends().reduce((sum, { fate, frames }) => (LOSSES.has(fate) ? sum : sum + frames), 0);
  }

  async #runFor(duration: Picoseconds): Promise<void> {
    const { clock } = this.parts;
    const end = clock.now() + duration;
    while (clock.now() < end) await this.#slice(Math.min(end, clock.now() + SLICE));
  }

  async #slice(end: Picoseconds): Promise<void> {
    this.parts.clock.runUntil(end);
    const turn = this.parts.turns.next();
    if (turn !== undefined) await turn;
  }

  /** The wire falls silent, and everything that is under way comes to its end. */
  async #drain(): Promise<void> {
    const { accounting, clock, plan, workers } = this.parts;
    for (const queue of this.#queues) queue.stop(clock.now());
    const isBusy = (): boolean =>
      this.#receivers.some(({ worker }) => worker.awake) ||
      this.#queues.some(({ length }) => length > 0) ||
      workers.some(({ worker }) => worker.awake);
    while (isBusy()) await this.#slice(clock.now() + SLICE);
    clock.runUntilIdle();
    const node = `host.${plan.host.nics[0]!.name}`;
    for (const { lost } of this.#queues) if (lost > 0) accounting.lostOnArrival(node, 'nic-ring-full', lost);
  }
}

/** Frames back to back, as the wire carries them, or as far apart as the rate says that was asked for. */
function onTheWire(
  frames: readonly Uint8Array[],
  { of: { framing, 'line-rate': psPerByte } }: CostModel,
  rate: number | undefined,
): WireTraffic {
  let offset = 0;
  const placed = frames.map((bytes, index) => {
    const frame = { bytes, offset };
    const next = offset + (bytes.length + framing) * psPerByte;
    // Rounded down once for each frame and not once for each gap, so that the rate holds.
    offset = rate === undefined ? next : Math.max(next, Math.floor(((index + 1) * PS_PER_SECOND) / rate));
    return frame;
  });
  return { frames: placed, period: offset };
}
