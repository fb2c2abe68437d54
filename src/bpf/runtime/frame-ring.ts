import type { Program } from '../program.js';
import { MAX_METADATA_LENGTH, XDP_ABORTED, XDP_PACKET_HEADROOM } from '../xdp.js';
import { XdpbedError } from '../../core/diagnostic.js';
import { freshCopyFrom, type Memory } from '../../core/fresh-bytes.js';
import type { AddressSpace, Region } from './address-space.js';
import type { BpfMap } from './bpf-map.js';
import type { BpfRuntime } from './bpf-runtime.js';
import { frameLength, readFrame } from './frame-bytes.js';
import {
  FRAME_SLOT,
  REDIRECT_NONE,
  REDIRECT_IFINDEX,
  REDIRECT_MAP,
  MAX_FRAGS_FRAME_LENGTH,
  MAX_FRAME_LENGTH,
  FRAME_SLOT_SIZE,
  PACKET_AREA,
  frameIntact,
  fragsRoom,
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
 * A ring of frame slots. A single program run uses slot 0; batch runs fill as many as they like. Where frames of more
 * than one buffer are to be expected, the slots' frags are a second region: `slots` times as many pages as the longest
 * frame needs beside its linear part.
 */
export class FrameRing {
  readonly region: Region;
  /** Bytes of the longest frame that a slot takes. */
  readonly longestFrame: number;
  readonly #memory: Memory;
  readonly #frags: Region | undefined;
  /** Bytes of one slot's frags. */
  readonly #fragsSize: number;

  /**
   * @param longest bytes of the longest frame to be expected; MAX_FRAGS_FRAME_LENGTH is the most
   * @throws XdpbedError `out-of-memory`
   */
  constructor(
    readonly space: AddressSpace,
    readonly slots: number,
    /** Maps by their address, to tell which one a redirect names. */
    readonly maps: ReadonlyMap<number, BpfMap> = NO_MAPS,
    longest = MAX_FRAME_LENGTH,
  ) {
    this.#fragsSize = fragsRoom(Math.max(0, Math.min(longest, MAX_FRAGS_FRAME_LENGTH) - MAX_FRAME_LENGTH));
    this.longestFrame = MAX_FRAME_LENGTH + this.#fragsSize;
    this.#memory = { bytes: space.u8, words: space.i32 };
    this.region = space.allocate(slots * FRAME_SLOT_SIZE, {
      kind: 'packet',
      label: 'a frame',
      access: 'read-write',
    });
    if (this.#fragsSize === 0) return;
    try {
      this.#frags = space.allocate(slots * this.#fragsSize, {
        kind: 'frags',
        label: 'the frags of a frame',
        access: 'none',
      });
    } catch (error) {
      space.free(this.region);
      throw error;
    }
  }

  /** The address of slot `index`: the context pointer for R1. */
  address(index: number): number {
    return this.region.start + index * FRAME_SLOT_SIZE;
  }

  /**
   * Places a frame in a slot with full headroom and resets context and redirect state. Throws `packet-invalid`
   * for a frame longer than `longestFrame`, and for metadata of a length that there cannot be.
   */
  load(index: number, frame: Uint8Array, metadata: FrameMetadata = {}): void {
    if (frame.length > this.longestFrame) {
      throw new XdpbedError(
        'packet-invalid',
        `a frame of ${frame.length} bytes exceeds the limit of ${this.longestFrame}`,
        this.longestFrame === MAX_FRAME_LENGTH
          ? { hint: 'only programs in a section xdp.frags take frames longer than one page holds' }
          : {},
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
    const linear = Math.min(frame.length, MAX_FRAME_LENGTH);
    u8.set(linear === frame.length ? frame : frame.subarray(0, linear), data);
    if (dataMeta !== undefined) u8.set(dataMeta, data - metaLength);
    i32[word] = data;
    i32[word + 1] = data + linear;
    i32[word + 2] = data - metaLength;
    i32[word + 3] = metadata.ingressIfindex ?? 0;
    i32[word + 4] = metadata.rxQueueIndex ?? 0;
    i32[word + 5] = metadata.egressIfindex ?? 0;
    i32[word + 6] = hardStart;
    i32[word + 7] = at + PACKET_AREA.end;
    // Word by word: `fill` costs as much as all the rest.
    for (let at = word + 8; at < word + 16; at++) i32[at] = 0;
    if (linear === frame.length) return;
    const frags = this.#frags!.start + index * this.#fragsSize;
    u8.set(frame.subarray(linear), frags);
    i32[word + 13] = frame.length - linear;
    i32[word + 14] = frags;
  }

  /** Whether the context still describes a packet in its slot; see `frameIntact`. */
  intact(index: number): boolean {
    return frameIntact(this.space, this.address(index));
  }

  /** The packet as it lies now, a copy; empty for a frame that is not intact. */
  packet(index: number): Uint8Array {
    if (!this.intact(index)) return new Uint8Array();
    const frame = this.address(index);
    const word = frame >> 2;
    const { i32 } = this.space;
    // As nearly always: each frame passes here at each hook.
    if (i32[word + (FRAME_SLOT.fragsLength >> 2)] === 0) {
      const data = i32[word]!;
      return freshCopyFrom(this.#memory, data, i32[word + 1]! - data);
    }
    return readFrame(this.space, frame, 0, frameLength(i32, frame));
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
    if (this.#frags !== undefined) this.space.free(this.#frags);
  }
}

/**
 * A ring for the frames of a program of this runtime. A program without BPF_F_XDP_HAS_FRAGS gets no frame in more than
 * one buffer, whatever is to be expected.
 */
export function openFrames(
  program: Program,
  runtime: BpfRuntime,
  slots: number,
  longest = MAX_FRAME_LENGTH,
): FrameRing {
  return new FrameRing(
    runtime.space,
    slots,
    runtime.maps,
    program.frags === true ? longest : MAX_FRAME_LENGTH,
  );
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
