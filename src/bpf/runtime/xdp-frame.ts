import { XDP_ABORTED, XDP_PACKET_HEADROOM } from '../xdp.js';
import { XdpbedError } from '../../core/diagnostic.js';
import type { AddressSpace, Region } from './address-space.js';
import type { BpfMap } from './bpf-map.js';

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
 *   +52  u32 reserved (3 ×)
 *   +64  headroom, packet, tailroom: up to FRAME_SLOT_SIZE
 * ```
 */
export const FRAME_SLOT = {
  hardStart: 24,
  hardEnd: 28,
  verdict: 32,
  redirectKind: 36,
  redirectTarget: 40,
  redirectMap: 44,
  redirectFlags: 48,
  buffer: 64,
} as const;

export const REDIRECT_NONE = 0;
export const REDIRECT_IFINDEX = 1;
export const REDIRECT_MAP = 2;

/** The largest packet a slot takes on arrival: one page less headroom and `skb_shared_info`, as in the kernel. */
export const MAX_FRAME_LENGTH = 3520;
/** Bytes behind the packet area that bpf_xdp_adjust_tail may not touch (kernel: `struct skb_shared_info`). */
const SKB_SHARED_INFO = 320;

/**
 * Bytes from one slot to the next in a ring. Not a power of two: slots 4096 bytes apart would all fall into
 * the same cache sets.
 */
export const FRAME_SLOT_SIZE = FRAME_SLOT.buffer + 4096 + 64;

/** Where in a slot a packet and its metadata may lie: from the first byte of headroom to the tailroom's last. */
const PACKET_AREA = { start: FRAME_SLOT.buffer, end: FRAME_SLOT.buffer + 4096 - SKB_SHARED_INFO } as const;

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
 * Whether metadata and packet lie in this order in the slot's room for them, whose bounds beside them hold too.
 * They do unless a program that a
 * verifier wrongly let pass wrote to its context: what is read from there is a length only after this.
 */
export function frameIntact(i32: Int32Array, frame: number): boolean {
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
    dataEnd <= frame + PACKET_AREA.end
  );
}

/** What `struct xdp_md` says of where a frame came from. */
export interface FrameMetadata {
  readonly ingressIfindex?: number;
  readonly rxQueueIndex?: number;
  readonly egressIfindex?: number;
}

const NO_MAPS: ReadonlyMap<number, BpfMap> = new Map();

/**
 * A ring of frame slots. A single program run uses slot 0; batch runs fill as many as they like.
 */
export class FrameRing {
  readonly region: Region;

  constructor(
    readonly space: AddressSpace,
    readonly slots: number,
    /** Maps by their address, to tell which one a redirect names. */
    readonly maps: ReadonlyMap<number, BpfMap> = NO_MAPS,
  ) {
    this.region = space.allocate(slots * FRAME_SLOT_SIZE, {
      kind: 'packet',
      label: 'a frame',
      access: 'read-write',
    });
  }

  /** The address of slot `index`: the context pointer for R1. */
  address(index: number): number {
    return this.region.start + index * FRAME_SLOT_SIZE;
  }

  /**
   * Places a frame in a slot with full headroom and resets context and redirect state. Throws `packet-invalid`
   * for a frame longer than MAX_FRAME_LENGTH.
   */
  load(index: number, frame: Uint8Array, metadata: FrameMetadata = {}): void {
    if (frame.length > MAX_FRAME_LENGTH) {
      throw new XdpbedError(
        'packet-invalid',
        `a frame of ${frame.length} bytes exceeds the limit of ${MAX_FRAME_LENGTH}`,
      );
    }
    const { i32, u8 } = this.space;
    const at = this.address(index);
    const word = at >> 2;
    const hardStart = at + FRAME_SLOT.buffer;
    const data = hardStart + XDP_PACKET_HEADROOM;
    u8.set(frame, data);
    i32[word] = data;
    i32[word + 1] = data + frame.length;
    i32[word + 2] = data;
    i32[word + 3] = metadata.ingressIfindex ?? 0;
    i32[word + 4] = metadata.rxQueueIndex ?? 0;
    i32[word + 5] = metadata.egressIfindex ?? 0;
    i32[word + 6] = hardStart;
    i32[word + 7] = at + PACKET_AREA.end;
    i32.fill(0, word + 8, word + 16);
  }

  /** Whether the context still describes a packet in its slot; see `frameIntact`. */
  intact(index: number): boolean {
    return frameIntact(this.space.i32, this.address(index));
  }

  /** The packet as it lies now, a copy; empty for a frame that is not intact. */
  packet(index: number): Uint8Array {
    if (!this.intact(index)) return new Uint8Array();
    const word = this.address(index) >> 2;
    return this.space.read(this.space.i32[word]! >>> 0, this.space.i32[word + 1]! - this.space.i32[word]!);
  }

  /** The metadata in front of the packet (bpf_xdp_adjust_meta), a copy; empty when there is none, as above. */
  metadata(index: number): Uint8Array {
    if (!this.intact(index)) return new Uint8Array();
    const word = this.address(index) >> 2;
    const meta = this.space.i32[word + 2]! >>> 0;
    return this.space.read(meta, this.space.i32[word]! - (meta | 0));
  }

  /** What the program returned; XDP_ABORTED for a frame that is not intact. */
  verdict(index: number): number {
    if (!this.intact(index)) return XDP_ABORTED;
    return this.space.i32[(this.address(index) + FRAME_SLOT.verdict) >> 2]! >>> 0;
  }

  redirect(index: number): FrameRedirect {
    const { kind, target, mapAddress, flags } = this.redirectWords(index);
    switch (kind) {
      case REDIRECT_IFINDEX:
        return { kind: 'ifindex', ifindex: target, flags };
      case REDIRECT_MAP:
        return { kind: 'map', map: this.maps.get(mapAddress), index: target, flags };
      default:
        return { kind: 'none' };
    }
  }

  redirectWords(index: number): RedirectWords {
    const word = (this.address(index) + FRAME_SLOT.redirectKind) >> 2;
    const { i32 } = this.space;
    const kind = i32[word]!;
    return {
      kind: kind === REDIRECT_IFINDEX || kind === REDIRECT_MAP ? kind : REDIRECT_NONE,
      target: i32[word + 1]! >>> 0,
      mapAddress: i32[word + 2]! >>> 0,
      flags: i32[word + 3]! >>> 0,
    };
  }

  close(): void {
    this.space.free(this.region);
  }
}

/** What bpf_redirect or bpf_redirect_map left behind; it counts only when the verdict is XDP_REDIRECT. */
export type FrameRedirect =
  | { readonly kind: 'none' }
  /** bpf_redirect */
  | { readonly kind: 'ifindex'; readonly ifindex: number; readonly flags: number }
  /** bpf_redirect_map: an index, or the first word of a hash key; the map is undefined when it is gone. */
  | {
      readonly kind: 'map';
      readonly map: BpfMap | undefined;
      readonly index: number;
      readonly flags: number;
    };

/** The same as it lies in the slot. */
export interface RedirectWords {
  readonly kind: 0 | 1 | 2;
  readonly target: number;
  readonly mapAddress: number;
  readonly flags: number;
}
