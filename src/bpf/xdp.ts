/** XDP return codes (`enum xdp_action`, include/uapi/linux/bpf.h). Any other value is treated as XDP_ABORTED. */
export const XDP_ABORTED = 0;
export const XDP_DROP = 1;
export const XDP_PASS = 2;
export const XDP_TX = 3;
export const XDP_REDIRECT = 4;

export const XDP_ACTION_NAMES = ['XDP_ABORTED', 'XDP_DROP', 'XDP_PASS', 'XDP_TX', 'XDP_REDIRECT'] as const;
export type XdpActionName = (typeof XDP_ACTION_NAMES)[number];

/** The name of what a program returned in the lower 32 bits of R0. */
export function xdpActionName(verdict: number): XdpActionName {
  return XDP_ACTION_NAMES[verdict] ?? 'XDP_ABORTED';
}

/** Headroom in front of a frame in bytes (kernel XDP_PACKET_HEADROOM). */
export const XDP_PACKET_HEADROOM = 256;
/** Bytes at the start of the headroom that adjust_head and adjust_meta must leave (`sizeof(struct xdp_frame)`). */
export const XDP_FRAME_RESERVED = 40;

/** The longest metadata in front of a packet that arrives, in bytes: what is left of the headroom. */
export const MAX_METADATA_LENGTH = XDP_PACKET_HEADROOM - XDP_FRAME_RESERVED;

/** Byte offsets of `struct xdp_md`, the context of an XDP program; six u32 fields. */
export const XDP_MD = {
  data: 0,
  data_end: 4,
  data_meta: 8,
  ingress_ifindex: 12,
  rx_queue_index: 16,
  egress_ifindex: 20,
} as const;
export const XDP_MD_SIZE = 24;
