import type { LoadedProgram } from '../../core/contract/executor.js';
import type { Party } from '../../core/contract/party.js';
import type { Policy } from '../../core/contract/policy.js';
import type { Transport } from '../../core/contract/transport.js';
import { messageOf } from '../../core/diagnostic.js';
import { NO_USAGE } from '../../core/offload/quota-accounts.js';
import { VIRTIO_NET_ERR, VIRTIO_NET_OK } from '../../virtio/control.js';
import { featureSet } from '../../virtio/features.js';
import { SeededRandom } from '../verifier/seeded-random.js';
import { countedParty } from './counted-party.js';
import { OffloadRig } from './offload-rig.js';
import { encodableRequest, hostileBytes, type MakeRequestGenerator } from './request-generator.js';

export interface ControlCampaignOptions {
  readonly transport: Transport;
  /** Feature bits that are negotiated: those of the protocol and of the transport. */
  readonly features: bigint;
  readonly generator: MakeRequestGenerator;
  /** The host on behalf of the guest. It is changed: what is made with it is counted. */
  readonly host: Party;
  readonly policies: readonly Policy[];
  readonly seed: number;
  readonly commands: number;
  /** Runs a program that was let in on a frame. It may fault, and must not throw. */
  readonly run?: ((program: LoadedProgram, frame: Uint8Array) => void) | undefined;
  /** Collects garbage, so that what is left can be measured (node --expose-gc). Without it, memory is not looked at. */
  readonly collectGarbage?: (() => void) | undefined;
  /** Called now and then, with the commands so far. */
  readonly onProgress?: ((commands: number) => void) | undefined;
}

export interface ControlCampaignReport {
  /** What must not be, in words; empty when all is well. */
  readonly problems: readonly string[];
  readonly commands: number;
  readonly acks: { readonly ok: number; readonly err: number };
  /** By why commands ended in VIRTIO_NET_ERR. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Commands by name. */
  readonly names: Readonly<Record<string, number>>;
  readonly deviceResets: number;
  /** Objects that the guest had at most, at a checkpoint. */
  readonly mostObjects: number;
  /** Bytes of the heap and of buffers after each slice, when the device was reset and garbage collected. */
  readonly memory: readonly number[];
}

/** Commands between two looks at the accounts. */
const CHECKPOINT = 1000;
/** Slices after each of which the device is reset and memory measured. */
const SLICES = 20;
/** Commands that are on their way at once, at most. */
const BURST = 8;
/** How long an answer may take before it counts as none. */
const ANSWER_MS = 60_000;
/** Problems after which it is of no use to go on. */
const MOST_PROBLEMS = 10;
/** Names of commands that a device may tell apart. */
const MOST_NAMES = 300;
/** By how many bytes memory may be more at the end than it was when all had been used once. */
const FLAT_BYTES = 2 << 20;

/**
 * A guest that sends sense and nonsense over a transport to a device, for as many commands as it is told, and what must
 * hold meanwhile: nothing is thrown past the device, each command is answered with as many bytes as there was room for,
 * the last of them an ack; accounts say what there is, by an own count of what was made and closed; after a reset nothing
 * is left, on the accounts and in memory.
 */
export async function runControlCampaign(options: ControlCampaignOptions): Promise<ControlCampaignReport> {
  const { transport, features, commands, policies, collectGarbage } = options;
  const random = new SeededRandom(options.seed);
  const generator = options.generator(random);
  const { protocol } = generator;
  const fillsRoom = !protocol.requests.has('load-program');
  const { party, live } = countedParty(options.host);
  const rig = new OffloadRig({
    host: party,
    guest: party,
    policies,
    protocol,
    // Counted, not kept.
    device: {
      features: features | featureSet(protocol.feature),
      queuePairs: 2,
      events: { ruling: () => {}, audit: () => {} },
    },
  });
  const { device, accounts } = rig;
  const problems: string[] = [];
  const problem = (text: string): void => {
    if (problems.length < MOST_PROBLEMS && !problems.includes(text)) problems.push(text);
  };

  const channel = await transport.open({ label: 'guest0.eth0', features });
  channel.onBroken((reason) => problem(`the channel broke: ${reason}`));
  await channel.server.serve(
    (request, room) => {
      try {
        const answer = device.handle(request, room);
        if (answer instanceof Uint8Array) return answer;
        return answer.catch((error: unknown) => {
          problem(`the device rejected: ${messageOf(error)}`);
          return new Uint8Array(room);
        });
      } catch (error) {
        problem(`the device threw: ${messageOf(error)}`);
        return new Uint8Array(room);
      }
    },
    () => void device.reset(),
  );
  const client = await channel.connect();

  let sent = 0;
  let resets = 0;
  let mostObjects = 0;
  const memory: number[] = [];

  /** One command and what is wrong with its answer. */
  const exchange = async (): Promise<void> => {
    sent++;
    const bent = random.chance(50);
    const { request, bytes } = bent
      ? { request: undefined, bytes: hostileBytes(random, generator) }
      : encodableRequest(generator);
    const fitting = request === undefined ? random.pick([0, 1, 1, 41, 53, 61, random.below(300)]) : 0;
    let room = request === undefined ? fitting : protocol.replyBytes(request);
    // A chain has a byte at least.
    if (bytes.length === 0 && room === 0) room = 1;
    const split = random.below(bytes.length + 1);
    let answer: Uint8Array;
    try {
      answer = await client.send([bytes.subarray(0, split), bytes.subarray(split)], room);
    } catch (error) {
      problem(`a command was not answered: ${messageOf(error)}`);
      return;
    }
    // RFC 2019's answers fill the room and have the ack last; the other protocol's begin with it and end where they end.
    if (answer.length > room || (room > 0 && answer.length === 0) || (fillsRoom && answer.length !== room)) {
      return problem(`${answer.length} bytes came back into a room of ${room}`);
    }
    const acks = fillsRoom ? [answer.at(-1)] : [answer[0], answer.at(-1)];
    if (room > 0 && !acks.some((ack) => ack === VIRTIO_NET_OK || ack === VIRTIO_NET_ERR)) {
      problem(`an ack of ${acks[0]}`);
    }
    if (request === undefined) return;
    const decoded = protocol.decodeReply(request, bytes, answer);
    if (decoded.ok) generator.learn(request, decoded.reply);
    else problem(`the answer to a well-formed ${request.kind} makes no sense: ${decoded.detail}`);
  };

  const burst = async (): Promise<void> => {
    const size = Math.min(commands - sent, 1 + random.below(BURST));
    const all = Promise.all(Array.from({ length: size }, exchange));
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(() => {
        problem(`no answer within ${ANSWER_MS / 1000} s`);
        resolve();
      }, ANSWER_MS);
    });
    await Promise.race([all, late]);
    clearTimeout(timer);
  };

  /** Accounts and what there is, when no command is under way. */
  const check = (when: string): void => {
    const usage = accounts.usageOf('guest0');
    const there = live();
    mostObjects = Math.max(mostObjects, device.objectCount);
    for (const what of ['maps', 'mapMemory', 'programs'] as const) {
      if (usage[what] !== there[what]) {
        problem(`${when}: the account says ${usage[what]} of ${what}, there are ${there[what]}`);
      }
    }
  };

  /** Waits until the driver, which may be told over a stream, has heard of the reset: commands from before are rejected. */
  const reachable = async (): Promise<void> => {
    for (let attempt = 0; attempt < 100; attempt++) {
      try {
        await client.send([Uint8Array.of(0, 0)], 1);
        return;
      } catch {
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    problem('no command is answered after a reset');
  };

  const reset = async (): Promise<void> => {
    resets++;
    channel.reset();
    await device.reset();
    await device.idle();
    await reachable();
    generator.forget();
    check('after a reset');
    if (device.objectCount !== 0) problem(`${device.objectCount} objects are left after a reset`);
    const left = Object.entries(accounts.totalUsage()).filter(([, amount]) => amount !== 0);
    if (left.length > 0) problem(`charges are left after a reset: ${JSON.stringify(left)}`);
  };

  const slice = Math.max(1, Math.ceil(commands / SLICES));
  for (let checkpoint = CHECKPOINT, next = slice; sent < commands && problems.length < MOST_PROBLEMS;) {
    await burst();
    const { program } = rig.place;
    if (program !== undefined && options.run !== undefined && random.chance(20)) {
      try {
        options.run(program, random.bytes(60));
      } catch (error) {
        problem(`a program that was let in threw: ${messageOf(error)}`);
      }
    }
    if (random.below(1000) === 0) await reset();
    if (sent >= checkpoint) {
      checkpoint += CHECKPOINT;
      await device.idle();
      check('at a checkpoint');
    }
    if (sent >= next) {
      next += slice;
      await reset();
      if (collectGarbage !== undefined) {
        collectGarbage();
        const { heapUsed, external } = process.memoryUsage();
        memory.push(heapUsed + external);
      }
      options.onProgress?.(sent);
    }
  }

  const { acks, refusals, commands: names } = device.statistics;
  const counted = Object.values(names).reduce((sum, times) => sum + times, 0);
  const kinds = Object.keys(names).length;
  if (kinds > MOST_NAMES) problem(`commands are counted under ${kinds} names, which the guest chose`);
  if (refusals.internal > 0) problem(`${refusals.internal} commands failed inside of the device`);
  if (acks.ok + acks.err !== counted) problem(`${acks.ok + acks.err} acks of ${counted} commands`);
  const grown = growth(memory);
  if (grown > FLAT_BYTES) problem(`memory grew by ${grown} bytes: ${memory.join(', ')}`);
  await channel.close();
  await device.unplug();
  await device.idle();
  if (JSON.stringify(accounts.totalUsage()) !== JSON.stringify(NO_USAGE))
    problem('charges are left at the end');
  if (rig.place.program !== undefined) problem('a program is left in its place');
  const { maps, programs } = live();
  if (maps + programs > 0) problem(`${maps} maps and ${programs} programs were never closed`);
  return {
    problems,
    commands: sent,
    acks,
    refusals,
    names,
    deviceResets: resets,
    mostObjects,
    memory,
  };
}

/** By how much the last quarter of samples is above the second, by their medians: 0 with too few of them. */
function growth(samples: readonly number[]): number {
  const quarter = Math.floor(samples.length / 4);
  if (quarter === 0) return 0;
  const median = (from: number): number =>
    samples.slice(from, from + quarter).toSorted((a, b) => a - b)[quarter >> 1]!;
  return median(samples.length - quarter) - median(quarter);
}
