import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { HelperAllowList } from '../../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { Quota, QuotaConfig } from '../../../plugins/policy-quota/quota.js';
import { StructuralVerifier } from '../../../plugins/verifier-structural/structural-verifier.js';
import { assemble } from '../../bpf/assembler.js';
import { encodeInsns } from '../../bpf/insn.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { randomProgram, SeededRandom } from '../../conformance/verifier/index.js';
import { FrameRing } from '../../bpf/runtime/frame-ring.js';
import {
  CONTROL_QUEUE_SIZE,
  ControlLink,
  featureSet,
  splitLayoutAt,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_CTRL_EBPF,
  VIRTIO_NET_ERR,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_XDP_OFFLOAD,
  VIRTIO_NET_OK,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../virtio/index.js';
import type { Party } from '../contract/party.js';
import { NO_USAGE } from './quota-accounts.js';
import type { BpfRequest } from './protocol/control-protocol.js';
import { RFC_2019 } from './protocol/rfc-2019/rfc-2019.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';

const FEATURES = featureSet(
  VIRTIO_F_VERSION_1,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_XDP_OFFLOAD,
);
const COMMANDS = 60_000;
const CHAINS = 40_000;

/** A party whose memory the test looks into. */
interface TestParty extends Party {
  readonly runtime: BpfRuntime;
}

function party(): TestParty {
  const runtime = new BpfRuntime({ memoryBytes: 8 * 1024 * 1024 });
  return {
    name: 'host',
    runtime,
    cpus: 1,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier: new StructuralVerifier(),
  };
}

function setUp(): { rig: OffloadRig; host: TestParty; baseline: number; errAcks: () => number } {
  const host = party();
  const quota = new Quota(
    Value.Parse(QuotaConfig, Value.Default(QuotaConfig, { 'per-guest': { maps: 24 } })),
  );
  const helpers = new HelperAllowList({ base: 'default', allow: [], deny: [] });
  const rig = new OffloadRig({
    host,
    guest: host,
    policies: [quota, helpers],
    device: {
      features: FEATURES,
      queuePairs: 2,
      // Counted, not kept: a hundred thousand records would only cost memory.
      events: { ruling: () => {}, audit: () => {} },
    },
  });
  return {
    rig,
    host,
    baseline: host.runtime.space.bytesInUse,
    errAcks: () => rig.device.statistics.acks.err,
  };
}

const PROGRAMS = [
  'r0 = 2\nexit',
  'r0 = 1\nexit',
  'r1 = map[m]\nr0 = 2\nexit',
  'call bpf_fib_lookup\nr0 = 2\nexit',
];

/** A guest that knows what makes sense, and its handles. */
class Sequence {
  readonly handles: { handle: number; keySize: number; valueSize: number }[] = [];

  constructor(readonly random: SeededRandom) {}

  next(): BpfRequest {
    const { random } = this;
    const known =
      this.handles.length > 0 && random.chance(90)
        ? random.pick(this.handles)
        : { handle: random.chance(50) ? random.below(20) : random.u32(), keySize: 4, valueSize: 8 };
    const key = random.chance(70) ? Uint8Array.of(random.below(6), 0, 0, 0) : random.bytes(4);
    const keyed = { handle: known.handle, key: sized(key, known.keySize), valueSize: known.valueSize };
    switch (random.below(10)) {
      case 0:
      case 1:
        return {
          kind: 'create-map',
          mapType: random.chance(90) ? 1 + random.below(2) : random.below(40),
          keySize: random.chance(80) ? 4 : random.below(600),
          valueSize: random.chance(80) ? 8 : random.below(2000),
          maxEntries: random.chance(90) ? 1 + random.below(8) : random.u32(),
          mapFlags: random.chance(90) ? 0 : random.below(4096),
        };
      case 2:
        return { kind: 'free-map', handle: known.handle };
      case 3:
        return {
          kind: 'update-elem',
          handle: known.handle,
          key: keyed.key,
          value: random.bytes(known.valueSize),
          flags: BigInt(random.below(3)),
        };
      case 4:
        return { kind: 'lookup-elem', ...keyed };
      case 5:
        return { kind: 'delete-elem', ...keyed };
      case 6:
        return {
          kind: 'get-first',
          handle: known.handle,
          keySize: known.keySize,
          valueSize: known.valueSize,
        };
      case 7:
        return { kind: 'get-next', ...keyed };
      case 8:
        return {
          kind: 'set-offload',
          insns: encodeInsns(
            random.chance(30)
              ? randomProgram(random)
              : assemble(random.pick(PROGRAMS), { maps: new Map([['m', known.handle | 0]]) }),
          ),
          gplCompatible: random.chance(50),
        };
      default:
        return { kind: 'unset-offload' };
    }
  }

  /** Learns from an answer, as a guest does. */
  learn(command: BpfRequest, written: Uint8Array): void {
    const response = RFC_2019.decodeReply(command, RFC_2019.encodeRequest(command), written);
    expect(response.ok, 'an answer to a well-formed command is well-formed').toBe(true);
    if (!response.ok || response.reply.kind === 'error') return;
    if (command.kind === 'create-map' && response.reply.kind === 'handle') {
      this.handles.push({ ...command, handle: response.reply.handle });
    }
    // Freed handles are kept now and then: using them must fail.
    if (command.kind === 'free-map' && this.random.chance(80)) {
      this.handles.splice(
        this.handles.findIndex(({ handle }) => handle === command.handle),
        1,
      );
    }
    if (this.handles.length > 40) this.handles.shift();
  }
}

function sized(bytes: Uint8Array, length: number): Uint8Array {
  const copy = new Uint8Array(length);
  copy.set(bytes.subarray(0, length));
  return copy;
}

function mutate(random: SeededRandom, bytes: Uint8Array): Uint8Array {
  const copy = bytes.slice();
  for (let count = 1 + random.below(4); count > 0 && copy.length > 0; count--) {
    const at = random.chance(60) ? random.below(Math.min(copy.length, 42)) : random.below(copy.length);
    copy[at] = random.chance(30)
      ? copy[at]! ^ (1 << random.below(8))
      : random.pick([0, 1, 6, 0x7f, 0x80, 0xff]);
  }
  if (random.chance(20)) return copy.subarray(0, random.below(copy.length + 1));
  if (random.chance(10)) return Uint8Array.from([...copy, ...random.bytes(1 + random.below(16))]);
  return copy;
}

/** What a hostile guest puts into the control queue: some sense, some mutations, some noise. */
function hostileBytes(random: SeededRandom, sequence: Sequence): Uint8Array {
  if (random.chance(15)) return random.bytes(random.below(120));
  if (random.chance(15)) {
    return Uint8Array.of(
      random.chance(50) ? VIRTIO_NET_CTRL_EBPF : random.below(8),
      random.below(4),
      ...random.bytes(random.below(60)),
    );
  }
  return mutate(random, encodable(sequence).bytes);
}

function encodable(sequence: Sequence): { command: BpfRequest; bytes: Uint8Array } {
  for (;;) {
    const command = sequence.next();
    try {
      return { command, bytes: RFC_2019.encodeRequest(command) };
    } catch {
      // Sizes that the format itself excludes: hostileBytes gets there by mutation.
    }
  }
}

describe('hostile control commands', () => {
  it(`${COMMANDS} random, mutated and sensible commands: no throw, every one answered, nothing left`, async () => {
    const { rig, host, baseline } = setUp();
    const random = new SeededRandom(20191126);
    const sequence = new Sequence(random);
    const frames = new FrameRing(host.runtime.space, 1);
    let ok = 0;
    for (let count = 0; count < COMMANDS; count++) {
      if (random.chance(50)) {
        const bytes = hostileBytes(random, sequence);
        const writable = random.pick([0, 1, 1, 41, 53, 61, random.below(300)]);
        const answer = await rig.sendBytes(bytes, writable);
        expect(answer.length).toBe(writable);
        if (writable > 0) expect([VIRTIO_NET_OK, VIRTIO_NET_ERR]).toContain(answer.at(-1));
      } else {
        const { command, bytes } = encodable(sequence);
        const answer = await rig.sendBytes(bytes, RFC_2019.replyBytes(command));
        if (answer.at(-1) === VIRTIO_NET_OK) ok++;
        sequence.learn(command, answer);
      }
      const program = rig.place.program;
      if (program !== undefined && random.chance(5)) {
        // What was let in may fault, never throw: a verifier that tracks no values is what guards it here.
        frames.load(0, random.bytes(60));
        program.run(frames, 0);
      }
      if (random.below(5000) === 0) await rig.device.reset();
      if (count % 1000 === 0) {
        const { maps, programs } = rig.accounts.usageOf('guest0');
        expect(maps + programs, 'the accounts agrees with the table').toBe(rig.device.objectCount);
        expect(maps).toBeLessThanOrEqual(24);
      }
    }
    expect(ok, 'the sequence got somewhere').toBeGreaterThan(COMMANDS / 20);
    const { acks, refusals, commands } = rig.device.statistics;
    expect(refusals.internal).toBe(0);
    expect(acks.ok + acks.err).toBe(Object.values(commands).reduce((sum, times) => sum + times, 0));
    expect(acks.err).toBe(Object.values(refusals).reduce((sum, times) => sum + times, 0));

    frames.close();
    await rig.device.unplug();
    await rig.device.idle();
    expect(rig.device.objectCount).toBe(0);
    expect(rig.accounts.guests).toEqual([]);
    expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(host.runtime.space.bytesInUse).toBe(baseline);
    expect(rig.place.program).toBeUndefined();
  });
});

describe('hostile descriptor chains', () => {
  it(`${CHAINS} chains in ring memory: no throw, no hang, nothing left`, async () => {
    const { rig, host, baseline } = setUp();
    const random = new SeededRandom(58);
    const sequence = new Sequence(random);
    let broken = 0;
    const link = new ControlLink({ label: 'guest0.eth0', features: FEATURES });
    link.status.onBroken(() => void broken++);
    link.serve((request, room) => rig.device.handle(request, room));
    const { descriptorTable: table, availRing: avail } = splitLayoutAt(
      link.layout.queue,
      CONTROL_QUEUE_SIZE,
    ) as {
      descriptorTable: number;
      availRing: number;
    };
    const area = link.layout.buffers;
    const idle = async (): Promise<void> => {
      link.kicked();
      await rig.device.idle();
      // The answers of what had to be waited for are written a little later.
      await new Promise((resolve) => setImmediate(resolve));
    };
    let published = 0;
    for (let count = 0; count < CHAINS; count++) {
      const bytes = hostileBytes(random, sequence);
      link.memory.write(area, bytes);
      const split = random.below(bytes.length + 1);
      const writable = random.pick([1, 1, 41, 53, random.below(200)]);
      const parts = [
        { address: area, length: split, flags: 0 },
        { address: area + split, length: bytes.length - split, flags: 0 },
        { address: area + 65_536, length: writable, flags: VIRTQ_DESC_F_WRITE },
      ].filter((part) => part.length > 0);
      const indirect = random.chance(20);
      const tableAt = indirect ? area + 131_072 : table;
      const descriptors = parts.map((part, index) => {
        const last = index === parts.length - 1;
        return descriptor(
          part.address,
          part.length,
          part.flags | (last ? 0 : VIRTQ_DESC_F_NEXT),
          last ? 0 : index + 1,
        );
      });
      // One chain in five is bent.
      if (random.chance(20) && descriptors.length > 0) {
        const victim = random.pick(descriptors);
        for (let times = 1 + random.below(3); times > 0; times--) {
          victim[random.below(16)] = random.chance(50) ? random.below(256) : 0xff;
        }
      }
      descriptors.forEach((entry, index) => link.memory.write(tableAt + 16 * index, entry));
      if (indirect) {
        const length = 16 * descriptors.length;
        link.memory.write(table, descriptor(tableAt, length, VIRTQ_DESC_F_INDIRECT, 0));
      }
      const head = random.chance(2) ? random.below(65_536) : 0;
      link.memory.write(avail + 4 + 2 * (published % 64), Uint8Array.of(head & 0xff, head >> 8));
      published = (published + (random.chance(1) ? random.below(65_536) : 1)) & 0xffff;
      link.memory.write(avail + 2, Uint8Array.of(published & 0xff, published >> 8));
      link.kicked();
      if (count % 8 === 0) await idle();
      if (link.status.brokenReason !== undefined) {
        // What a driver does next: it resets the device, which resets both.
        link.reset();
        await rig.device.reset();
        published = 0;
      }
    }
    await idle();
    const { acks, refusals } = rig.device.statistics;
    expect(broken).toBe(link.status.violations);
    expect(broken).toBeGreaterThan(CHAINS / 20);
    expect(acks.ok).toBeGreaterThan(0);
    expect(refusals.internal).toBe(0);
    expect(link.statistics.commands).toBe(acks.ok + acks.err);

    link.close();
    await rig.device.unplug();
    await rig.device.idle();
    expect(rig.device.objectCount).toBe(0);
    expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(host.runtime.space.bytesInUse).toBe(baseline);
  });
});

function descriptor(address: number, length: number, flags: number, next: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(address), true);
  view.setUint32(8, length, true);
  view.setUint16(12, flags, true);
  view.setUint16(14, next, true);
  return bytes;
}
