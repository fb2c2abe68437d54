/**
 * The split virtqueue in memory (virtio 1.3, 2.7). All fields are little-endian.
 *
 * ```
 *   descriptor table: `size` entries of 16 bytes, aligned to 16, written by the driver
 *        0               8        12       14       16
 *        | u64 addr      | u32 len| u16    | u16    |
 *        |               |        | flags  | next   |
 *
 *   avail ring: 6 + 2 × size bytes, aligned to 2, written by the driver
 *        0      2      4                     4 + 2 × size
 *        | u16  | u16  | u16 ring[size]      | u16        |
 *        | flags| idx  | heads               | used_event |
 *
 *   used ring: 6 + 8 × size bytes, aligned to 4, written by the device
 *        0      2      4                              4 + 8 × size
 *        | u16  | u16  | { u32 id, u32 len }[size]    | u16         |
 *        | flags| idx  |                              | avail_event |
 * ```
 *
 * `idx` counts entries modulo 2^16 and is taken modulo `size` to find the slot. `used_event` and
 * `avail_event` mean something only with VIRTIO_F_EVENT_IDX, but their bytes are always part of the rings.
 */

import { DESCRIPTOR_BYTES, MAX_QUEUE_SIZE } from './descriptor-format.js';
import { type GuestMemory, isPowerOfTwo, roundUp } from './guest-memory.js';
import type { DriverViolation, DriverViolationReason } from './violation.js';

/** In `avail.flags`: the driver does not need interrupts. */
export const VIRTQ_AVAIL_F_NO_INTERRUPT = 1;
/** In `used.flags`: the device does not need kicks. */
export const VIRTQ_USED_F_NO_NOTIFY = 1;

/** Offsets in a descriptor. */
export const DESCRIPTOR_FLAGS = 12;
export const DESCRIPTOR_NEXT = 14;

/** Offsets that avail and used ring share. */
export const RING_FLAGS = 0;
export const RING_IDX = 2;
export const RING_ENTRIES = 4;

/** Bytes of an avail ring entry and of a used ring element. */
export const AVAIL_ENTRY_BYTES = 2;
export const USED_ELEMENT_BYTES = 8;

/** Where a split virtqueue lies: three guest-physical addresses and the number of entries. */
export interface SplitLayout {
  /** Entries; a power of two up to {@link MAX_QUEUE_SIZE}. */
  readonly size: number;
  readonly descriptorTable: number | bigint;
  readonly availRing: number | bigint;
  readonly usedRing: number | bigint;
}

/** The parts of a virtqueue in shared memory, each bounded to exactly its bytes. */
export interface SplitRings {
  readonly size: number;
  readonly descriptors: DataView;
  readonly avail: DataView;
  readonly used: DataView;
}

/** Bytes that a queue of `size` entries takes when its parts lie one after the other ({@link splitLayoutAt}). */
export function splitLayoutBytes(size: number): number {
  return Number(splitLayoutAt(0, size).usedRing) + RING_ENTRIES + USED_ELEMENT_BYTES * size + 2;
}

/** The layout whose parts lie one after the other from `address`, which is a multiple of 16. */
export function splitLayoutAt(address: number, size: number): SplitLayout {
  const availRing = address + DESCRIPTOR_BYTES * size;
  const availEnd = availRing + RING_ENTRIES + AVAIL_ENTRY_BYTES * size + 2;
  return { size, descriptorTable: address, availRing, usedRing: roundUp(availEnd, 4) };
}

/**
 * Checks a layout that a driver has set and opens its parts.
 * Violations: `queue-size-invalid`, `queue-misaligned`, `queue-outside-memory`.
 */
export function openSplitRings(
  memory: GuestMemory,
  layout: SplitLayout,
):
  | { readonly ok: true; readonly rings: SplitRings }
  | { readonly ok: false; readonly violation: DriverViolation } {
  const { size } = layout;
  if (!isPowerOfTwo(size) || size > MAX_QUEUE_SIZE) {
    return refuse(
      'queue-size-invalid',
      `queue size ${size} is not a power of two from 1 to ${MAX_QUEUE_SIZE}`,
    );
  }
  const views: DataView[] = [];
  for (const [name, address, alignment, length] of [
    ['descriptor table', layout.descriptorTable, 16, DESCRIPTOR_BYTES * size],
    ['avail ring', layout.availRing, 2, RING_ENTRIES + AVAIL_ENTRY_BYTES * size + 2],
    ['used ring', layout.usedRing, 4, RING_ENTRIES + USED_ELEMENT_BYTES * size + 2],
  ] as const) {
    const view = memory.window(address, length);
    if (view === undefined) {
      return refuse('queue-outside-memory', `${name}: ${length} bytes at ${hex(address)} are outside memory`);
    }
    // In range, so Number is exact here.
    if (Number(address) % alignment !== 0) {
      return refuse('queue-misaligned', `${name} at ${hex(address)} is not aligned to ${alignment} bytes`);
    }
    views.push(view);
  }
  const [descriptors, avail, used] = views as [DataView, DataView, DataView];
  return { ok: true, rings: { size, descriptors, avail, used } };
}

/**
 * Whether an event index asks for a notification (virtio 1.3, 2.7.7.2 and 2.7.10.1): whether, among the last
 * `count` entries before `idx`, there is the one with index `event`. All indices are modulo 2^16.
 */
export function crossedEvent(event: number, idx: number, count: number): boolean {
  // `count` is not taken modulo 2^16: beyond that many entries every index has been passed.
  return ((idx - event - 1) & 0xffff) < count;
}

function refuse(
  reason: DriverViolationReason,
  message: string,
): { readonly ok: false; readonly violation: DriverViolation } {
  return { ok: false, violation: { reason, message } };
}

function hex(address: number | bigint): string {
  return `0x${address.toString(16)}`;
}
