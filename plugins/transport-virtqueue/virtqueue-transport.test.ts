import { expect, it } from 'vitest';
import { transportConformance } from '../../src/conformance/transport/index.js';
import { PS_PER_MS, type Clock } from '../../src/core/contract/clock.js';
import { featureSet, VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ } from '../../src/virtio/index.js';
import { VirtqueueTransport } from './virtqueue-transport.js';

transportConformance('virtqueue', () => new VirtqueueTransport());

it.each([
  { takes: 0, turns: 0, why: 'time that stands still is never over' },
  { takes: 100 * PS_PER_MS, turns: 1, why: 'others get their turn by the time that a command takes' },
])("gives way by the run's clock alone: $why", async ({ takes, turns }) => {
  let time = 0;
  const clock: Clock = {
    now: () => time,
    at: () => {
      throw new Error('nothing is asked for');
    },
  };
  const channel = await new VirtqueueTransport(clock).open({
    label: 'guest0.eth0',
    features: featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ),
  });
  let others = 0;
  await channel.server.serve((request) => {
    setImmediate(() => others++);
    // The machine's clock goes on, which must not count.
    const until = performance.now() + 5;
    while (performance.now() < until);
    time += takes;
    return request;
  });
  const client = await channel.connect();
  const command = Uint8Array.of(1, 2, 3);
  await Promise.all([client.send([command], 3), client.send([command], 3)]);
  expect(others).toBe(turns);
  await channel.close();
});
