import { HOP_LIMIT, HOPS_OF_A_FLOOD } from '../../core/contract/fabric.js';
import { TCX_ACTION } from './tcx-action.js';

/**
 * Byte offset of `tc_index` in `struct __sk_buff`, 16 bits that the kernel has for traffic control to use: 0 in a new skb,
 * copied with it, and left alone by bridges and by bpf_redirect. A tcx program that returns TCX_PASS sets it, as do
 * classic filters (net/core/dev.c); programs of this fabric return TCX_NEXT. It is used rather than the mark, which
 * rules of the host's may look at.
 */
const TC_INDEX = 44;

/** What a program at a tap's egress needs to end frames that go round. */
export interface HopCount {
  /** A PERCPU_ARRAY of one u64, by handle: counts those that were dropped. */
  readonly caught: number;
  /** The address behind the tap, 6 bytes: what comes for another one was flooded, since a tap's port does not learn. */
  readonly address: Uint8Array;
}

/**
 * Assembly for the beginning of a tcx program: counts in the skb how many it has met, HOPS_OF_A_FLOOD for one that was
 * flooded since, and drops it beyond HOP_LIMIT: what is sent back (XDP_TX) comes to a bridge again, and programs of two
 * guests may send it to each other for ever. R1 stays, all other registers and 8 bytes of stack are lost.
 */
export function countHopText({ caught, address }: HopCount): string {
  const view = new DataView(address.buffer, address.byteOffset);
  return `
      r2 = *(u32 *)(r1 +${TC_INDEX})
      if w2 == 0 goto count
      r6 = r1
      r2 = 0
      r3 = r10
      r3 += -8
      r4 = 6
      call bpf_skb_load_bytes
      r1 = r6
      r2 = *(u32 *)(r1 +${TC_INDEX})
      r3 = *(u32 *)(r10 -8)
      r4 = *(u16 *)(r10 -4)
      if w3 != ${view.getInt32(0, true)} goto flooded
      if w4 == ${view.getUint16(4, true)} goto compare
    flooded:
      w2 += ${HOPS_OF_A_FLOOD}
    compare:
      if w2 >= ${HOP_LIMIT} goto caught
    count:
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
