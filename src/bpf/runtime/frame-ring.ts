import { MAX_METADATA_LENGTH, XDP_ABORTED, XDP_PACKET_HEADROOM } from '../xdp.js';
import { XdpbedError } from '../../core/diagnostic.js';
import type { AddressSpace, Region } from './address-space.js';
import type { BpfMap } from './bpf-map.js';
import {
  FRAME_SLOT,
  REDIRECT_NONE,
  REDIRECT_IFINDEX,
  REDIRECT_MAP,
  MAX_FRAME_LENGTH,
  FRAME_SLOT_SIZE,
  PACKET_AREA,
  frameIntact,
} from './xdp-frame.js';

/** What a frame comes with besides its bytes: what `struct xdp_md` says of where from, and what lies before them. */
export interface FrameMetadata {
  readonly ingressIfindex?: number;
  readonly rxQueueIndex?: number;
  readonly egressIfindex?: number;
  /** From data_meta to data, as a driver may put there: a multiple of 4 bytes, MAX_METADATA_LENGTH at most. */
  readonly dataMeta?: Uint8Array;
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
   * for a frame longer than MAX_FRAME_LENGTH, and for metadata of a length that there cannot be.
   */
  load(index: number, frame: Uint8Array, metadata: FrameMetadata = {}): void {
    if (frame.length > MAX_FRAME_LENGTH) {
      throw new XdpbedError(
        'packet-invalid',
        `a frame of ${frame.length} bytes exceeds the limit of ${MAX_FRAME_LENGTH}`,
      );
    }
    const { dataMeta } = metadata;
    const metaLength = dataMeta?.length ?? 0;
    if (metaLength % 4 !== 0 || metaLength > MAX_METADATA_LENGTH) {
      throw new XdpbedError(
        'packet-invalid',
        `metadata of ${metaLength} bytes: it is a multiple of 4, ${MAX_METADATA_LENGTH} at most`,
      );
    }
    const { i32, u8 } = this.space;
    const at = this.address(index);
    const word = at >> 2;
    const hardStart = at + FRAME_SLOT.buffer;
    const data = hardStart + XDP_PACKET_HEADROOM;
    u8.set(frame, data);
    if (dataMeta !== undefined) u8.set(dataMeta, data - metaLength);
    i32[word] = data;
    i32[word + 1] = data + frame.length;
    i32[word + 2] = data - metaLength;
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
