import { XDP_DROP, XDP_PASS, XDP_TX } from '../../bpf/xdp.js';
import { concat, countingBytes, u32, type XdpCase } from './executor-case.js';

const MD = 'include/uapi/linux/bpf.h struct xdp_md';
const ADJUST = 'net/core/filter.c bpf_xdp_adjust_head, _tail, _meta of 6.18';
const BYTES = 'net/core/filter.c bpf_xdp_load_bytes, bpf_xdp_store_bytes';
const FRAME = countingBytes(64);

/** R0 := `helper(ctx, delta)`; the context is kept in R6. */
function adjust(helper: string, delta: number): string {
  return `
    r6 = r1
    r2 = ${delta}
    call bpf_xdp_adjust_${helper}`;
}

/** Verdict 2 when R0 is `result`, else 1. */
function passIf(result: number): string {
  return `
    r1 = r0
    r0 = 2
    if r1 == ${result} goto pc+1
    r0 = 1
    exit`;
}

export const PACKET_CASES: readonly XdpCase[] = [
  {
    name: 'the context gives ifindexes and queue',
    source: MD,
    program: `
      r0 = *(u32 *)(r1 +12)
      r2 = *(u32 *)(r1 +16)
      r3 = *(u32 *)(r1 +20)
      r0 <<= 16
      r2 <<= 8
      r0 |= r2
      r0 |= r3
      exit`,
    metadata: { ingressIfindex: 7, rxQueueIndex: 3, egressIfindex: 9 },
    verdict: 0x70309,
  },
  {
    name: 'data_end - data is the length, data_meta is data',
    source: MD,
    program: `
      r0 = *(u32 *)(r1 +4)
      r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +8)
      r0 -= r2
      r2 -= r3
      r0 += r2
      exit`,
    packet: countingBytes(61),
    verdict: 61,
  },
  {
    name: 'the packet is read and written in place, in network order',
    source: MD,
    program: `
        r2 = *(u32 *)(r1 +4)
        r1 = *(u32 *)(r1 +0)
        r3 = r1
        r3 += 14
        r0 = 1
        if r3 > r2 goto out
        r4 = *(u16 *)(r1 +12)
        r4 = be16 r4
        r4 += 1
        r4 = be16 r4
        *(u16 *)(r1 +12) = r4
        r5 = *(u32 *)(r1 +0)
        *(u32 *)(r1 +6) = r5
        r0 = 3
      out:
        exit`,
    packet: FRAME,
    verdict: XDP_TX,
    packetAfter: concat([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 10, 11, 0x0c, 0x0e], FRAME.subarray(14)),
  },
  {
    name: 'a packet too short for the check takes the other branch',
    source: MD,
    program: `
        r2 = *(u32 *)(r1 +4)
        r1 = *(u32 *)(r1 +0)
        r1 += 64
        r0 = 1
        if r1 > r2 goto out
        r0 = 2
      out:
        exit`,
    packet: countingBytes(63),
    verdict: XDP_DROP,
  },
  {
    name: 'bpf_xdp_adjust_head strips and the program sees new pointers',
    source: ADJUST,
    program: `${adjust('head', 14)}
        r2 = *(u32 *)(r6 +4)
        r1 = *(u32 *)(r6 +0)
        r3 = r1
        r3 += 1
        r0 = 1
        if r3 > r2 goto out
        r0 = *(u8 *)(r1 +0)
      out:
        exit`,
    packet: FRAME,
    verdict: 14,
    packetAfter: FRAME.subarray(14),
  },
  {
    name: 'bpf_xdp_adjust_head gains 216 bytes of headroom and no more',
    source: ADJUST,
    program: `${adjust('head', -216)}
        if r0 != 0 goto bad
        r1 = r6
        r2 = -1
        call bpf_xdp_adjust_head
        if r0 != -22 goto bad
        r0 = 2
        exit
      bad:
        r0 = 1
        exit`,
    packet: FRAME,
    verdict: XDP_PASS,
    packetAfter: concat(new Uint8Array(216), FRAME),
  },
  {
    name: 'bpf_xdp_adjust_head leaves 14 bytes',
    source: ADJUST,
    program: adjust('head', 51) + passIf(-22),
    packet: FRAME,
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_adjust_head down to 14 bytes',
    source: ADJUST,
    program: adjust('head', 50) + passIf(0),
    packet: FRAME,
    verdict: XDP_PASS,
    packetAfter: FRAME.subarray(50),
  },
  {
    name: 'bpf_xdp_adjust_head takes the metadata along, below which it keeps 40 bytes',
    source: ADJUST,
    program: `
        r6 = r1
        r2 = -8
        call bpf_xdp_adjust_meta
        if r0 != 0 goto bad
        r2 = *(u32 *)(r6 +8)
        r3 = *(u32 *)(r6 +0)
        r4 = r2
        r4 += 8
        if r4 > r3 goto bad
        *(u32 *)(r2 +0) = 0x11223344
        *(u32 *)(r2 +4) = 0x55667788
        r1 = r6
        r2 = -209
        call bpf_xdp_adjust_head
        if r0 != -22 goto bad
        r1 = r6
        r2 = -208
        call bpf_xdp_adjust_head
        if r0 != 0 goto bad
        r0 = 2
        exit
      bad:
        r0 = 1
        exit`,
    packet: FRAME,
    verdict: XDP_PASS,
    // The bytes that were gained hold what lay there before: zeros, and the metadata's old place.
    packetAfter: concat(new Uint8Array(200), u32(0x1122_3344), u32(0x5566_7788), FRAME),
    metadataAfter: concat(u32(0x1122_3344), u32(0x5566_7788)),
  },
  {
    name: 'bpf_xdp_adjust_meta keeps to multiples of 4 (-EACCES)',
    source: ADJUST,
    program: adjust('meta', -6) + passIf(-13),
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_adjust_meta does not go past the packet (-EINVAL)',
    source: ADJUST,
    program: adjust('meta', 4) + passIf(-22),
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_adjust_meta stops at the frame structure (-EINVAL)',
    source: ADJUST,
    program: adjust('meta', -220) + passIf(-22),
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_adjust_meta takes all 216 bytes',
    source: ADJUST,
    program: adjust('meta', -216) + passIf(0),
    verdict: XDP_PASS,
    metadataAfter: new Uint8Array(216),
  },
  {
    name: 'bpf_xdp_adjust_tail shrinks',
    source: ADJUST,
    program: adjust('tail', -50) + passIf(0),
    packet: FRAME,
    verdict: XDP_PASS,
    packetAfter: FRAME.subarray(0, 14),
  },
  {
    name: 'bpf_xdp_adjust_tail leaves 14 bytes (-EINVAL)',
    source: ADJUST,
    program: adjust('tail', -51) + passIf(-22),
    packet: FRAME,
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_adjust_tail grows with zeros',
    source: ADJUST,
    program: adjust('tail', 6) + passIf(0),
    packet: FRAME,
    verdict: XDP_PASS,
    packetAfter: concat(FRAME, new Uint8Array(6)),
  },
  {
    name: 'bpf_xdp_adjust_tail grows to skb_shared_info and no further',
    source: ADJUST,
    // 4096 - 256 - 320 - 64 = 3456 bytes of tailroom
    program: `${adjust('tail', 3456)}
        if r0 != 0 goto bad
        r1 = r6
        r2 = 1
        call bpf_xdp_adjust_tail
        if r0 != -22 goto bad
        r1 = r6
        call bpf_xdp_get_buff_len
        exit
      bad:
        r0 = 1
        exit`,
    packet: FRAME,
    verdict: 3520,
    packetAfter: concat(FRAME, new Uint8Array(3456)),
  },
  {
    name: 'bpf_xdp_load_bytes copies out of the packet',
    source: BYTES,
    program: `
      r2 = 60
      r3 = r10
      r3 += -8
      r4 = 4
      call bpf_xdp_load_bytes
      if r0 != 0 goto pc+1
      r0 = *(u32 *)(r10 -8)
      exit`,
    packet: FRAME,
    verdict: 0x3f3e_3d3c,
  },
  {
    name: 'bpf_xdp_load_bytes past the end is -EINVAL',
    source: BYTES,
    program: `
      r2 = 61
      r3 = r10
      r3 += -8
      r4 = 4
      call bpf_xdp_load_bytes${passIf(-22)}`,
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_load_bytes at an offset of more than 65535 is -EFAULT',
    source: BYTES,
    program: `
      r2 = 65536
      r3 = r10
      r3 += -8
      r4 = 4
      call bpf_xdp_load_bytes${passIf(-14)}`,
    verdict: XDP_PASS,
  },
  {
    name: 'bpf_xdp_store_bytes copies into the packet',
    source: BYTES,
    program: `
      *(u32 *)(r10 -4) = 0x04030201
      r2 = 1
      r3 = r10
      r3 += -4
      r4 = 3
      call bpf_xdp_store_bytes${passIf(0)}`,
    packet: FRAME,
    verdict: XDP_PASS,
    packetAfter: concat([0, 1, 2, 3], FRAME.subarray(4)),
  },
];
