import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { HelperAllowList } from '../../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { Quota, QuotaConfig } from '../../../plugins/policy-quota/quota.js';
import { StructuralVerifier } from '../../../plugins/verifier-structural/structural-verifier.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { SeededRandom } from '../../conformance/verifier/index.js';
import {
  CONTROL_QUEUE_SIZE,
  ControlLink,
  featureSet,
  splitLayoutAt,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_XDP_OFFLOAD,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from '../../virtio/index.js';
import type { Party } from '../contract/party.js';
import { NO_USAGE } from './quota-accounts.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';
import { hostileBytes } from '../../conformance/offload/request-generator.js';
import { Rfc2019Requests } from '../../conformance/offload/rfc-2019-requests.js';

const FEATURES = featureSet(
  VIRTIO_F_VERSION_1,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_XDP_OFFLOAD,
);
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

describe('hostile descriptor chains', () => {
  it(`${CHAINS} chains in ring memory: no throw, no hang, nothing left`, async () => {
    const { rig, host, baseline } = setUp();
    const random = new SeededRandom(58);
    const sequence = new Rfc2019Requests(random);
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
