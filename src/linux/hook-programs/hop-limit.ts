import { HOP_LIMIT } from '../../core/contract/fabric.js';
import { TCX_ACTION } from './tcx-action.js';

/**
 * Byte offset of `tc_index` in `struct __sk_buff`, 16 bits that the kernel has for traffic control to use: 0 in a new skb,
 * copied with it, and left alone by bridges and by bpf_redirect. A tcx program that returns TCX_PASS sets it, as do
 * classic filters (net/core/dev.c); programs of this fabric return TCX_NEXT. It is used rather than the mark, which
 * rules of the host's may look at.
 */
const TC_INDEX = 44;

/**
 * Assembly for the beginning of a tcx program: counts in the skb how many it has met, and drops it beyond HOP_LIMIT: what
 * is sent back (XDP_TX) comes to a bridge again, and programs of two guests may send it to each other for ever. That
 * adds one to the u64 at 0 of a PERCPU_ARRAY. R1 stays, R0 and R2 and 4 bytes of stack are lost.
 */
export function countHopText(caught: number): string {
  return `
      r2 = *(u32 *)(r1 +${TC_INDEX})
      if w2 >= ${HOP_LIMIT} goto caught
      w2 += 1
      *(u32 *)(r1 +${TC_INDEX}) = r2
      goto fresh
    caught:
      *(u32 *)(r10 -4) = 0
      r2 = r10
      r2 += -4
      r1 = map[fd:${caught}]
      call bpf_map_lookup_elem
      if r0 == 0 goto drop
      r1 = *(u64 *)(r0 +0)
      r1 += 1
      *(u64 *)(r0 +0) = r1
    drop:
      w0 = ${TCX_ACTION.TCX_DROP}
      exit
    fresh:`;
}

/** Assembly for a tcx program, with the context in R1: a program has met the frame before it was an skb. R2 is lost. */
export function hopBeforeText(): string {
  return `
      w2 = 1
      *(u32 *)(r1 +${TC_INDEX}) = r2`;
}
