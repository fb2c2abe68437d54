import { describe, expect, it } from 'vitest';
import { transportConformance } from '../../src/conformance/transport/index.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { featureSet, VIRTIO_F_RING_PACKED, VIRTIO_F_VERSION_1 } from '../../src/virtio/index.js';
import { VirtqueueTransport } from '../transport-virtqueue/virtqueue-transport.js';
import { PackedVirtqueueTransport } from './packed-virtqueue-transport.js';

transportConformance('virtqueue-packed', () => new PackedVirtqueueTransport(), {
  features: featureSet(VIRTIO_F_RING_PACKED),
});

const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

/** A guest with two queue pairs and an offloaded program that counts; its device has these features as well. */
function testbed(transport: string, features: readonly string[]): string {
  return `version: 1
name: packed
plugins: { transport: { use: ${transport} } }
programs: { xdp2: { object: ${objects}xdp2.o }, count: { object: ${objects}xdp1.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count, placement: host, queues: 2, features: [${features.join()}] } } }
  g1: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03, program: xdp2, features: [${features.join()}] } } }
workload: { use: udp-flood, config: { frames: 700, flows: 8 } }
`;
}

const FEATURES = [
  'VIRTIO_F_VERSION_1',
  'VIRTIO_F_INDIRECT_DESC',
  'VIRTIO_F_EVENT_IDX',
  'VIRTIO_NET_F_MAC',
  'VIRTIO_NET_F_CTRL_VQ',
  'VIRTIO_NET_F_MQ',
  'VIRTIO_NET_F_XDP_OFFLOAD',
];
const resolve = (transport: string, features: readonly string[]) =>
  resolveTestbed('/nowhere/t.yaml', testbed(transport, features), new PluginRegistry(BUILT_IN_PLUGINS));

describe('a run whose devices have packed queues', () => {
  it('ends as one whose devices have split ones does, notifications included', async () => {
    const run = async (transport: string, features: readonly string[]) => {
      const { runs } = await runTestbed(await resolve(transport, features), { version: '0' });
      const { ends, hooks, maps, links, control } = runs[0]! as unknown as Record<string, unknown>;
      return { ends, hooks, maps, links, control };
    };
    const packed = await run('virtqueue-packed', [...FEATURES, 'VIRTIO_F_RING_PACKED']);
    expect(packed).toEqual(await run('virtqueue', FEATURES));
    const links = packed.links as { framesToGuest: number; violations: number }[];
    expect(links.map(({ framesToGuest, violations }) => [framesToGuest > 0, violations])).toContainEqual([
      true,
      0,
    ]);
  });

  it('is refused unless each device offers VIRTIO_F_RING_PACKED, as is the feature over split queues', async () => {
    await expect(resolve('virtqueue-packed', FEATURES)).rejects.toThrow(
      'transport virtqueue-packed needs VIRTIO_F_RING_PACKED, which the device does not offer',
    );
    await expect(resolve('virtqueue', [...FEATURES, 'VIRTIO_F_RING_PACKED'])).rejects.toThrow(
      'transport virtqueue has no packed queues, and the device offers VIRTIO_F_RING_PACKED',
    );
    // A channel beside the device leaves its queues alone.
    const beside = await resolve('virtio-serial', [...FEATURES, 'VIRTIO_F_RING_PACKED']);
    expect(beside.runs).toHaveLength(1);
  });

  it('is refused by the transports themselves as well, for a spec that nobody validated', async () => {
    const label = 'guest0.eth0';
    const split = featureSet(VIRTIO_F_VERSION_1);
    const packed = featureSet(VIRTIO_F_VERSION_1, VIRTIO_F_RING_PACKED);
    await expect(new PackedVirtqueueTransport().open({ label, features: split })).rejects.toMatchObject({
      code: 'host-unsupported',
    });
    await expect(new VirtqueueTransport().open({ label, features: packed })).rejects.toMatchObject({
      code: 'host-unsupported',
    });
  });
});
