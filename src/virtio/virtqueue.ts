/**
 * The two sides of a virtqueue, whatever its format in memory (split or packed).
 *
 * ```
 *      driver                                     device
 *   addBuffer ─┐
 *   publish  ──┴─> descriptors, avail ─ kick ──> popChain
 *                                                  │ chain.readable, chain.writer
 *   getUsed  <── interrupt ─ used <─────────────── pushUsed
 * ```
 *
 * Neither side trusts the other: whatever is found in shared memory is checked, and a broken rule is a
 * {@link Violation} among the results. After one the queue is broken: every call answers with the same
 * violation and no memory is touched any more, until the queue is reset.
 *
 * Buffers travel as guest-physical ranges on the driver's side and as {@link DescriptorChain}s on the
 * device's. A *kick* is the available buffer notification, an *interrupt* the used buffer notification; both
 * can be suppressed (virtio 1.3, 2.7.7 and 2.7.10), and both may be spurious.
 */

import type { DescriptorChain } from './descriptor-chain.js';
import type { DeviceViolation, DriverViolation } from './violation.js';

/** A physically contiguous piece of a buffer: guest-physical address and length, both in bytes. */
export interface BufferPart {
  readonly address: number;
  readonly length: number;
}

/** A buffer to offer to the device: device-readable parts, then device-writable ones. At least one part. */
export interface BufferRequest {
  readonly readable?: readonly BufferPart[];
  readonly writable?: readonly BufferPart[];
  /** Put the parts into an indirect table, which costs the queue a single descriptor (virtio 1.3, 2.7.5.3). */
  readonly indirect?: boolean;
}

/**
 * What one end of a queue knows that is not in the queue's memory, as JSON has it: with a copy of the memory it is
 * enough to go on elsewhere (VHOST_GET_VRING_BASE and more: buffers under way are in it).
 */
export interface QueueState {
  readonly [field: string]: unknown;
}

/** Names a buffer between `addBuffer` and `getUsed`; unique among the buffers that are in the queue. */
export type BufferToken = number;

export type AddResult =
  | { readonly kind: 'added'; readonly token: BufferToken }
  /** No free descriptors (or no memory for an indirect table): try again after `getUsed`. */
  | { readonly kind: 'full' }
  | { readonly kind: 'violation'; readonly violation: DeviceViolation };

export type UsedResult =
  | {
      readonly kind: 'used';
      readonly token: BufferToken;
      /** Bytes the device says it wrote, from the first writable byte on; at most the buffer's writable bytes. */
      readonly written: number;
    }
  | { readonly kind: 'empty' }
  | { readonly kind: 'violation'; readonly violation: DeviceViolation };

/** The driver's side of one virtqueue. */
export interface DriverQueue {
  /** Entries. */
  readonly size: number;
  /** Descriptors that are free. */
  readonly freeDescriptors: number;
  /** What broke the queue, if anything did. */
  readonly violation: DeviceViolation | undefined;
  /**
   * Writes a buffer into the descriptor table; the device does not see it before {@link publish}.
   * @throws XdpbedError `virtio-violation` for a request that the specification forbids
   */
  addBuffer(request: BufferRequest): AddResult;
  /** As {@link addBuffer}, of one part in a descriptor of its own: what a frame takes. */
  addPart(part: BufferPart, writable: boolean): AddResult;
  /** Exposes everything added so far. Follow it by {@link shouldKick}. */
  publish(): void;
  /** Whether the device wants to hear of what was published since the last call. */
  shouldKick(): boolean;
  /** Takes the next buffer that the device has finished with. */
  getUsed(): UsedResult;
  /** Asks for interrupts again. `true`: used buffers are waiting, so call `getUsed` and do not sleep. */
  enableInterrupts(): boolean;
  /** Advises the device that interrupts are not needed. */
  disableInterrupts(): void;
  /** Buffers that are in the queue, and how many bytes the device may write into each. */
  buffers(): readonly { readonly token: BufferToken; readonly writableBytes: number }[];
  /** What this end knows; buffers that are with the device stay there. */
  save(): QueueState;
  /**
   * Back to the state after construction: forgets every buffer and clears the queue in memory. Only after the
   * device (or its side of this queue) was reset, because until then it may still write to the buffers.
   */
  reset(): void;
}

export type PopResult =
  | { readonly kind: 'chain'; readonly chain: DescriptorChain }
  | { readonly kind: 'empty' }
  /** The device sets DEVICE_NEEDS_RESET. */
  | { readonly kind: 'violation'; readonly violation: DriverViolation };

/** The device's side of one virtqueue. No call throws, hangs or leaves guest memory, whatever the driver wrote. */
export interface DeviceQueue {
  /** Entries. */
  readonly size: number;
  /** Chains popped and not yet pushed. */
  readonly inFlight: number;
  /** What broke the queue, if anything did. */
  readonly violation: DriverViolation | undefined;
  /** Takes the next available chain: walks, checks and copies it once. */
  popChain(): PopResult;
  /**
   * Where the device-readable bytes of the chain that was popped last lie, for who looks at them in the guest's memory:
   * what is read there may be another thing than what `popChain` copied. Absent where nobody can.
   */
  readableParts?(): BufferPart[];
  /** Gives back the chain that was popped last, unused; it will be popped again. `false`: it was not the last. */
  unpop(chain: DescriptorChain): boolean;
  /** Returns a chain to the driver. `false`: the queue does not hold it (any more, after a reset). */
  pushUsed(chain: DescriptorChain): boolean;
  /** Returns several chains that become visible to the driver together, as merged receive buffers have to. */
  pushUsedBatch(chains: readonly DescriptorChain[]): boolean;
  /** Whether the driver wants to hear of what was pushed since the last call. */
  shouldInterrupt(): boolean;
  /** Asks for kicks again. `true`: chains are waiting, so call `popChain` and do not sleep. */
  enableKicks(): boolean;
  /** Advises the driver that kicks are not needed. */
  disableKicks(): void;
  /** What this end knows, chains that it holds included. */
  save(): QueueState;
  /** Chains popped and not yet pushed, oldest first: after a restoration, what is still to be answered. */
  held(): DescriptorChain[];
  /** Back to the state after construction; chains in flight are revoked and can no longer be written. */
  reset(): void;
}
