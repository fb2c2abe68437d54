import { randomBytes } from 'node:crypto';
import { formatInsn } from '../../bpf/disassembler.js';
import { fetchKept, type Keeper } from '../../bpf/rewrite/keeper.js';
import { XDP_MD } from '../../bpf/xdp.js';

/**
 * What an XDP program says to a tcx program that meets the same frame later: three u32 of metadata in front of the frame
 * (bpf_xdp_adjust_meta), which go with it when it becomes an skb. `+0 word u32 · +4 word u32 · +8 ifindex u32`.
 *
 * The first two are random, so that nothing that comes along by itself is taken for a mark, and nobody can guess one:
 * 64 bits, of which a mistaken guess tells nothing.
 */
export interface FrameMark {
  readonly secret: readonly [number, number];
  /** Of the interface that the mark is about. */
  readonly ifindex: number;
}

/** Bytes of metadata: a multiple of 4, and at most 32, as the kernel wants it. */
export const FRAME_MARK_SIZE = 12;

/** Marks of one kind begin with the same one. */
export function markSecret(): readonly [number, number] {
  const bytes = randomBytes(8);
  return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
}

/**
 * Assembly for an XDP program that puts the mark in front of the frame, or jumps to `failed` where there is no room for
 * it. R0 to R5 are lost; pointers into the packet, too.
 */
export function writeMarkText({ secret, ifindex }: FrameMark, context: Keeper, failed: string): string {
  return `
      ${formatInsn([fetchKept(context, 1)], 0)}
      r2 = -${FRAME_MARK_SIZE}
      call bpf_xdp_adjust_meta
      if w0 != 0 goto ${failed}
      ${formatInsn([fetchKept(context, 1)], 0)}
      r2 = *(u32 *)(r1 +${XDP_MD.data_meta})
      r3 = *(u32 *)(r1 +${XDP_MD.data})
      r4 = r2
      r4 += ${FRAME_MARK_SIZE}
      if r4 > r3 goto ${failed}
      *(u32 *)(r2 +0) = ${secret[0]}
      *(u32 *)(r2 +4) = ${secret[1]}
      *(u32 *)(r2 +8) = ${ifindex}`;
}

/** Byte offsets of `struct __sk_buff` (include/uapi/linux/bpf.h). */
const SK_BUFF = { data: 76, data_meta: 140 } as const;

/**
 * Assembly for a tcx program, with the context in R1, which stays: jumps to `unmarked` unless the frame's metadata begins
 * with a mark of that secret; behind it the mark's ifindex is in R5. R2 to R4 are lost.
 */
export function readMarkText(secret: FrameMark['secret'], unmarked: string): string {
  return `
      r2 = *(u32 *)(r1 +${SK_BUFF.data_meta})
      r3 = *(u32 *)(r1 +${SK_BUFF.data})
      r4 = r2
      r4 += ${FRAME_MARK_SIZE}
      if r4 > r3 goto ${unmarked}
      r4 = *(u32 *)(r2 +0)
      if w4 != ${secret[0]} goto ${unmarked}
      r4 = *(u32 *)(r2 +4)
      if w4 != ${secret[1]} goto ${unmarked}
      r5 = *(u32 *)(r2 +8)`;
}
