import type { Picoseconds } from '../../../src/core/contract/clock.js';
import type { ExchangePlan, GuestNicPlan, MeasurePlan } from '../../../src/core/contract/plan.js';
import type { ExchangeResult } from '../../../src/core/contract/result.js';
import type { CostModel } from '../../../src/core/cost-model/index.js';
import { XdpbedError } from '../../../src/core/diagnostic.js';
import { spread } from '../../../src/core/measurement/spread.js';
import { VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_MRG_RXBUF } from '../../../src/virtio/index.js';
import type { DeploymentParts } from '../deployment-parts.js';
import { flowQueue } from '../flow-hash.js';
import { LatencyHistogram } from '../latency-histogram.js';
import type { ModelNic } from '../model-nic.js';
import { NicReceiver } from '../nic-receiver.js';
import { RateObservation, type UsedCpu } from '../rate-observation.js';
import { TimedScheduler } from '../timed-scheduler.js';
import { runFor, runUntilIdle } from '../virtual-run.js';
import type { Worker } from '../worker.js';
import { FrameMaker, MAX_SEGMENT, type Protocol } from './exchange-frames.js';
import { GuestSockets } from './guest-sockets.js';
import { Peer } from './peer.js';
import { RequestClient, Server, StreamClient } from './processes.js';
import { ReceiveOffload } from './receive-offload.js';
import { TcpSocket } from './tcp-socket.js';
import { UdpSocket } from './udp-socket.js';
import { ArrivalQueue, WireDirection } from './wire-direction.js';

const PS_PER_SECOND = 1e12;
const PS_PER_US = 1e6;
/** A CPU that works for more of the time than that has none left. */
const BUSY = 0.97;
/** A receiver that gets less than this part of what was sent is too slow. */
const RECEIVED = 0.98;

/** One exchange with one guest nic, in virtual time. */
export class ExchangeMeasurement {
  readonly #isStream: boolean;
  readonly #protocol: Protocol;
  readonly #latency = new LatencyHistogram();
  #peer!: Peer;
  #toHost!: WireDirection;
  #clients: (StreamClient | RequestClient)[] = [];
  #servers: Server[] = [];
  #tcp: TcpSocket[] = [];
  #workers: Worker[] = [];
  #hostQueues: ArrivalQueue[] = [];

  constructor(
    readonly parts: DeploymentParts,
    readonly costs: CostModel,
    readonly nic: ModelNic,
    readonly nicPlan: GuestNicPlan,
    readonly exchange: ExchangePlan,
    readonly measure: MeasurePlan,
  ) {
    const { kind } = exchange;
    this.#isStream = kind === 'udp-stream' || kind === 'tcp-stream';
    this.#protocol = kind === 'udp-stream' || kind === 'udp-rr' ? 'udp' : 'tcp';
  }

  async run(): Promise<ExchangeResult> {
    const { accounting, clock, host, schedule, timing, bursts, random } = this.parts;
    accounting.restart();
    const scheduler = new TimedScheduler(clock, timing, random);
    schedule.scheduler = scheduler;
    timing.start(this.costs);
    const guest = new GuestSockets(this.parts, scheduler, this.nic);
    try {
      this.#connect(scheduler, guest);
      return await this.#measure();
    } finally {
      guest.close();
      timing.stop();
      schedule.scheduler = bursts;
      host.onTransmit = undefined;
      host.gro = undefined;
    }
  }

  /** Plugs the wire in at both ends, and opens a socket with a process at each end of each stream. */
  #connect(scheduler: TimedScheduler, guest: GuestSockets): void {
    const { config, cpus, host, plan, timing } = this.parts;
    const hostNic = plan.host.nics[0]!.name;
    const count = config['nic-queues'];
    const receivers = Array.from({ length: count }, (_, index) => {
      const queue = new ArrivalQueue(timing.costs['nic-ring']);
      this.#hostQueues.push(queue);
      const cpu = cpus.forNic(hostNic, index, count);
      const receiver = new NicReceiver(this.parts, scheduler, cpu, queue);
      queue.onComing = () => receiver.expect();
      this.#workers.push(receiver.worker);
      return receiver;
    });
    this.#toHost = new WireDirection(this.costs, (bytes) => this.#hostQueues[flowQueue(bytes, count)]!);
    const peer = new Peer(this.parts, scheduler, this.#toHost);
    this.#peer = peer;
    const toPeer = new WireDirection(this.costs, () => peer.queue);
    host.onTransmit = (name, { bytes }) => {
      receivers[0]!.clean();
      if (name === hostNic) toPeer.send(bytes, timing.now);
    };
    if (this.#guestTakesLongFrames)
      host.gro = new ReceiveOffload(timing, (frame) => host.receiveSkb(hostNic, frame));
    for (let stream = 0; stream < this.exchange.streams; stream++) this.#open(stream, scheduler, guest);
    this.#workers.push(...peer.workers, ...guest.workers);
  }

  /** With them the host's skbs need not be cut before they go to the guest; a driver with a program has none. */
  get #guestTakesLongFrames(): boolean {
    const { features, program } = this.nicPlan;
    return [VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_MRG_RXBUF].every(
      (bit) => program === undefined && (features & (1n << BigInt(bit))) !== 0n,
    );
  }

  #open(stream: number, scheduler: TimedScheduler, guest: GuestSockets): void {
    const { timing } = this.parts;
    const { size } = this.exchange;
    const peer = this.#peer;
    const out = new FrameMaker(this.#protocol, 'to-server', stream, this.nicPlan);
    const back = new FrameMaker(this.#protocol, 'to-client', stream, this.nicPlan);
    const queue = flowQueue(out.message(1), this.nicPlan.queues);
    const here = guest.host(queue);
    const [near, far] =
      this.#protocol === 'udp'
        ? [new UdpSocket(peer, out), new UdpSocket(here, back)]
        : [this.#tcpSocket(peer, out), this.#tcpSocket(here, back)];
    const client = this.#isStream
      ? new StreamClient(timing, near, size)
      : new RequestClient(timing, near, size);
    if (client instanceof RequestClient) client.onAnswer = (took) => this.#latency.add(took);
    const server = new Server(timing, far, this.#isStream ? undefined : size);
    this.#clients.push(client);
    this.#servers.push(server);
    guest.addProcess(queue, far, server);
    scheduler.wakeAt(peer.addProcess(near, client), this.parts.clock.now());
  }

  #tcpSocket(host: Peer | ReturnType<GuestSockets['host']>, frames: FrameMaker): TcpSocket {
    const socket = new TcpSocket(host, frames, this.#window);
    this.#tcp.push(socket);
    return socket;
  }

  /**
   * Bytes that are on their way at most, of all streams together: as many as the rings of NIC and guest take, so that
   * nothing of TCP gets lost there.
   */
  get #window(): number {
    const { queueSize } = this.nicPlan;
    const frames = Math.min(this.costs.of['nic-ring'], queueSize * this.nicPlan.queues);
    return Math.max(2, Math.floor((frames * 3) / 4 / this.exchange.streams)) * MAX_SEGMENT;
  }

  async #measure(): Promise<ExchangeResult> {
    const { exchange, measure, costs } = this;
    const { config } = this.parts;
    const seconds = Math.min(measure.seconds, config['exchange-ms'] / 1000);
    const warmUp = Math.min(measure.warmUp, seconds / 2);
    await runFor(this.parts, Math.round(warmUp * PS_PER_SECOND));
    const sample = Math.round(seconds * PS_PER_SECOND);
    const observation = new RateObservation(this.parts, sample * measure.samples);
    this.#latency.clear();
    const first = this.#look();
    const looks = [first];
    for (let index = 0; index < measure.samples; index++) {
      await runFor(this.parts, sample);
      looks.push(this.#look());
    }
    const last = looks.at(-1)!;
    const all = seconds * measure.samples;
    const wire = (last.wire - first.wire) / (sample * measure.samples);
    const explanation = observation.explain(this.parts.accounting.whole, (cpus) =>
      this.#bottleneck(cpus, first, last, wire),
    );
    observation.stop();
    for (const client of this.#clients) if (client instanceof RequestClient) client.onAnswer = undefined;
    await this.#drain();
    const common = {
      node: this.nic.guestNic.node,
      ...exchange,
      guest: `a model of one, ${costs.name}`,
      seconds,
    };
    const samples = looks
      .slice(1)
      .map((look, index) =>
        this.#isStream
          ? (8 * (look.bytes - looks[index]!.bytes)) / seconds
          : transactionsPerSecond(looks[index]!, look),
      );
    const unmeasured = this.#problem(first, last);
    if (unmeasured !== undefined) return { ...common, samples: [], unmeasured };
    if (!this.#isStream) {
      const took = this.#latency;
      const us = (ps: number): number => Number((ps / PS_PER_US).toFixed(3));
      return {
        ...common,
        samples,
        transactionsPerSecond: spread(samples),
        latency: {
          p50: us(took.percentile(0.5)),
          p90: us(took.percentile(0.9)),
          p99: us(took.percentile(0.99)),
          max: us(took.max),
        },
        unanswered: 0,
        explanation,
      };
    }
    return {
      ...common,
      samples,
      bitsPerSecond: spread(samples),
      messagesSentPerSecond: (last.sent - first.sent) / all,
      ...(this.#protocol === 'udp'
        ? { messagesReceivedPerSecond: (last.messages - first.messages) / all }
        : {}),
      explanation,
    };
  }

  /** What kept the rate from being higher. */
  #bottleneck(cpus: readonly UsedCpu[], first: Look, last: Look, wire: number): string {
    if (!this.#isStream) return 'the round trip';
    // Who loses messages is not at the sender's end.
    const loses =
      this.#protocol === 'udp' && last.messages - first.messages < RECEIVED * (last.sent - first.sent);
    if (wire > BUSY && !loses) return 'the wire';
    const here = loses ? cpus.filter(({ name }) => !name.startsWith('peer ')) : cpus;
    const busiest = [...here].sort((a, b) => b.utilisation - a.utilisation)[0];
    return busiest !== undefined && busiest.utilisation > BUSY ? busiest.name : 'the window';
  }

  #problem(first: Look, last: Look): string | undefined {
    if (this.#tcp.some(({ isBroken }) => isBroken))
      return 'a segment was lost on the way, and the model’s TCP does not send it again';
    if (this.#isStream)
      return last.bytes > first.bytes
        ? undefined
        : 'nothing of what was sent came to a receiver in the guest';
    return transactionsPerSecond(first, last) > 0 ? undefined : 'no answer came to any request';
  }

  #look(): Look {
    const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
    return {
      bytes: sum(this.#servers.map(({ received }) => received)),
      messages: sum(this.#servers.map(({ messages }) => messages)),
      sent: sum(this.#clients.map((client) => (client instanceof StreamClient ? client.sent : 0))),
      requests: this.#clients.flatMap((client) =>
        client instanceof RequestClient ? [{ answered: client.answered, at: client.lastAnswerAt }] : [],
      ),
      wire: this.#toHost.busy,
    };
  }

  /** Nobody sends any more, and what is under way comes to its end. */
  async #drain(): Promise<void> {
    const { accounting, workers } = this.parts;
    for (const client of this.#clients) client.stopped = true;
    const all = [...workers.map(({ worker }) => worker), ...this.#workers];
    const isBusy = (): boolean =>
      all.some(({ awake }) => awake) ||
      [...this.#hostQueues, this.#peer.queue].some(({ nextAt, length }) => nextAt !== Infinity || length > 0);
    await runUntilIdle(this.parts, isBusy);
    const missing = accounting.whole.underWay;
    if (missing !== 0) throw new XdpbedError('plugin-failed', `${missing} frames of an exchange have no end`);
  }
}

/** What both ends had counted at one time. */
interface Look {
  readonly bytes: number;
  readonly messages: number;
  readonly sent: number;
  /** Of each stream: how many were answered, and when the last of them was. */
  readonly requests: readonly { readonly answered: number; readonly at: Picoseconds }[];
  /** How long the wire had carried something. */
  readonly wire: Picoseconds;
}

/** From the last answer before to the last answer after: a sample that ends in the middle of a transaction is as exact. */
function transactionsPerSecond(before: Look, after: Look): number {
  return after.requests.reduce((sum, { answered, at }, stream) => {
    const earlier = before.requests[stream]!;
    return at > earlier.at ? sum + ((answered - earlier.answered) * PS_PER_SECOND) / (at - earlier.at) : sum;
  }, 0);
}
