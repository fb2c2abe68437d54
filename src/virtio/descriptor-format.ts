/**
 * What descriptors of split (virtio 1.3, 2.7.5) and packed virtqueues (2.8.13) have in common. Little-endian:
 *
 * ```
 *        0               8        12             16
 *        | u64 addr      | u32 len| two u16      |
 * ```
 */

/** The chain continues. */
export const VIRTQ_DESC_F_NEXT = 1;
/** Device-writable; without it device-readable. */
export const VIRTQ_DESC_F_WRITE = 2;
/** The buffer is a table of descriptors. */
export const VIRTQ_DESC_F_INDIRECT = 4;

/** Bytes of a descriptor. */
export const DESCRIPTOR_BYTES = 16;
export const DESCRIPTOR_LENGTH = 8;
/** Entries of the largest queue, split or packed. */
export const MAX_QUEUE_SIZE = 32768;

/** Writes address and length of the descriptor that begins at `at`. */
export function writeElement(table: DataView, at: number, address: number, length: number): void {
  // The low half of any integer below 2^53 (ToUint32).
  table.setUint32(at, address >>> 0, true);
  table.setUint32(at + 4, Math.floor(address / 0x1_0000_0000), true);
  table.setUint32(at + DESCRIPTOR_LENGTH, length, true);
}

/** Exact below 2^53; above, rounded but still at or above 2^53 and so outside every guest memory. */
export function addressOf(high: number, low: number): number {
  return high * 0x1_0000_0000 + low;
}
