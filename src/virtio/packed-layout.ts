/**
 * The packed virtqueue in memory (virtio 1.3, 2.8). All fields are little-endian.
 *
 * ```
 *   descriptor ring: `size` entries of 16 bytes, aligned to 16, written by both sides
 *        0               8        12       14       16
 *        | u64 addr      | u32 len| u16 id | u16    |
 *        |               |        |        | flags  |
 *
 *   driver event suppression, written by the driver; device event suppression, written by the device:
 *   4 bytes each, aligned to 4
 *        0                 2                 4
 *        | u16 desc        | u16 flags       |
 *        | off 15, wrap 1  | 2, reserved 14  |
 * ```
 *
 * Both sides go round the ring and count the rounds in one bit, their ring wrap counter, which begins as 1. The driver
 * makes a descriptor available by setting AVAIL to its counter and USED to the inverse; the device marks one used by
 * setting both to its own. A buffer of several descriptors is one used descriptor; the device skips the rest.
 *
 * A *position* is an offset and a wrap counter in one: 0 to `size` - 1 while the counter is 1, `size` to 2 × `size` - 1
 * while it is 0, and then 0 again.
 */

import { DESCRIPTOR_BYTES, MAX_QUEUE_SIZE } from './descriptor-format.js';
import type { GuestMemory } from './guest-memory.js';
import type { DriverViolation, DriverViolationReason } from './violation.js';

/** In `flags` of a descriptor. */
export const VIRTQ_DESC_F_AVAIL = 1 << 7;
export const VIRTQ_DESC_F_USED = 1 << 15;
/** Both: what tells whose a descriptor is. */
export const DESCRIPTOR_OWNER = VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED;

/** Events are wanted. */
export const RING_EVENT_FLAGS_ENABLE = 0;
export const RING_EVENT_FLAGS_DISABLE = 1;
/** Events are wanted for one descriptor; only with VIRTIO_F_EVENT_IDX. */
export const RING_EVENT_FLAGS_DESC = 2;
const RING_EVENT_FLAGS = 3;

/** Offsets in a descriptor of a packed queue. */
export const DESCRIPTOR_ID = 12;
export const DESCRIPTOR_FLAGS = 14;
/** Bytes of an event suppression structure. */
const EVENT_BYTES = 4;
const EVENT_DESC = 0;
const EVENT_FLAGS = 2;

/** Where a packed virtqueue lies: three guest-physical addresses and the number of entries. */
export interface PackedLayout {
  /** Entries; from 1 to MAX_QUEUE_SIZE, not necessarily a power of two. */
  readonly size: number;
  readonly descriptorRing: number | bigint;
  readonly driverEvent: number | bigint;
  readonly deviceEvent: number | bigint;
}

/** The parts of a packed virtqueue in shared memory, each bounded to exactly its bytes. */
export interface PackedRings {
  readonly size: number;
  readonly descriptors: DataView;
  readonly driverEvent: DataView;
  readonly deviceEvent: DataView;
}

/** Bytes that a queue of `size` entries takes when its parts lie one after the other ({@link packedLayoutAt}). */
export function packedLayoutBytes(size: number): number {
  return DESCRIPTOR_BYTES * size + 2 * EVENT_BYTES;
}

/** The layout whose parts lie one after the other from `address`, which is a multiple of 16. */
export function packedLayoutAt(address: number, size: number): PackedLayout {
  const driverEvent = address + DESCRIPTOR_BYTES * size;
  return { size, descriptorRing: address, driverEvent, deviceEvent: driverEvent + EVENT_BYTES };
}

/**
 * Checks a layout that a driver has set and opens its parts.
 * Violations: `queue-size-invalid`, `queue-misaligned`, `queue-outside-memory`.
 */
export function openPackedRings(
  memory: GuestMemory,
  layout: PackedLayout,
):
  | { readonly ok: true; readonly rings: PackedRings }
  | { readonly ok: false; readonly violation: DriverViolation } {
  const { size } = layout;
  if (!Number.isInteger(size) || size < 1 || size > MAX_QUEUE_SIZE) {
    return refuse('queue-size-invalid', `queue size ${size} is not from 1 to ${MAX_QUEUE_SIZE}`);
  }
  const views: DataView[] = [];
  for (const [name, address, alignment, length] of [
    ['descriptor ring', layout.descriptorRing, 16, DESCRIPTOR_BYTES * size],
    ['driver event suppression', layout.driverEvent, 4, EVENT_BYTES],
    ['device event suppression', layout.deviceEvent, 4, EVENT_BYTES],
  ] as const) {
    const view = memory.window(address, length);
    if (view === undefined) {
      return refuse(
        'queue-outside-memory',
        `${name}: ${length} bytes at 0x${address.toString(16)} are outside memory`,
      );
    }
    // In range, so Number is exact here.
    if (Number(address) % alignment !== 0) {
      return refuse(
        'queue-misaligned',
        `${name} at 0x${address.toString(16)} is not aligned to ${alignment} bytes`,
      );
    }
    views.push(view);
  }
  const [descriptors, driverEvent, deviceEvent] = views as [DataView, DataView, DataView];
  return { ok: true, rings: { size, descriptors, driverEvent, deviceEvent } };
}

/** The position `count` descriptors on, or back where it is negative; at most a round. */
export function advance(position: number, count: number, size: number): number {
  const sum = position + count;
  if (sum < 0) return sum + 2 * size;
  return sum < 2 * size ? sum : sum - 2 * size;
}

/** Descriptors from one position on to another. */
export function distance(from: number, to: number, size: number): number {
  return to < from ? to - from + 2 * size : to - from;
}

/** Offset of the first byte of the descriptor at a position. */
export function descriptorAt(position: number, size: number): number {
  return DESCRIPTOR_BYTES * (position < size ? position : position - size);
}

/** AVAIL and USED of a descriptor that the driver has made available. */
export function availableFlags(position: number, size: number): number {
  return position < size ? VIRTQ_DESC_F_AVAIL : VIRTQ_DESC_F_USED;
}

/** AVAIL and USED of a descriptor that the device has used. */
export function usedFlags(position: number, size: number): number {
  return position < size ? DESCRIPTOR_OWNER : 0;
}

/** Asks for events: for the descriptor at `position` when there are such, else for all. */
export function enableEvents(event: DataView, eventIdx: boolean, position: number, size: number): void {
  if (eventIdx) event.setUint16(EVENT_DESC, position < size ? position | 0x8000 : position - size, true);
  // What the flags refer to comes first. (One thread: no barrier needed.)
  event.setUint16(EVENT_FLAGS, eventIdx ? RING_EVENT_FLAGS_DESC : RING_EVENT_FLAGS_ENABLE, true);
}

export function disableEvents(event: DataView): void {
  event.setUint16(EVENT_FLAGS, RING_EVENT_FLAGS_DISABLE, true);
}

/**
 * Whether the other side, whose structure this is, wants to hear of the last `count` descriptors before `position`.
 *
 * What the specification reserves, and an offset that the ring does not have, suppress nothing: a notification too
 * many is allowed, one too few is not.
 */
export function wantsEvent(
  event: DataView,
  eventIdx: boolean,
  position: number,
  count: number,
  size: number,
): boolean {
  const flags = event.getUint16(EVENT_FLAGS, true) & RING_EVENT_FLAGS;
  if (flags === RING_EVENT_FLAGS_DISABLE) return false;
  if (flags !== RING_EVENT_FLAGS_DESC || !eventIdx) return true;
  const wanted = event.getUint16(EVENT_DESC, true);
  const offset = wanted & 0x7fff;
  if (offset >= size) return true;
  const at = (wanted & 0x8000) === 0 ? offset + size : offset;
  // Whether the wanted one is among the last `count`: how far behind the last of them it is. Those are more than
  // there are positions when nobody has looked for long, and then it was passed.
  const last = advance(position, -1, size);
  return distance(at, last, size) < count;
}

function refuse(
  reason: DriverViolationReason,
  message: string,
): { readonly ok: false; readonly violation: DriverViolation } {
  return { ok: false, violation: { reason, message } };
}
