import { PACKET, PASS, type Twin } from './twin.js';

const RESERVE = `r1 = map[ring]\n r2 = 16\n r3 = 0\n call bpf_ringbuf_reserve`;
const SUBMIT = `r1 = r0\n r2 = 0\n call bpf_ringbuf_submit`;
const KEY = `*(u32 *)(r10 -4) = 0\n r2 = r10\n r2 += -4`;

/** R0 = a socket that is held; leaves for `out` when there is none. */
const skLookup = (helper: string): string =>
  `*(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r3 = 12\n r4 = -1\n r5 = 0\n call ${helper}\n if r0 == 0 goto out\n`;

/** A number is in R6; `place` makes R4 where the number that is parsed goes. */
const parsed = (helper: string, place: string): string =>
  `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -24) = 0\n *(u64 *)(r10 -32) = 0\n r1 = r10\n r1 += -8\n r2 = 8\n r3 = 10\n ${place}\n call ${helper}\n ${PASS}`;

/** `place` makes R3 where the MTU goes. */
const mtuAt = (place: string): string =>
  `*(u64 *)(r10 -8) = 0\n r2 = 0\n ${place}\n r4 = 0\n r5 = 0\n call bpf_check_mtu\n ${PASS}`;

const ROUNDS = `r1 = 4\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop`;

export const CALL_TWINS: readonly Twin[] = [
  {
    name: 'context field that is not there',
    code: 'context-access',
    rejected: `r0 = *(u32 *)(r1 +24)\n exit`,
    accepted: `r0 = *(u32 *)(r1 +16)\n exit`,
  },
  {
    name: 'context field read in another width',
    code: 'context-access',
    rejected: `r0 = *(u64 *)(r1 +0)\n exit`,
    accepted: `r0 = *(u32 *)(r1 +12)\n exit`,
  },
  {
    name: 'egress_ifindex outside a device map',
    code: 'context-access',
    rejected: `r0 = *(u32 *)(r1 +20)\n exit`,
    accepted: `r0 = *(u32 *)(r1 +12)\n exit`,
  },
  {
    name: 'context written',
    code: 'context-write',
    rejected: `*(u32 *)(r1 +12) = 0\n ${PASS}`,
    accepted: `r0 = *(u32 *)(r1 +12)\n exit`,
  },
  {
    name: 'context at an offset',
    code: 'context-modified',
    rejected: `r1 += 4\n r0 = *(u32 *)(r1 +8)\n exit`,
    accepted: `r0 = *(u32 *)(r1 +12)\n exit`,
  },
  {
    name: 'context at an offset passed to a helper',
    code: 'context-modified',
    rejected: `r1 += 4\n r2 = 0\n call bpf_xdp_adjust_head\n ${PASS}`,
    accepted: `r2 = 0\n call bpf_xdp_adjust_head\n ${PASS}`,
  },
  {
    name: 'helper of another program type',
    code: 'helper-unknown',
    rejected: `r2 = 0\n r3 = 0\n call bpf_skb_change_tail\n ${PASS}`,
    accepted: `r2 = 0\n call bpf_xdp_adjust_tail\n ${PASS}`,
  },
  {
    name: 'helper number that does not exist',
    code: 'helper-unknown',
    rejected: `call 9999\n ${PASS}`,
    accepted: `call bpf_ktime_get_ns\n ${PASS}`,
  },
  {
    name: 'GPL-only helper',
    code: 'helper-gpl-only',
    gpl: false,
    rejected: `*(u64 *)(r10 -8) = 0\n r2 = map[events]\n r3 = 0\n r4 = r10\n r4 += -8\n r5 = 8\n call bpf_perf_event_output\n ${PASS}`,
    accepted: `call bpf_ktime_get_ns\n ${PASS}`,
  },
  {
    name: 'helper that reads kernel memory',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: 'root may read kernel memory; a guest may not',
    rejected: `r1 = r10\n r1 += -8\n r2 = 8\n r3 = 0\n call bpf_probe_read_kernel\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n r0 = *(u64 *)(r10 -8)\n exit`,
  },
  {
    name: 'helper on what only BTF describes',
    code: 'helper-unsupported',
    rejected: `${KEY}\n r1 = map[values]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = r0\n call bpf_timer_cancel\n out: ${PASS}`,
    accepted: `${KEY}\n r1 = map[values]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = 1\n lock *(u64 *)(r0 +0) += r1\n out: ${PASS}`,
  },
  {
    name: 'kernel function',
    code: 'insn-unsupported',
    rejected: `call kernel-function#1\n ${PASS}`,
    accepted: `call bpf_ktime_get_ns\n ${PASS}`,
  },
  {
    name: 'number where a map is expected',
    code: 'helper-argument',
    rejected: `${KEY}\n r1 = 5\n call bpf_map_lookup_elem\n ${PASS}`,
    accepted: `${KEY}\n r1 = map[values]\n call bpf_map_lookup_elem\n ${PASS}`,
  },
  {
    name: 'number where memory is expected',
    code: 'helper-argument',
    rejected: `r2 = 5\n r1 = map[values]\n call bpf_map_lookup_elem\n ${PASS}`,
    accepted: `${KEY}\n r1 = map[values]\n call bpf_map_lookup_elem\n ${PASS}`,
  },
  {
    name: 'map that a helper does not take',
    code: 'map-helper-mismatch',
    rejected: `${KEY}\n r1 = map[programs]\n call bpf_map_lookup_elem\n ${PASS}`,
    accepted: `r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n ${PASS}`,
  },
  {
    name: 'helper that a map does not take',
    code: 'map-helper-mismatch',
    rejected: `r1 = map[values]\n r2 = 0\n r3 = 0\n call bpf_redirect_map\n exit`,
    accepted: `r1 = map[devices]\n r2 = 0\n r3 = 0\n call bpf_redirect_map\n exit`,
  },
  {
    name: 'map that does not exist',
    code: 'map-unknown',
    rejected: `r1 = map[fd:99]\n ${PASS}`,
    accepted: `r1 = map[values]\n ${PASS}`,
  },
  {
    name: 'map that does not exist, where nobody comes',
    code: 'map-unknown',
    rejected: `r0 = 2\n if r0 == 2 goto out\n r1 = map[fd:99]\n out: exit`,
    accepted: `r0 = 2\n if r0 == 2 goto out\n r1 = map[values]\n out: exit`,
  },
  {
    name: 'address of the value of an array of several',
    code: 'map-value-address',
    rejected: `r1 = map[values][0]+0\n r1 = *(u8 *)(r1 +0)\n ${PASS}`,
    accepted: `r1 = map[wide][0]+0\n r1 = *(u8 *)(r1 +0)\n ${PASS}`,
  },
  {
    name: 'address past the end of a value',
    code: 'map-value-address',
    rejected: `r1 = map[wide][0]+256\n ${PASS}`,
    accepted: `r1 = map[wide][0]+255\n ${PASS}`,
  },
  {
    name: 'address past the end of a value, where nobody comes',
    code: 'map-value-address',
    rejected: `r0 = 2\n if r0 == 2 goto out\n r1 = map[wide][0]+256\n out: exit`,
    accepted: `r0 = 2\n if r0 == 2 goto out\n r1 = map[wide][0]+255\n out: exit`,
  },
  {
    name: 'address of a value of a map of another type, where nobody comes',
    code: 'map-value-address',
    rejected: `r0 = 2\n if r0 == 2 goto out\n r1 = map[devices][0]+0\n out: exit`,
    accepted: `r0 = 2\n if r0 == 2 goto out\n r1 = map[devices]\n out: exit`,
  },
  {
    name: 'key at the end of the stack',
    code: 'stack-bounds',
    rejected: `*(u32 *)(r10 -4) = 0\n r2 = r10\n r2 += -2\n r1 = map[values]\n call bpf_map_lookup_elem\n ${PASS}`,
    accepted: `*(u32 *)(r10 -4) = 0\n r2 = r10\n r2 += -4\n r1 = map[values]\n call bpf_map_lookup_elem\n ${PASS}`,
  },
  {
    name: 'size that may be larger than the memory',
    code: 'stack-bounds',
    rejected: `r6 = *(u32 *)(r1 +12)\n r6 &= 31\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -16\n r3 = r6\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r6 &= 15\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -16\n r3 = r6\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
  },
  {
    name: 'size that may be negative',
    code: 'helper-size',
    rejected: `r6 = *(u32 *)(r1 +12)\n r6 <<= 32\n r6 s>>= 32\n if r6 s> 16 goto out\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -16\n r3 = r6\n r4 = 0\n call bpf_ringbuf_output\n out: ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r6 <<= 32\n r6 s>>= 32\n if r6 > 16 goto out\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -16\n r3 = r6\n r4 = 0\n call bpf_ringbuf_output\n out: ${PASS}`,
  },
  {
    name: 'size without an upper bound',
    code: 'helper-size',
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -8\n r3 = r6\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n if r6 > 8 goto out\n *(u64 *)(r10 -8) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -8\n r3 = r6\n r4 = 0\n call bpf_ringbuf_output\n out: ${PASS}`,
  },
  {
    name: 'NULL for memory of some bytes',
    code: 'helper-argument',
    rejected: `r1 = 0\n r2 = 4\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`,
    accepted: `r1 = 0\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`,
  },
  {
    name: 'NULL for memory of no bytes, to a helper that takes none',
    code: 'helper-argument',
    rejected: `r1 = map[ring]\n r2 = 0\n r3 = 0\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -1\n r3 = 0\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
  },
  {
    name: 'no bytes behind the end of the stack',
    code: 'stack-bounds',
    rejected: `*(u64 *)(r10 -8) = 0\n r1 = map[ring]\n r2 = r10\n r3 = 0\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n r1 = map[ring]\n r2 = r10\n r2 += -1\n r3 = 0\n r4 = 0\n call bpf_ringbuf_output\n ${PASS}`,
  },
  {
    name: 'NULL for events of no bytes',
    code: 'helper-argument',
    rejected: `r2 = map[events]\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_perf_event_output\n ${PASS}`,
    accepted: `*(u64 *)(r10 -512) = 0\n r2 = map[events]\n r3 = 0\n r4 = r10\n r4 += -512\n r5 = 0\n call bpf_perf_event_output\n ${PASS}`,
  },
  {
    name: 'NULL for a text of no bytes that is written, but not for one that is read',
    code: 'helper-argument',
    rejected: `r1 = 0\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_snprintf\n ${PASS}`,
    accepted: `r1 = 0\n r2 = 0\n r3 = map[constants][0]+0\n r4 = 0\n r5 = 0\n call bpf_snprintf\n ${PASS}`,
  },
  {
    name: 'no bytes of a stack that was never written so far down',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: 'root may read stack that was never written',
    rejected: `*(u8 *)(r10 -9) = 0\n r1 = 0\n r2 = 0\n r3 = r10\n r3 += -17\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`,
    accepted: `*(u8 *)(r10 -9) = 0\n r1 = 0\n r2 = 0\n r3 = r10\n r3 += -16\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`,
  },
  {
    name: 'a number written to the stack at no multiple of its size',
    code: 'stack-alignment',
    rejected: parsed('bpf_strtol', 'r4 = r10\n r4 += -20'),
    accepted: parsed('bpf_strtol', 'r4 = r10\n r4 += -24'),
  },
  {
    name: 'a number written to the stack at a variable offset that may be no multiple of its size',
    code: 'stack-alignment',
    rejected: parsed('bpf_strtoul', 'r6 &= 4\n r4 = r10\n r4 += -32\n r4 += r6'),
    accepted: parsed('bpf_strtoul', 'r6 &= 8\n r4 = r10\n r4 += -32\n r4 += r6'),
  },
  {
    name: 'a number written to a value at no multiple of its size',
    code: 'helper-alignment',
    rejected: parsed('bpf_strtoul', 'r4 = map[wide][0]+4'),
    accepted: parsed('bpf_strtoul', 'r4 = map[wide][0]+8'),
  },
  {
    name: 'a number written to a value at a variable offset that may be no multiple of its size',
    code: 'helper-alignment',
    rejected: parsed('bpf_strtol', 'r6 &= 12\n r4 = map[wide][0]+0\n r4 += r6'),
    accepted: parsed('bpf_strtol', 'r6 &= 8\n r4 = map[wide][0]+0\n r4 += r6'),
  },
  {
    name: 'a number written to a record at no multiple of its size',
    code: 'helper-alignment',
    rejected: `${RESERVE}\n if r0 == 0 goto out\n r6 = r0\n *(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -8\n r2 = 8\n r3 = 10\n r4 = r6\n r4 += 4\n call bpf_strtol\n r0 = r6\n ${SUBMIT}\n out: ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n r6 = r0\n *(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -8\n r2 = 8\n r3 = 10\n r4 = r6\n r4 += 8\n call bpf_strtol\n r0 = r6\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'an MTU written to the stack at no multiple of 4',
    code: 'stack-alignment',
    rejected: mtuAt('r3 = r10\n r3 += -6'),
    accepted: mtuAt('r3 = r10\n r3 += -4'),
  },
  {
    name: 'an MTU written to a value at no multiple of 4',
    code: 'helper-alignment',
    rejected: mtuAt('r3 = map[wide][0]+2'),
    accepted: mtuAt('r3 = map[wide][0]+4'),
  },
  {
    name: 'a number that is not NULL for memory of no bytes',
    code: 'helper-argument',
    rejected: `r1 = 1\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`,
    accepted: `r1 = 0\n r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_csum_diff\n ${PASS}`,
  },
  {
    name: 'a socket written',
    code: 'read-only',
    rejected: `${skLookup('bpf_sk_lookup_tcp')} *(u32 *)(r0 +4) = 1\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
    accepted: `${skLookup('bpf_sk_lookup_tcp')} r6 = *(u32 *)(r0 +4)\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'size zero for a helper that does not take it',
    code: 'helper-size',
    rejected: `r6 = *(u32 *)(r1 +12)\n r6 &= 7\n r2 = 0\n r3 = r10\n r3 += -8\n r4 = r6\n call bpf_xdp_load_bytes\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r6 &= 7\n r6 += 1\n r2 = 0\n r3 = r10\n r3 += -8\n r4 = r6\n call bpf_xdp_load_bytes\n ${PASS}`,
  },
  {
    name: 'size of a record that is not a constant',
    code: 'helper-size',
    rejected: `r2 = *(u32 *)(r1 +12)\n r1 = map[ring]\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n ${SUBMIT}\n out: ${PASS}`,
    accepted: `r2 = 16\n r1 = map[ring]\n r3 = 0\n call bpf_ringbuf_reserve\n if r0 == 0 goto out\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'ring buffer record kept',
    code: 'reference-leak',
    rejected: `${RESERVE}\n if r0 == 0 goto out\n *(u64 *)(r0 +0) = 1\n out: ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n *(u64 *)(r0 +0) = 1\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'ring buffer record past its size',
    code: 'memory-bounds',
    rejected: `${RESERVE}\n if r0 == 0 goto out\n *(u64 *)(r0 +16) = 1\n ${SUBMIT}\n out: ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n *(u64 *)(r0 +8) = 1\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'ring buffer record written after it was submitted',
    code: 'use-after-release',
    rejected: `${RESERVE}\n if r0 == 0 goto out\n r6 = r0\n ${SUBMIT}\n *(u64 *)(r6 +0) = 1\n out: ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n r6 = r0\n *(u64 *)(r6 +0) = 1\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'ring buffer record submitted twice',
    code: 'use-after-release',
    rejected: `${RESERVE}\n if r0 == 0 goto out\n r6 = r0\n ${SUBMIT}\n r1 = r6\n r2 = 0\n call bpf_ringbuf_submit\n out: ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n r6 = r0\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'ring buffer record submitted with an offset',
    publishedAs: 'CVE-2021-4204',
    code: 'reference-release',
    rejected: `${RESERVE}\n if r0 == 0 goto out\n r0 += 8\n ${SUBMIT}\n out: ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'something else submitted',
    code: 'reference-release',
    rejected: `*(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -8\n r2 = 0\n call bpf_ringbuf_submit\n ${PASS}`,
    accepted: `${RESERVE}\n if r0 == 0 goto out\n ${SUBMIT}\n out: ${PASS}`,
  },
  {
    name: 'tail call with a record held',
    code: 'reference-leak',
    rejected: `r6 = r1\n ${RESERVE}\n if r0 == 0 goto out\n r7 = r0\n r1 = r6\n r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r1 = r7\n r2 = 0\n call bpf_ringbuf_submit\n out: ${PASS}`,
    accepted: `r6 = r1\n ${RESERVE}\n if r0 == 0 goto out\n ${SUBMIT}\n r1 = r6\n r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n out: ${PASS}`,
  },
  {
    name: 'socket kept',
    code: 'reference-leak',
    rejected: `*(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r3 = 12\n r4 = -1\n r5 = 0\n call bpf_sk_lookup_tcp\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r3 = 12\n r4 = -1\n r5 = 0\n call bpf_sk_lookup_tcp\n if r0 == 0 goto out\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'socket kept when the cast of it gives NULL',
    code: 'reference-leak',
    rejected: `${skLookup('bpf_skc_lookup_tcp')} r6 = r0\n r1 = r0\n call bpf_skc_to_tcp_sock\n if r0 == 0 goto out\n r1 = r6\n call bpf_sk_release\n out: ${PASS}`,
    accepted: `${skLookup('bpf_skc_lookup_tcp')} r6 = r0\n r1 = r0\n call bpf_skc_to_tcp_sock\n if r0 == 0 goto give\n r0 = *(u16 *)(r0 +16)\n give: r1 = r6\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'field that only a full socket has',
    code: 'memory-bounds',
    rejected: `${skLookup('bpf_skc_lookup_tcp')} r6 = *(u32 *)(r0 +12)\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
    accepted: `${skLookup('bpf_skc_lookup_tcp')} r6 = *(u32 *)(r0 +72)\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'part of a socket field that is only whole',
    code: 'memory-bounds',
    rejected: `${skLookup('bpf_sk_lookup_tcp')} r6 = *(u16 *)(r0 +16)\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
    accepted: `${skLookup('bpf_sk_lookup_tcp')} r6 = *(u16 *)(r0 +24)\n r1 = r0\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'part of two fields of a kernel socket',
    code: 'memory-bounds',
    rejected: `${skLookup('bpf_skc_lookup_tcp')} r6 = r0\n r1 = r0\n call bpf_skc_to_tcp6_sock\n if r0 == 0 goto give\n r0 = *(u32 *)(r0 +16)\n give: r1 = r6\n call bpf_sk_release\n out: ${PASS}`,
    accepted: `${skLookup('bpf_skc_lookup_tcp')} r6 = r0\n r1 = r0\n call bpf_skc_to_tcp6_sock\n if r0 == 0 goto give\n r0 = *(u32 *)(r0 +12)\n give: r1 = r6\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'R6 to R9 belong to the caller, R1 to R5 to nobody',
    code: 'uninitialised-register',
    rejected: `r1 = 1\n call f\n r0 = r1\n exit\n f: r0 = 0\n exit`,
    accepted: `r6 = 2\n r1 = 1\n call f\n r0 = r6\n exit\n f: r6 = 9\n r0 = 0\n exit`,
  },
  {
    name: 'argument that the caller does not pass',
    code: 'uninitialised-register',
    rejected: `r1 = 1\n call f\n ${PASS} f: r0 = r2\n exit`,
    accepted: `r1 = 1\n r2 = 2\n call f\n ${PASS} f: r0 = r2\n exit`,
  },
  {
    name: 'functions that nest too deep',
    code: 'call-depth',
    rejected: `call f1\n ${PASS} ${nest(8)}`,
    accepted: `call f1\n ${PASS} ${nest(7)}`,
  },
  {
    name: 'callback of a function that is called too deep',
    code: 'call-depth',
    rejected: `call f1\n ${PASS} ${loopIn(7)}`,
    accepted: `call f1\n ${PASS} ${loopIn(6)}`,
  },
  {
    name: 'recursion',
    code: 'call-depth',
    rejected: `r1 = 3\n call f\n ${PASS} f: r0 = 0\n if r1 == 0 goto done\n r1 += -1\n call f\n done: exit`,
    accepted: `r1 = 3\n call f\n ${PASS} f: r0 = 0\n again: if r1 == 0 goto done\n r1 += -1\n goto again\n done: exit`,
  },
  {
    name: 'stacks that together are too deep',
    code: 'stack-depth',
    rejected: `*(u64 *)(r10 -256) = 0\n call f\n ${PASS} f: *(u64 *)(r10 -272) = 0\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -256) = 0\n call f\n ${PASS} f: *(u64 *)(r10 -256) = 0\n r0 = 0\n exit`,
  },
  {
    name: 'stacks that together are too deep, of which a helper fills one',
    code: 'stack-depth',
    rejected: `r2 = 0\n r3 = r10\n r3 += -256\n r4 = 8\n call bpf_xdp_load_bytes\n call f\n ${PASS} f: *(u64 *)(r10 -272) = 0\n r0 = 0\n exit`,
    accepted: `r2 = 0\n r3 = r10\n r3 += -256\n r4 = 8\n call bpf_xdp_load_bytes\n call f\n ${PASS} f: *(u64 *)(r10 -256) = 0\n r0 = 0\n exit`,
  },
  {
    name: 'tail call on top of a deep stack',
    code: 'stack-depth',
    rejected: `*(u64 *)(r10 -256) = 0\n call f\n ${PASS} f: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -240) = 0\n call f\n ${PASS} f: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
  },
  {
    name: 'result of a helper that returns nothing',
    code: 'uninitialised-register',
    rejected: `r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n exit`,
    accepted: `r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
  },
  {
    name: 'callback that is not a function',
    code: 'callback-invalid',
    rejected: `r1 = 4\n r2 = 5\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS}`,
    accepted: `r1 = 4\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS} cb: r0 = 0\n exit`,
  },
  {
    name: 'callback that returns anything',
    code: 'callback-invalid',
    rejected: `r1 = 4\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS} cb: r0 = r1\n exit`,
    accepted: `r1 = 4\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS} cb: r0 = r1\n r0 &= 1\n exit`,
  },
  {
    name: 'index of a callback without a bound',
    code: 'map-value-bounds',
    rejected: `r1 = 16\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS} cb: r2 = map[wide][0]+0\n r1 &= 0xffff\n r2 += r1\n r3 = *(u8 *)(r2 +0)\n r0 = 0\n exit`,
    accepted: `r1 = 16\n r2 = subprog[cb]\n r3 = 0\n r4 = 0\n call bpf_loop\n ${PASS} cb: r2 = map[wide][0]+0\n r1 &= 0xff\n r2 += r1\n r3 = *(u8 *)(r2 +0)\n r0 = 0\n exit`,
  },
  {
    name: 'counter in the context of a callback, used as an index',
    code: 'map-value-bounds',
    rejected: `*(u64 *)(r10 -8) = 0\n r1 = 300\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r3 = *(u64 *)(r2 +0)\n r4 = r3\n r4 += 1\n *(u64 *)(r2 +0) = r4\n r5 = map[wide][0]+0\n r5 += r3\n r0 = *(u8 *)(r5 +0)\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n r1 = 300\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r3 = *(u64 *)(r2 +0)\n r4 = r3\n r4 += 1\n *(u64 *)(r2 +0) = r4\n r0 = 1\n if r3 > 255 goto stop\n r5 = map[wide][0]+0\n r5 += r3\n r0 = *(u8 *)(r5 +0)\n r0 = 0\n stop: exit`,
  },
];

/** f1 calls f2 calls f3 … */
function nest(depth: number): string {
  let text = '';
  for (let i = 1; i < depth; i++) text += `f${i}: call f${i + 1}\n r0 = 0\n exit\n `;
  return `${text} f${depth}: r0 = 0\n exit`;
}

/** As `nest`, and the last function calls bpf_loop. */
function loopIn(depth: number): string {
  return nest(depth).replace(`f${depth}: r0 = 0`, `f${depth}: ${ROUNDS}\n r0 = 0\n exit\n cb: r0 = 0`);
}

export const FLOW_TWINS: readonly Twin[] = [
  {
    name: 'loop that changes nothing',
    code: 'infinite-loop',
    rejected: `again: r2 = 1\n r3 = 2\n r4 = 3\n r5 = 4\n r6 = 5\n r7 = 6\n r8 = 7\n if r2 == 0 goto out\n goto again\n out: ${PASS}`,
    accepted: `r2 = 3\n again: r2 += -1\n if r2 == 0 goto out\n goto again\n out: ${PASS}`,
  },
  {
    name: 'loop on a number that is not known',
    code: 'infinite-loop',
    rejected: `r6 = *(u32 *)(r1 +12)\n again: r2 = 1\n r3 = 2\n r4 = 3\n r5 = 4\n r7 = 6\n r8 = 7\n if r6 == 0 goto out\n goto again\n out: ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r6 &= 7\n again: if r6 == 0 goto out\n r6 += -1\n goto again\n out: ${PASS}`,
  },
  {
    name: 'counter whose bound cannot be seen',
    code: 'too-many-insns',
    rejected: `r6 = *(u32 *)(r1 +12)\n r7 = 0\n again: r7 += 1\n if r7 != r6 goto again\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r6 &= 15\n r7 = 0\n again: r7 += 1\n if r7 < r6 goto again\n ${PASS}`,
  },
  {
    name: 'packet walked for as long as it lasts',
    code: 'too-many-branches',
    rejected: `${PACKET} r5 = 0\n again: r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r5 += 1\n r2 += 1\n goto again\n out: ${PASS}`,
    accepted: `${PACKET} r5 = 0\n again: r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r5 += 1\n r2 += 1\n if r5 < 16 goto again\n out: ${PASS}`,
  },
  {
    // Each round comes back to what the call of bpf_loop was given the round before.
    name: 'loop without an end around a loop of callbacks',
    code: 'too-many-branches',
    kernelAcceptsAsRoot: 'it takes the next call for a round of the one before, and those end (6.18)',
    rejected: `r6 = *(u32 *)(r1 +12)\n again: ${ROUNDS}\n if r6 != 0 goto again\n ${PASS} cb: r0 = 0\n exit`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r6 &= 3\n again: ${ROUNDS}\n r6 += -1\n if r6 s> 0 goto again\n ${PASS} cb: r0 = 0\n exit`,
  },
  {
    name: 'insn that nothing leads to',
    code: 'unreachable-insn',
    rejected: `r0 = 2\n exit\n r0 = 1\n exit`,
    accepted: `r0 = 2\n r1 = 0\n exit`,
  },
  {
    name: 'end without an exit',
    code: 'falls-through',
    rejected: `r0 = 2`,
    accepted: `r0 = 2\n exit`,
  },
  {
    name: 'jump past the end',
    code: 'jump-out-of-range',
    rejected: `r0 = 2\n if r0 == 1 goto pc+5\n exit`,
    accepted: `r0 = 2\n if r0 == 1 goto pc+0\n exit`,
  },
  {
    name: 'jump from one function into another',
    code: 'jump-out-of-range',
    rejected: `call f\n goto in\n f: r0 = 0\n in: exit`,
    accepted: `call f\n goto in\n in: exit\n f: r0 = 0\n exit`,
  },
  {
    name: 'call into the middle of an lddw',
    code: 'jump-into-lddw',
    rejected: `call pc+2\n exit\n r0 = 1 ll\n exit`,
    accepted: `call pc+1\n exit\n r0 = 1 ll\n exit`,
  },
  {
    name: 'jump into the middle of an lddw',
    code: 'jump-into-lddw',
    rejected: `r0 = 2\n if r0 == 1 goto pc+1\n r2 = 0x100000000ll\n exit`,
    accepted: `r0 = 2\n if r0 == 1 goto pc+2\n r2 = 0x100000000ll\n exit`,
  },
  {
    name: 'encoding that nothing defines',
    code: 'insn-invalid',
    rejected: `.quad 0x00000000000000ff\n ${PASS}`,
    accepted: PASS,
  },
];
