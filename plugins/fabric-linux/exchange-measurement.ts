import { setTimeout as sleep } from 'node:timers/promises';
import type { ExchangePlan, MeasurePlan, RunPlan } from '../../src/core/contract/plan.js';
import type { ExchangeResult } from '../../src/core/contract/result.js';
import { messageOf, XdpbedError } from '../../src/core/diagnostic.js';
import { UndoSteps } from '../../src/core/offload/undo-steps.js';
import {
  ExchangeEnd,
  LATENCY_BUCKETS,
  percentile,
  runIp,
  setReceiveOffload,
  setTransmitOffload,
  showIp,
  type Ledger,
} from '../../src/linux/index.js';
import { startServer, type ExchangeAddresses, type ExchangeServer } from './exchange-server.js';
import type { LinuxGuestNic } from './guest-nic.js';
import { spread } from '../../src/core/measurement/spread.js';
import type { Topology } from './topology.js';
import type { Wire } from './wire.js';

/** By how much a guest's clock may differ from this machine's over a sample. */
const CLOCK_TOLERANCE = 2;

export interface ExchangeParts {
  readonly plan: RunPlan;
  readonly topology: Topology;
  readonly wire: Wire;
  readonly ledger: Ledger;
  readonly signal: AbortSignal;
}

/**
 * The plan's exchanges with one guest nic, one after the other: clients with sockets on the wire, a server in the guest.
 * For as long, the wire's end of the first NIC has an address, in a network of two with the guest's, and each end knows
 * where the other is. What leaves it is as on a wire: frames of an MTU's length at most, with their checksums.
 */
export async function measureExchanges(
  parts: ExchangeParts,
  nic: LinuxGuestNic,
  measure: MeasurePlan,
): Promise<ExchangeResult[]> {
  if (measure.exchanges.length === 0) return [];
  const { plan, topology, wire } = parts;
  const { name } = plan.host.nics[0]!;
  const addresses = await addressesOf(parts, nic);
  const undo = new UndoSteps();
  try {
    const there = { namespace: topology.wire.name };
    undo.add(() => runIp([`addr flush dev ${name}`, `neigh flush dev ${name} nud permanent`], there));
    await runIp(
      [
        `addr add ${addresses.peer}/31 dev ${name}`,
        `neigh replace ${addresses.address} lladdr ${nic.plan.mac} dev ${name} nud permanent`,
      ],
      there,
    );
    undo.add(() => setTransmitOffload(name, true, topology.wire));
    setTransmitOffload(name, false, topology.wire);
    // Rates may have been measured before, and have left it on.
    setReceiveOffload(name, false, topology.host);
    const results = await wire.withStack(name, async () => {
      const each: ExchangeResult[] = [];
      for (const exchange of measure.exchanges)
        each.push(await new ExchangeMeasurement(parts, nic, exchange, measure, addresses).run());
      return each;
    });
    await undo.run();
    return results;
  } catch (error) {
    throw await undo.runAfter(error);
  }
}

async function addressesOf(
  { plan, topology }: ExchangeParts,
  nic: LinuxGuestNic,
): Promise<ExchangeAddresses> {
  const { name } = plan.host.nics[0]!;
  const [link] = (await showIp(['link', 'show', 'dev', name], { namespace: topology.wire.name })) as {
    readonly address: string;
  }[];
  const bytes = nic.plan.ipv4.split('.').map(Number);
  const peer = [...bytes.slice(0, 3), bytes[3]! ^ 1].join('.');
  return { address: nic.plan.ipv4, peer, peerMac: link!.address };
}

class ExchangeMeasurement {
  readonly #isStream: boolean;

  constructor(
    readonly parts: ExchangeParts,
    readonly nic: LinuxGuestNic,
    readonly exchange: ExchangePlan,
    readonly measure: MeasurePlan,
    readonly addresses: ExchangeAddresses,
  ) {
    this.#isStream = exchange.kind === 'udp-stream' || exchange.kind === 'tcp-stream';
  }

  async run(): Promise<ExchangeResult> {
    const { nic, exchange, measure } = this;
    const common = { node: nic.node, ...exchange, seconds: measure.seconds };
    const undo = new UndoSteps();
    let guest = 'nobody';
    try {
      const server = undo.keep(await startServer(nic, exchange, this.addresses, this.parts.ledger));
      guest = server.description;
      const clients = await this.#clients(undo);
      const figures = await this.#sample(server, clients);
      await undo.run();
      return { ...common, guest, ...figures };
    } catch (caught) {
      const error = await undo.runAfter(caught);
      // What cannot be measured is told; a guest that is not to be spoken with ends the run.
      if (!(error instanceof XdpbedError) || error.code !== 'host-unsupported') throw error;
      return { ...common, guest, samples: [], unmeasured: messageOf(error) };
    }
  }

  async #clients(undo: UndoSteps): Promise<ExchangeEnd[]> {
    const { exchange, addresses, parts } = this;
    const opening = Array.from({ length: exchange.streams }, (_, stream) =>
      ExchangeEnd.open({
        role: 'client',
        kind: exchange.kind,
        size: exchange.size,
        stream,
        local: addresses.peer,
        peer: addresses.address,
        namespace: parts.topology.wire,
      }),
    );
    const settled = await Promise.allSettled(opening);
    const clients = settled.flatMap((each) => (each.status === 'fulfilled' ? [undo.keep(each.value)] : []));
    const failed = settled.find((each) => each.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
    return clients;
  }

  async #sample(
    server: ExchangeServer,
    clients: readonly ExchangeEnd[],
  ): Promise<Pick<ExchangeResult, 'samples'> & Partial<ExchangeResult>> {
    const { measure, parts } = this;
    const wait = (seconds: number): Promise<void> =>
      sleep(seconds * 1000, undefined, { signal: parts.signal });
    await wait(measure.warmUp);
    for (const client of clients) client.forgetLongest();
    const first = await this.#look(server, clients);
    const looks = [first];
    for (let sample = 0; sample < measure.samples; sample++) {
      await wait(measure.seconds);
      looks.push(await this.#look(server, clients));
    }
    const failure = clients.map((client) => client.failure).find((each) => each !== undefined);
    if (failure !== undefined) throw new XdpbedError('host-unsupported', failure);
    const last = looks.at(-1)!;
    const pairs = looks.slice(1).map((after, index) => [looks[index]!, after] as const);
    return this.#isStream
      ? streamFigures(this.exchange, pairs, first, last)
      : requestFigures(pairs, first, last);
  }

  async #look(server: ExchangeServer, clients: readonly ExchangeEnd[]): Promise<Look> {
    // What answers requests need not be asked: the client has seen the answers.
    const asked = performance.now();
    const served = this.#isStream ? await server.counts() : { at: 0, messages: 0, bytes: 0 };
    const at = performance.now();
    const counts = clients.map((client) => client.counts());
    const latencies = new Float64Array(LATENCY_BUCKETS);
    for (const client of clients)
      client.latencies().forEach((count, bucket) => (latencies[bucket]! += count));
    return {
      asked,
      at,
      served,
      messages: counts.reduce((sum, { messages }) => sum + messages, 0),
      unanswered: counts.reduce((sum, { unanswered }) => sum + unanswered, 0),
      latencies,
      longest: Math.max(...clients.map(({ longest }) => longest)),
    };
  }
}

/** What both ends had counted at one time. */
interface Look {
  /** Milliseconds, by this machine's clock: when the server was asked, and when it had answered. */
  readonly asked: number;
  readonly at: number;
  readonly served: { readonly at: number; readonly messages: number; readonly bytes: number };
  readonly messages: number;
  readonly unanswered: number;
  readonly latencies: Float64Array;
  readonly longest: number;
}

type Pairs = readonly (readonly [Look, Look])[];

/** What the guest got, by the guest's clock: it says both at once, and nobody knows how long the answer took. */
function streamFigures(
  { kind }: ExchangePlan,
  pairs: Pairs,
  first: Look,
  last: Look,
): Pick<ExchangeResult, 'samples'> & Partial<ExchangeResult> {
  const samples = pairs.map(([before, after]) => {
    const ms = after.served.at - before.served.at;
    // It looked at its clock at some time between question and answer.
    const [least, most] = [after.asked - before.at, after.at - before.asked];
    if (!(ms * CLOCK_TOLERANCE > least && ms < most * CLOCK_TOLERANCE)) {
      const here = `${least.toFixed(0)} to ${most.toFixed(0)} ms`;
      throw new XdpbedError('host-unsupported', `${here} took ${ms.toFixed(0)} ms by the guest's clock`);
    }
    return (8 * (after.served.bytes - before.served.bytes)) / (ms / 1000);
  });
  if (last.served.bytes === 0) {
    throw new XdpbedError('host-unsupported', 'nothing of what was sent came to a receiver in the guest');
  }
  const guestSeconds = (last.served.at - first.served.at) / 1000;
  return {
    samples,
    bitsPerSecond: spread(samples),
    messagesSentPerSecond: (last.messages - first.messages) / ((last.at - first.at) / 1000),
    ...(kind === 'udp-stream'
      ? { messagesReceivedPerSecond: (last.served.messages - first.served.messages) / guestSeconds }
      : {}),
  };
}

function requestFigures(
  pairs: Pairs,
  first: Look,
  last: Look,
): Pick<ExchangeResult, 'samples'> & Partial<ExchangeResult> {
  const unanswered = last.unanswered - first.unanswered;
  const took = last.latencies.map((count, bucket) => count - first.latencies[bucket]!);
  const at = (share: number): number | undefined => {
    const nanoseconds = percentile(took, share);
    // A bucket ends behind what is in it.
    return nanoseconds === undefined ? undefined : Math.min(nanoseconds, last.longest) / 1000;
  };
  const [p50, p90, p99] = [at(0.5), at(0.9), at(0.99)];
  if (p50 === undefined || p90 === undefined || p99 === undefined) {
    throw new XdpbedError('host-unsupported', `no answer came to any of ${unanswered} requests`);
  }
  const samples = pairs.map(
    ([before, after]) => (after.messages - before.messages) / ((after.at - before.at) / 1000),
  );
  return {
    samples,
    transactionsPerSecond: spread(samples),
    latency: { p50, p90, p99, max: last.longest / 1000 },
    unanswered,
  };
}
