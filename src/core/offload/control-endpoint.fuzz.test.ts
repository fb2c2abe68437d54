import { Value } from '@sinclair/typebox/value';
import { describe, expect, it } from 'vitest';
import { HelperAllowList } from '../../../plugins/policy-helper-allow-list/helper-allow-list.js';
import { Quota, QuotaConfig } from '../../../plugins/policy-quota/quota.js';
import { SeededRandom } from '../../conformance/verifier/index.js';
import {
  CONTROL_QUEUE_SIZE,
  ControlLink,
  featureSet,
  splitLayoutAt,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_F_RING_PACKED,
  VIRTIO_F_VERSION_1,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_XDP_OFFLOAD,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_USED,
  VIRTQ_DESC_F_WRITE,
} from '../../virtio/index.js';
import { NO_USAGE } from './quota-accounts.js';
import { OffloadRig } from '../../conformance/offload/offload-rig.js';
import { hostileBytes } from '../../conformance/offload/request-generator.js';
import { Rfc2019Requests } from '../../conformance/offload/rfc-2019-requests.js';
import { testingParty, type TestingParty } from './testing-party.js';

const FEATURES = featureSet(
  VIRTIO_F_VERSION_1,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MQ,
  VIRTIO_NET_F_CTRL_MAC_ADDR,
  VIRTIO_NET_F_XDP_OFFLOAD,
);
const CHAINS = 40_000;

function party(): TestingParty {
  return testingParty('host', { mebibytes: 8 });
}

function setUp(): { rig: OffloadRig; host: TestingParty; baseline: number; errAcks: () => number } {
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

/** One descriptor of a chain, as bytes. */
type Descriptor = Uint8Array;
type MakeDescriptor = (
  address: number,
  length: number,
  flags: number,
  index: number,
  last: boolean,
) => Descriptor;

/** How a hostile guest writes chains into the ring: in order as often as not. */
interface RingWriter {
  readonly descriptor: MakeDescriptor;
  /** Makes the chain available; with a table, its descriptors lie there and the ring has one that refers to them. */
  publish(descriptors: readonly Descriptor[], table: number | undefined): void;
  /** The queue was reset. */
  restart(): void;
}

function splitWriter({ memory, layout }: ControlLink, random: SeededRandom): RingWriter {
  const at = splitLayoutAt(layout.queue, CONTROL_QUEUE_SIZE);
  const [table, avail] = [Number(at.descriptorTable), Number(at.availRing)];
  let published = 0;
  return {
    descriptor: (address, length, flags, index, last) =>
      descriptor(address, length, flags | (last ? 0 : VIRTQ_DESC_F_NEXT), last ? 0 : index + 1),
    publish: (descriptors, indirect) => {
      descriptors.forEach((entry, index) => memory.write((indirect ?? table) + 16 * index, entry));
      if (indirect !== undefined) {
        memory.write(table, descriptor(indirect, 16 * descriptors.length, VIRTQ_DESC_F_INDIRECT, 0));
      }
      const head = random.chance(2) ? random.below(65_536) : 0;
      memory.write(avail + 4 + 2 * (published % 64), u16(head));
      published = (published + (random.chance(1) ? random.below(65_536) : 1)) & 0xffff;
      memory.write(avail + 2, u16(published));
    },
    restart: () => (published = 0),
  };
}

function packedWriter({ memory, layout }: ControlLink, random: SeededRandom): RingWriter {
  let position = 0;
  const available = (): number => (position < CONTROL_QUEUE_SIZE ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED);
  /** Adds to the flags whose descriptor it is, and writes it in its turn. */
  const put = (entry: Descriptor): void => {
    const view = new DataView(entry.buffer, entry.byteOffset, 16);
    view.setUint16(14, view.getUint16(14, true) ^ available(), true);
    memory.write(layout.queue + 16 * (position % CONTROL_QUEUE_SIZE), entry);
    position = (position + 1) % (2 * CONTROL_QUEUE_SIZE);
  };
  return {
    descriptor: (address, length, flags, _index, last) => {
      const id = random.chance(2) ? random.below(65_536) : 0;
      return descriptor(address, length, id, flags | (last ? 0 : VIRTQ_DESC_F_NEXT));
    },
    publish: (descriptors, indirect) => {
      if (indirect === undefined) descriptors.forEach(put);
      else {
        descriptors.forEach((entry, index) => memory.write(indirect + 16 * index, entry));
        put(descriptor(indirect, 16 * descriptors.length, 0, VIRTQ_DESC_F_INDIRECT));
      }
      // Now and then the flags of a descriptor that is somebody's.
      if (random.chance(1)) {
        memory.write(layout.queue + 16 * random.below(CONTROL_QUEUE_SIZE) + 14, u16(random.below(65_536)));
      }
    },
    restart: () => (position = 0),
  };
}

describe.each([
  ['split', FEATURES, splitWriter],
  ['packed', FEATURES | featureSet(VIRTIO_F_RING_PACKED), packedWriter],
] as const)('hostile descriptor chains in a %s ring', (_format, features, makeWriter) => {
  it(`${CHAINS} chains: no throw, no hang, nothing left`, async () => {
    const { rig, host, baseline } = setUp();
    const random = new SeededRandom(58);
    const sequence = new Rfc2019Requests(random);
    let broken = 0;
    const link = new ControlLink({ label: 'guest0.eth0', features });
    link.status.onBroken(() => void broken++);
    link.serve((request, room) => rig.device.handle(request, room));
    const writer = makeWriter(link, random);
    const area = link.layout.buffers;
    const idle = async (): Promise<void> => {
      link.kicked();
      await rig.device.idle();
      // The answers of what had to be waited for are written a little later.
      await new Promise((resolve) => setImmediate(resolve));
    };
    let heard = { commands: 0, at: 0 };
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
      const descriptors = parts.map(({ address, length, flags }, index) =>
        writer.descriptor(address, length, flags, index, index === parts.length - 1),
      );
      // One chain in five is bent.
      if (random.chance(20) && descriptors.length > 0) {
        const victim = random.pick(descriptors);
        for (let times = 1 + random.below(3); times > 0; times--) {
          victim[random.below(16)] = random.chance(50) ? random.below(256) : 0xff;
        }
      }
      writer.publish(descriptors, indirect ? area + 131_072 : undefined);
      link.kicked();
      if (count % 8 === 0) await idle();
      const { commands } = link.statistics;
      if (commands !== heard.commands) heard = { commands, at: count };
      // What a driver does when the device is broken, or hears nothing any more: it resets the device, which resets both.
      if (link.status.isDown || count - heard.at > 2 * CONTROL_QUEUE_SIZE) {
        link.reset();
        await rig.device.reset();
        writer.restart();
        heard.at = count;
      }
    }
    await idle();
    const { acks, refusals } = rig.device.statistics;
    expect(broken).toBe(link.status.violations);
    expect(broken).toBeGreaterThan(CHAINS / 20);
    expect(acks.ok).toBeGreaterThan(0);
    expect(refusals.internal).toBe(0);
    expect(link.statistics.commands).toBe(acks.ok + acks.err);
    expect(link.statistics.commands).toBeGreaterThan(CHAINS / 4);

    link.close();
    await rig.device.unplug();
    await rig.device.idle();
    expect(rig.device.objectCount).toBe(0);
    expect(rig.accounts.totalUsage()).toEqual(NO_USAGE);
    expect(host.runtime.space.bytesInUse).toBe(baseline);
  });
});

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 0xff, value >> 8);

/** `third` and `fourth`: flags and next of a split queue's descriptor, ID and flags of a packed one's. */
function descriptor(address: number, length: number, third: number, fourth: number): Descriptor {
  const bytes = new Uint8Array(16);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(address), true);
  view.setUint32(8, length, true);
  view.setUint16(12, third, true);
  view.setUint16(14, fourth, true);
  return bytes;
}
