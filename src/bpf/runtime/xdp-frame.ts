import type { AddressSpace } from './address-space.js';

/**
 * A frame and its XDP context in the address space. The context the program sees comes first, so that the
 * slot's address is what R1 holds; behind it lies what the kernel keeps in `struct xdp_buff` and in
 * `struct bpf_redirect_info`, where a program cannot reach it.
 *
 * ```
 *   +0   struct xdp_md      24 bytes: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
 *   +24  u32 hard_start     address of the first byte of the headroom
 *   +28  u32 hard_end       one past the last byte that adjust_tail may grow to
 *   +32  u32 verdict        what the program returned (written by batch entry points)
 *   +36  u32 redirect_kind  0 none, 1 ifindex (bpf_redirect), 2 map (bpf_redirect_map)
 *   +40  u32 redirect_target  the ifindex, or the index/key's low word in the map
 *   +44  u32 redirect_map   address of the map, for kind 2
 *   +48  u32 redirect_flags low word of the helper's flags
 *   +52  u32 frags_length   bytes of the packet that follow its linear part; 0 for a frame in one buffer
 *   +56  u32 frags          where they lie, if there are any
 *   +60  u32 reserved
 *   +64  headroom, packet, tailroom: up to FRAME_SLOT_SIZE
 * ```
 *
 * A packet longer than MAX_FRAME_LENGTH is an XDP multi-buffer frame (include/net/xdp.h): its linear part, data to
 * data_end, is that long, and the rest lies in frags, out of the program's direct reach; helpers get there. What the
 * kernel has as `skb_shared_info`, a list of pages, is here one run of bytes in a region of its own (kind `frags`),
 * because every page but the last is always full: frames arrive so (net/bpf/test_run.c), the tail can only grow within
 * the last page and shrinks from the end. Page `i` of the kernel's is byte 4096 × i, the last page's free room is what
 * is missing to a multiple of 4096. Memory for it is set aside when a ring is opened for such frames (`FrameRing`).
 */
export const FRAME_SLOT = {
  hardStart: 24,
  hardEnd: 28,
  verdict: 32,
  redirectKind: 36,
  redirectTarget: 40,
  redirectMap: 44,
  redirectFlags: 48,
  fragsLength: 52,
  frags: 56,
  buffer: 64,
} as const;

export const REDIRECT_NONE = 0;
export const REDIRECT_IFINDEX = 1;
export const REDIRECT_MAP = 2;

/** Lower bits of bpf_redirect_map's flags: the action it returns when there is nothing under the key. */
export const REDIRECT_ACTION_MASK = 3;

/**
 * The largest packet that lies in one buffer on arrival, in bytes: one page less headroom and `skb_shared_info`, as in
 * the kernel. Programs without BPF_F_XDP_HAS_FRAGS take no longer one.
 */
export const MAX_FRAME_LENGTH = 3520;
/** Bytes of a frag: a page. */
export const FRAG_BYTES = 4096;
/** Frags of one frame at most (include/linux/skbuff.h, the default of CONFIG_MAX_SKB_FRAGS). */
export const MAX_SKB_FRAGS = 17;
/** The largest packet of all, in bytes, for programs with BPF_F_XDP_HAS_FRAGS. */
export const MAX_FRAGS_FRAME_LENGTH = MAX_FRAME_LENGTH + MAX_SKB_FRAGS * FRAG_BYTES;
/** Bytes behind the packet area that bpf_xdp_adjust_tail may not touch (kernel: `struct skb_shared_info`). */
const SKB_SHARED_INFO = 320;

/**
 * Bytes from one slot to the next in a ring. Not a power of two: slots 4096 bytes apart would all fall into
 * the same cache sets.
 */
export const FRAME_SLOT_SIZE = FRAME_SLOT.buffer + 4096 + 64;

/** Where in a slot a packet and its metadata may lie: from the first byte of headroom to the tailroom's last. */
export const PACKET_AREA = {
  start: FRAME_SLOT.buffer,
  end: FRAME_SLOT.buffer + 4096 - SKB_SHARED_INFO,
} as const;

/**
 * Address of the first byte of metadata, or of the packet if there is none, as the frame at `frame` has it; never
 * before the slot's room for it, whatever the context says.
 */
export function packetStart(i32: Int32Array, frame: number): number {
  return Math.max(i32[(frame >>> 2) + 2]! >>> 0, frame + PACKET_AREA.start);
}

/** One past the packet's last byte; never beyond the slot's room for it. */
export function packetEnd(i32: Int32Array, frame: number): number {
  return Math.min(i32[(frame >>> 2) + 1]! >>> 0, frame + PACKET_AREA.end);
}

/**
 * Whether metadata and packet lie in this order in the slot's room for them, whose bounds beside them hold too, and
 * the frags, if there are any, in a region that was made for frags. They do unless a program that a verifier wrongly
 * let pass wrote to its context: what is read from there is a length only after this.
 */
export function frameIntact(space: AddressSpace, frame: number): boolean {
  const { i32 } = space;
  const word = frame >>> 2;
  const data = i32[word]! >>> 0;
  const dataEnd = i32[word + 1]! >>> 0;
  const dataMeta = i32[word + 2]! >>> 0;
  return (
    i32[word + 6]! >>> 0 === frame + PACKET_AREA.start &&
    i32[word + 7]! >>> 0 === frame + PACKET_AREA.end &&
    frame + PACKET_AREA.start <= dataMeta &&
    dataMeta <= data &&
    data <= dataEnd &&
    dataEnd <= frame + PACKET_AREA.end &&
    (i32[word + 13] === 0 || fragsIntact(space, i32[word + 13]! >>> 0, i32[word + 14]! >>> 0))
  );
}

function fragsIntact(space: AddressSpace, length: number, frags: number): boolean {
  const region = space.regionAt(frags);
  return (
    region?.kind === 'frags' &&
    length <= MAX_SKB_FRAGS * FRAG_BYTES &&
    frags + fragsRoom(length) <= region.start + region.size
  );
}

/** Bytes of the pages that so many bytes in frags take: how far the tail can grow. */
export function fragsRoom(length: number): number {
  return Math.ceil(length / FRAG_BYTES) * FRAG_BYTES;
}
