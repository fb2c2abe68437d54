/**
 * The ways in which one side of a virtqueue can break the rules, as the other side finds them.
 *
 * A violation is a value, never an exception: the peer is not trusted, so a broken rule is an expected
 * outcome. The reason names are stable; counters, audit records and tests match on them.
 */

/** What a device can find wrong with what the driver wrote. The sections are those of virtio 1.3. */
export const DRIVER_VIOLATIONS = {
  'queue-size-invalid': 'the queue size is not from 1 to 32768, or, split, no power of two (2.7, 2.8)',
  'queue-misaligned':
    'a part of the virtqueue is not aligned: 16, 2 and 4 bytes, or, packed, 16, 4 and 4 (2.7.1, 2.8.10.1)',
  'queue-outside-memory': 'a part of the virtqueue is not in guest memory',
  'avail-idx-jump': 'the avail idx runs ahead of the device by more than the queue size (2.7.13)',
  'head-out-of-range': 'an avail ring entry is no index of the descriptor table (2.7.6)',
  'head-in-flight': 'an avail ring entry names a chain that the device has not returned yet (2.7.13)',
  'buffer-id-out-of-range': 'a buffer ID of a packed queue is not below the queue size (2.8.21.1)',
  'buffer-id-in-flight':
    'a buffer ID of a packed queue is one that the device has not returned yet (2.8.21.1)',
  'list-not-available': 'a descriptor that NEXT leads to in a packed queue is not available (2.8.6)',
  'ring-overrun': 'descriptors of a packed queue are available anew before the device used them (2.8.16)',
  'next-out-of-range': 'a next field is no index of its descriptor table (2.7.5)',
  'descriptor-loop': 'a chain visits more descriptors than its table holds, so it loops (2.7.5.2)',
  'chain-too-long': 'a chain is longer than the queue size (2.7.5.3.1, 2.8.17)',
  'indirect-not-negotiated': 'INDIRECT is set, VIRTIO_F_INDIRECT_DESC is not negotiated (2.7.5.3.1, 2.8.19)',
  'indirect-nested': 'INDIRECT is set within an indirect table (2.7.5.3.1)',
  'indirect-with-next':
    'INDIRECT and NEXT are both set (2.7.5.3.1), or, packed, a list has INDIRECT (2.8.19)',
  'indirect-length-invalid': 'the length of an indirect table is zero or no multiple of 16 (2.7.5.3, 2.8.7)',
  'zero-length': 'a descriptor has no bytes (2.7.13.1)',
  'readable-after-writable': 'a device-readable descriptor follows a device-writable one (2.7.4.2, 2.8.17)',
  'address-overflow': 'address plus length of a descriptor wraps 2^64 (2.7.5)',
  'address-outside-memory': 'a descriptor or an indirect table is not in guest memory (2.7.5)',
  'chain-bytes-over-limit': 'a chain has more bytes than the device takes (2.7.4.1)',
  'state-invalid': 'the queue cannot go on from the state that was saved of it',
} as const;

export type DriverViolationReason = keyof typeof DRIVER_VIOLATIONS;

/** What a driver can find wrong with what the device wrote. The sections are those of virtio 1.3. */
export const DEVICE_VIOLATIONS = {
  'used-idx-jump': 'the used idx runs ahead by more than the buffers the device holds (2.7.8)',
  'used-id-out-of-range': 'a used element names no descriptor of the table (2.7.8, 2.8.22)',
  'used-id-not-outstanding': 'a used element names a buffer that the device does not hold (2.7.8, 2.8.22)',
  'used-len-over-writable': 'a used element claims more bytes than the buffer has writable (2.7.8.2, 2.8.4)',
} as const;

export type DeviceViolationReason = keyof typeof DEVICE_VIOLATIONS;

/** One broken rule. */
export interface Violation<Reason extends string> {
  /** Stable name. */
  readonly reason: Reason;
  /** Lower-case, with the thing and the limit: `avail idx 900 is 900 ahead, the queue size is 256`. */
  readonly message: string;
}

export type DriverViolation = Violation<DriverViolationReason>;
export type DeviceViolation = Violation<DeviceViolationReason>;
