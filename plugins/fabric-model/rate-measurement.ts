import type { Picoseconds } from '../../src/core/contract/clock.js';
import type { RateExplanation } from '../../src/core/contract/explanation.js';
import type { MeasuredRate } from '../../src/core/contract/fabric.js';
import type { GuestNicPlan, MeasurePlan } from '../../src/core/contract/plan.js';
import { LOSSES } from '../../src/core/contract/result.js';
import { SENDER_MAC, type WorkloadFrame } from '../../src/core/contract/workload.js';
import type { CostModel } from '../../src/core/cost-model/index.js';
import { buildFrame } from '../../src/packet/frame-builder.js';
import { formatMac } from '../../src/packet/mac-address.js';
import type { DeploymentParts } from './deployment-parts.js';
import { flowQueue } from './flow-hash.js';
import { NAPI_BUDGET } from './guest-nic.js';
import { LatencyHistogram } from './latency-histogram.js';
import { NicQueue, type WireTraffic } from './nic-queue.js';
import { QueueDepth } from './queue-depth.js';
import { TimedScheduler } from './timed-scheduler.js';
import type { VirtualCpu } from './virtual-cpu.js';
import { Worker } from './worker.js';

const PS_PER_SECOND = 1e12;
/** Virtual time that is simulated at once; then the event loop gets its turn. */
const SLICE: Picoseconds = 50_000_000;
/** RFC 863, discard. */
const DISCARD_PORT = 9;
const SOURCE_PORT = 10_000;
/** Frames of the workload that are sent over and over. */
const MAX_FRAMES_OF_A_ROUND = 65_536;
/** Part of the frames of a sample that may still be under way at its end. */
const NOTHING_LOST = 0.98;

/** A queue of the NIC, and who polls it. */
interface Receiver {
  readonly queue: NicQueue;
  readonly worker: Worker;
  readonly cpu: VirtualCpu;
}

interface Sample {
  readonly seconds: number;
  readonly framesPerSecond: number;
  readonly offeredPerSecond: number;
}

/** Predicts the rate of one guest nic: as many frames to it as the wire carries, in virtual time. */
export class RateMeasurement {
  readonly #scheduler: TimedScheduler;
  readonly #receivers: Receiver[] = [];
  readonly #latency = new LatencyHistogram();
  /** Frames that came to an end that is no loss. */
  #ended = 0;
  #inSamples = false;
  /** Bytes of each frame of a round. */
  #round: readonly number[] = [];

  constructor(
    readonly parts: DeploymentParts,
    readonly costs: CostModel,
    readonly node: string,
    readonly nic: GuestNicPlan,
    readonly measure: MeasurePlan,
    /** Of the workload. */
    readonly frames: Iterable<WorkloadFrame>,
  ) {
    this.#scheduler = new TimedScheduler(parts.clock, parts.timing, parts.random);
  }

  async run(): Promise<MeasuredRate> {
    const { parts, measure, costs } = this;
    const { accounting, timing, clock, config, schedule, plan, host } = parts;
    const seconds = Math.min(measure.seconds, config['sample-ms'] / 1000);
    const warmUp = Math.min(measure.warmUp, config['warm-up-ms'] / 1000);
    const sample = Math.round(seconds * PS_PER_SECOND);
    accounting.restart();
    accounting.onEnd = (frame, _, fate) => {
      if (LOSSES.has(fate)) return;
      this.#ended++;
      if (this.#inSamples) this.#latency.add(timing.now - frame.born);
    };
    schedule.scheduler = this.#scheduler;
    timing.start(costs);
    host.onTransmit = () => this.#clean();
    try {
      this.#plugIn(clock.now());
      await this.#runFor(Math.round(warmUp * PS_PER_SECOND));
      this.#inSamples = true;
      const observed = this.#observe(sample * measure.samples);
      const samples: Sample[] = [];
      for (let index = 0; index < measure.samples; index++) {
        const [ended, sent] = [this.#ended, this.#sent()];
        await this.#runFor(sample);
        samples.push({
          seconds,
          framesPerSecond: (this.#ended - ended) / seconds,
          offeredPerSecond: (this.#sent() - sent) / seconds,
        });
      }
      const explanation = observed();
      this.#inSamples = false;
      await this.#drain();
      const ends = accounting.ends();
      const { sent: framesSent, copied: framesCopied } = accounting;
      const perSecond = samples.map(({ framesPerSecond }) => framesPerSecond);
      return {
        node: this.node,
        hook: plan.host.hook,
        guest: `a model of one, ${costs.name}`,
        ...this.#sentFrames(),
        ...(measure.rate === undefined ? {} : { rate: measure.rate }),
        seconds,
        framesPerSecond: {
          median: median(perSecond),
          min: Math.min(...perSecond),
          max: Math.max(...perSecond),
        },
        samples: perSecond,
        offeredPerSecond: median(samples.map(({ offeredPerSecond }) => offeredPerSecond)),
        framesSent,
        framesCopied,
        ends,
        unexplained: framesSent + framesCopied - ends.reduce((sum, { frames }) => sum + frames, 0),
        explanation,
      };
    } finally {
      timing.stop();
      schedule.scheduler = parts.bursts;
      accounting.onEnd = undefined;
      host.onTransmit = undefined;
    }
  }

  /** The NIC's queues, each with a CPU, and the frames that each gets. */
  #plugIn(start: Picoseconds): void {
    const { parts, costs } = this;
    const { config, plan, host, accounting, timing, cpus } = parts;
    const name = plan.host.nics[0]!.name;
    const count = config['nic-queues'];
    const traffic = this.#traffic();
    this.#round = traffic.frames.map(({ bytes }) => bytes.length);
    for (let index = 0; index < count; index++) {
      const frames = traffic.frames.filter(({ bytes }) => flowQueue(bytes, count) === index);
      const queue = new NicQueue(costs.of['nic-ring'], { ...traffic, frames }, start);
      const cpuName = `host.${name} softirq${count === 1 ? '' : index}`;
      const cpu = cpus.all.find((known) => known.name === cpuName) ?? cpus.make(cpuName);
      let polled = 0;
      const worker = new Worker({
        cpu,
        batch: NAPI_BUDGET,
        work: () => {
          const received = queue.take(timing.now);
          if (received !== undefined) {
            if (polled++ === 0) timing.charge(timing.costs['nic-poll']);
            const { bytes, arrived } = received;
            host.receiveFromWire(name, accounting.begin(bytes, arrived));
          }
          if (polled >= NAPI_BUDGET || (polled > 0 && received === undefined)) {
            polled = 0;
            host.flush();
          }
          if (received === undefined) this.#expect(queue, worker);
          return received !== undefined;
        },
        costs: () => ({
          wake: 0,
          latency: timing.costs['nic-interrupt'],
          jitter: 0,
          enter: 0,
          leave: 0,
          pollTimeout: 0,
        }),
      });
      this.#receivers.push({ queue, worker, cpu });
      this.#expect(queue, worker);
    }
  }

  /** Has the worker woken when the next frame arrives. */
  #expect(queue: NicQueue, worker: Worker): void {
    const { nextAt } = queue;
    if (nextAt !== Infinity) this.parts.clock.at(nextAt, () => this.#scheduler.wakeAt(worker, nextAt));
  }

  /** What goes over the wire in a round: as fast as it carries that, or at the rate that was asked for. */
  #traffic(): WireTraffic {
    const { measure } = this;
    const { framing, 'line-rate': psPerByte } = this.costs.of;
    let offset = 0;
    const frames = this.#framesOfARound().map((bytes, index) => {
      const frame = { bytes, offset };
      const next = offset + (bytes.length + framing) * psPerByte;
      // Rounded down once for each frame and not once for each gap, so that the rate holds.
      offset =
        measure.rate === undefined
          ? next
          : Math.max(next, Math.floor(((index + 1) * PS_PER_SECOND) / measure.rate));
      return frame;
    });
    return { frames, period: offset };
  }

  #framesOfARound(): Uint8Array[] {
    const { measure, nic } = this;
    if (measure.frames === 'workload') {
      const frames: Uint8Array[] = [];
      for (const { bytes } of this.frames) {
        if (frames.push(bytes) === MAX_FRAMES_OF_A_ROUND) break;
      }
      return frames;
    }
    return Array.from({ length: measure.flows }, (_, flow) =>
      buildFrame({
        eth: { src: formatMac(SENDER_MAC), dst: nic.mac },
        ipv4: { src: '198.18.0.1', dst: nic.ipv4 },
        udp: { srcPort: SOURCE_PORT + flow, dstPort: DISCARD_PORT, checksum: 0 },
        size: measure.size,
      }),
    );
  }

  /** A frame was sent by the NIC: its completion is work of the CPU that polls it. */
  #clean(): void {
    const { timing } = this.parts;
    const { cpu } = this.#receivers[0]!;
    cpu.time = Math.max(cpu.time, timing.now);
    cpu.charge(timing.costs['nic-tx-clean']);
  }

  /** What kind of frames they were, for the result. */
  #sentFrames(): Pick<MeasuredRate, 'size' | 'flows' | 'workloadFrames'> {
    const { measure } = this;
    if (measure.frames === 'uniform') return { size: measure.size, flows: measure.flows };
    const bytes = this.#round.reduce((sum, length) => sum + length, 0);
    return { size: bytes / Math.max(1, this.#round.length), workloadFrames: this.#round.length };
  }

  #sent(): number {
    for (const { queue } of this.#receivers) queue.receive(this.parts.clock.now());
    return this.#receivers.reduce((sum, { queue }) => sum + queue.arrived, 0);
  }

  async #runFor(duration: Picoseconds): Promise<void> {
    const { clock, turns } = this.parts;
    const end = clock.now() + duration;
    while (clock.now() < end) {
      clock.runUntil(Math.min(end, clock.now() + SLICE));
      const turn = turns.next();
      if (turn !== undefined) await turn;
    }
  }

  /** The wire falls silent, and everything that is under way comes to its end. */
  async #drain(): Promise<void> {
    const { clock, accounting, plan, turns } = this.parts;
    for (const { queue } of this.#receivers) queue.stop(clock.now());
    const busy = (): boolean =>
      this.#receivers.some(({ worker, queue }) => worker.awake || queue.length > 0) ||
      this.parts.workers.some(({ worker }) => worker.awake);
    while (busy()) {
      clock.runUntil(clock.now() + SLICE);
      const turn = turns.next();
      if (turn !== undefined) await turn;
    }
    clock.runUntilIdle();
    const node = `host.${plan.host.nics[0]!.name}`;
    for (const { queue } of this.#receivers)
      if (queue.lost > 0) accounting.lostOnArrival(node, 'nic-ring-full', queue.lost);
  }

  /** Watches CPUs and queues from now on; call what it returns when the samples are over. */
  #observe(duration: Picoseconds): () => RateExplanation {
    const { clock, cpus, workers, host } = this.parts;
    const start = clock.now();
    const busyBefore = cpus.all.map(({ busy }) => busy);
    const [ended, sent] = [this.#ended, this.#sent()];
    const wokenBefore = workers.map(({ worker }) => worker.wakeUps);
    const depths = host.taps.flatMap((tap) =>
      tap.rings.map((ring, index) => {
        const depth = QueueDepth.over(start, duration, ring.length);
        ring.watch = depth;
        return { name: `${tap.node} ring${tap.rings.length === 1 ? '' : index}`, ring, depth };
      }),
    );
    return () => {
      const end = clock.now();
      const frames = Math.max(1, this.#ended - ended);
      const used = cpus.all.map(({ name, busy }, index) => ({
        name,
        utilisation: rounded(Math.min(1, (busy - busyBefore[index]!) / (end - start)), 4),
      }));
      for (const { ring } of depths) ring.watch = undefined;
      return {
        bottleneck: this.#bottleneck(used, frames / Math.max(1, this.#sent() - sent)),
        cpus: used.filter(({ utilisation }) => utilisation > 0),
        queues: depths.map(({ name, ring, depth }) => {
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
          .map(({ name, worker }, index) => ({
            name,
            perFrame: rounded((worker.wakeUps - wokenBefore[index]!) / frames, 4),
          }))
          .filter(({ perFrame }) => perFrame > 0),
        latency: {
          p50: this.#latencyNs(0.5),
          p90: this.#latencyNs(0.9),
          p99: this.#latencyNs(0.99),
          max: Math.round(this.#latency.max / 1000),
        },
      };
    };
  }

  #latencyNs(part: number): number {
    return Math.round(this.#latency.percentile(part) / 1000);
  }

  /** @param kept part of the frames that arrived which were not lost: with all of them, nobody was too slow. */
  #bottleneck(cpus: RateExplanation['cpus'], kept: number): string {
    const busiest = [...cpus].sort((a, b) => b.utilisation - a.utilisation)[0];
    if (kept > NOTHING_LOST || busiest === undefined) {
      return this.measure.rate === undefined ? 'the wire' : 'the rate that was asked for';
    }
    return busiest.name;
  }
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
