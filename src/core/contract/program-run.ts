import type { FrameMetadata, FrameRedirect } from '../../bpf/runtime/frame-ring.js';

export type { FrameMetadata, FrameRedirect };

/**
 * Room for frames on which programs of one party run. A frame is one string of bytes; that programs see those of a
 * long one in several buffers is the executor's matter.
 */
export interface FrameSlots {
  readonly slots: number;
  /** Bytes of the longest frame that a slot takes. */
  readonly longestFrame: number;
  /**
   * Places a frame in a slot, with headroom, and forgets what was there. Throws `packet-invalid` for one that is
   * longer than `longestFrame`.
   */
  load(slot: number, frame: Uint8Array, metadata?: FrameMetadata): void;
  /** The packet as it lies now, a copy. */
  packet(slot: number): Uint8Array;
  /** The metadata in front of the packet (bpf_xdp_adjust_meta), a copy; empty when there is none. */
  metadata(slot: number): Uint8Array;
  /** What a batch returned for it. */
  verdict(slot: number): number;
  /** What bpf_redirect or bpf_redirect_map left behind; it counts only when the verdict is XDP_REDIRECT. */
  redirect(slot: number): FrameRedirect;
  close(): void;
}

/** What one run left behind. A fault counts as XDP_ABORTED, as in the kernel. */
export interface RunOutcome {
  /** R0's lower 32 bits. */
  readonly verdict: number;
  readonly fault?: ProgramFault | undefined;
}

export type CallOutcome = { readonly r0: bigint } | { readonly fault: ProgramFault };

/** Where and why a program was stopped. A verified program never faults; a fault names a verifier's miss. */
export interface ProgramFault {
  readonly insn: number;
  readonly reason: string;
}
