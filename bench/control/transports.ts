import { UnixSocketTransport } from '../../plugins/transport-unix-socket/unix-socket-transport.js';
import { VirtioSerialTransport } from '../../plugins/transport-virtio-serial/virtio-serial-transport.js';
import { PackedVirtqueueTransport } from '../../plugins/transport-virtqueue-packed/packed-virtqueue-transport.js';
import { VirtqueueTransport } from '../../plugins/transport-virtqueue/virtqueue-transport.js';
import { RIG_FEATURES } from '../../src/conformance/offload/offload-rig.js';
import type { Transport } from '../../src/core/contract/transport.js';
import { featureSet, VIRTIO_F_RING_PACKED } from '../../src/virtio/index.js';

/** A transport, and the feature bits that are negotiated over it. */
export interface TransportUnderTest {
  readonly name: string;
  readonly transport: Transport;
  readonly features: bigint;
}

export const TRANSPORTS: readonly TransportUnderTest[] = [
  { name: 'virtqueue', transport: new VirtqueueTransport(), features: RIG_FEATURES },
  {
    name: 'virtqueue-packed',
    transport: new PackedVirtqueueTransport(),
    features: RIG_FEATURES | featureSet(VIRTIO_F_RING_PACKED),
  },
  {
    name: 'unix-socket',
    transport: new UnixSocketTransport({ users: [], 'stall-seconds': 10 }),
    features: RIG_FEATURES,
  },
  { name: 'virtio-serial', transport: new VirtioSerialTransport(), features: RIG_FEATURES },
];
