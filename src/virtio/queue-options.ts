import type { GuestAllocator } from './guest-memory.js';

/** What a driver's end of a queue goes by, whatever the format. */
export interface DriverQueueOptions {
  /** VIRTIO_F_EVENT_IDX is negotiated. */
  readonly eventIdx?: boolean;
  /** VIRTIO_F_INDIRECT_DESC is negotiated: where the tables come from. Without it there are none. */
  readonly indirectTables?: GuestAllocator | undefined;
}

/** What a device's end of a queue goes by, whatever the format. */
export interface DeviceQueueOptions {
  /** VIRTIO_F_EVENT_IDX is negotiated. */
  readonly eventIdx?: boolean;
  /** VIRTIO_F_INDIRECT_DESC is negotiated. */
  readonly indirect?: boolean;
  /** Readable and writable bytes of one chain together; default {@link DEFAULT_MAX_CHAIN_BYTES}. */
  readonly maxChainBytes?: number;
}

/** What a device takes in one chain unless it says otherwise: a 64 KiB GSO frame many times over. */
export const DEFAULT_MAX_CHAIN_BYTES = 1 << 20;

/** No more than the length in a used descriptor can say, whatever the option. */
export function chainBytesLimit(maxChainBytes: number = DEFAULT_MAX_CHAIN_BYTES): number {
  return Math.min(maxChainBytes, 0xffff_ffff);
}
