import { hasFeature, VIRTIO_F_RING_PACKED, type FeatureSet } from './features.js';
import type { GuestMemory } from './guest-memory.js';
import { PackedDeviceQueue } from './packed-device-queue.js';
import { PackedDriverQueue } from './packed-driver-queue.js';
import { packedLayoutAt, packedLayoutBytes } from './packed-layout.js';
import type { DeviceQueueOptions, DriverQueueOptions } from './queue-options.js';
import { SplitDeviceQueue } from './split-device-queue.js';
import { SplitDriverQueue } from './split-driver-queue.js';
import { splitLayoutAt, splitLayoutBytes } from './split-layout.js';
import type { DriverViolation } from './violation.js';
import type { DeviceQueue, DriverQueue, QueueState } from './virtqueue.js';

/**
 * How a virtqueue lies in memory: what makes split and packed queues different. Links work with the two ends and
 * never look into the memory themselves. In every format the `head` of a chain that the device pops is the token
 * that the driver got when it added the buffer.
 */
export interface QueueFormat {
  readonly name: string;
  /** Bytes; where a queue starts is a multiple. */
  readonly alignment: number;
  /** Bytes of a queue of `size` entries. */
  bytes(size: number): number;
  /**
   * The driver's end of the queue at `address`: an empty one, which clears its memory, or one that goes on from where
   * it was saved, over memory that is as it was then.
   * @throws XdpbedError `virtio-violation` when there can be no such queue, or for a state that is none
   */
  openDriver(
    memory: GuestMemory,
    address: number,
    size: number,
    options: DriverQueueOptions,
    state?: QueueState,
  ): DriverQueue;
  /** The device's end; a violation when the queue is not where a queue can be, or for a state that is none. */
  openDevice(
    memory: GuestMemory,
    address: number,
    size: number,
    options: DeviceQueueOptions,
    state?: QueueState,
  ):
    | { readonly ok: true; readonly queue: DeviceQueue }
    | { readonly ok: false; readonly violation: DriverViolation };
}

/** Split virtqueues (virtio 1.3, 2.7). */
export const SPLIT_QUEUE: QueueFormat = {
  name: 'split',
  alignment: 16,
  bytes: splitLayoutBytes,
  openDriver(memory, address, size, options, state) {
    return new SplitDriverQueue(memory, splitLayoutAt(address, size), options, state);
  },
  openDevice(memory, address, size, options, state) {
    return SplitDeviceQueue.open(memory, splitLayoutAt(address, size), options, state);
  },
};

/** Packed virtqueues (virtio 1.3, 2.8). */
export const PACKED_QUEUE: QueueFormat = {
  name: 'packed',
  alignment: 16,
  bytes: packedLayoutBytes,
  openDriver(memory, address, size, options, state) {
    return new PackedDriverQueue(memory, packedLayoutAt(address, size), options, state);
  },
  openDevice(memory, address, size, options, state) {
    return PackedDeviceQueue.open(memory, packedLayoutAt(address, size), options, state);
  },
};

/** The format that all queues of a device have: packed with VIRTIO_F_RING_PACKED, else split (virtio 1.3, 6). */
export function queueFormat(negotiated: FeatureSet): QueueFormat {
  return hasFeature(negotiated, VIRTIO_F_RING_PACKED) ? PACKED_QUEUE : SPLIT_QUEUE;
}
