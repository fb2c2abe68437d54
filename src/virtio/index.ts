/**
 * virtio as far as a network device with XDP offload needs it (virtio 1.3 and RFC 2019): feature bits, split
 * and packed virtqueues of both sides in a guest's memory, the net header and configuration, and the control commands.
 *
 * Pure: no I/O, no clock, no dependency on the rest of xdpbed but its error class.
 */

export * from './control.js';
export * from './copying-driver.js';
export { ChainWriter, DescriptorChain } from './descriptor-chain.js';
export {
  MAX_QUEUE_SIZE,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from './descriptor-format.js';
export * from './device-status.js';
export * from './features.js';
export { GuestAllocator, GuestMemory } from './guest-memory.js';
export * from './net-link/control-link.js';
export * from './net-link/control-link-channel.js';
export * from './net-link/net-link.js';
export { UnguardedControlChain } from './net-link/unguarded-control-chain.js';
export * from './net-config.js';
export * from './net-header.js';
export * from './packed-device-queue.js';
export * from './packed-driver-queue.js';
export {
  packedLayoutAt,
  packedLayoutBytes,
  RING_EVENT_FLAGS_DESC,
  RING_EVENT_FLAGS_DISABLE,
  RING_EVENT_FLAGS_ENABLE,
  VIRTQ_DESC_F_AVAIL,
  VIRTQ_DESC_F_USED,
  type PackedLayout,
} from './packed-layout.js';
export * from './queue-format.js';
export * from './queue-options.js';
export * from './serial-link/byte-queue.js';
export * from './serial-link/serial-control-device.js';
export * from './serial-link/serial-control-driver.js';
export * from './serial-link/serial-messages.js';
export * from './split-device-queue.js';
export * from './split-driver-queue.js';
export {
  type SplitLayout,
  splitLayoutAt,
  splitLayoutBytes,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
} from './split-layout.js';
export * from './violation.js';
export * from './virtqueue.js';
