import type { GuestAllocator, GuestMemory } from './guest-memory.js';
import { SplitDeviceQueue } from './split-device-queue.js';
import { SplitDriverQueue } from './split-driver-queue.js';
import { splitLayoutAt, splitLayoutBytes } from './split-layout.js';
import type { DriverViolation } from './violation.js';
import type { DeviceQueue, DriverQueue, QueueState } from './virtqueue.js';

export interface DriverQueueOptions {
  /** VIRTIO_F_EVENT_IDX is negotiated. */
  readonly eventIdx: boolean;
  /** VIRTIO_F_INDIRECT_DESC is negotiated: where the tables come from. Without it there are none. */
  readonly indirectTables?: GuestAllocator | undefined;
}

export interface DeviceQueueOptions {
  readonly eventIdx: boolean;
  /** VIRTIO_F_INDIRECT_DESC is negotiated. */
  readonly indirect: boolean;
}

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
  openDriver(memory, address, size, { eventIdx, indirectTables }, state) {
    const options = { eventIdx, ...(indirectTables === undefined ? {} : { indirectTables }) };
    return new SplitDriverQueue(memory, splitLayoutAt(address, size), options, state);
  },
  openDevice(memory, address, size, options, state) {
    return SplitDeviceQueue.open(memory, splitLayoutAt(address, size), options, state);
  },
};
