import { PACKET, PASS, type Twin } from './twin.js';

/** A byte behind 14 of the packet, or the last of these, where the pointer behind them is data_end. */
const atEnd = (first: string, second: string, byte: number): string =>
  `${PACKET} r4 = r2\n r4 += 14\n ${first}\n ${second}\n r0 = *(u8 *)(r2 +${byte})\n out: ${PASS}`;
const AT_LEAST = ['if r4 >= r3 goto at\n goto out\n at: r5 = 0', 'if r4 < r3 goto out'] as const;
const NOT_ABOVE = ['if r4 > r3 goto out', 'if r4 <= r3 goto in\n goto out\n in: r5 = 0'] as const;
/** The comparison at the start of some insns, in words. */
const comparison = (text: string): string => text.split(' goto')[0]!;

/**
 * What a second comparison with data_end can still find, of a pointer that the first one found at (`<` not taken) or beyond
 * the end. R0 is read past the packet on the way that is possible, or on the one that is not.
 */
const again = (first: '<' | '<=', relation: string, isTaken: boolean): Twin => {
  const head = `${PACKET} r4 = r2\n r4 += 14\n if r4 ${first} r3 goto inside\n if r4 ${relation} r3 goto taken\n`;
  const read = `r0 = *(u8 *)(r2 +13)\n`;
  const ways = (onTaken: boolean): string =>
    `${head}${onTaken ? '' : read} goto out\n taken: ${onTaken ? read : 'r0 = 0\n'} goto out\n inside: r0 = 0\n out: ${PASS}`;
  return {
    name: `second comparison of a pointer that is not ${first} data_end: ${relation}`,
    code: 'packet-bounds',
    rejected: ways(isTaken),
    accepted: ways(!isTaken),
  };
};

export const PACKET_TWINS: readonly Twin[] = [
  again('<=', '>', true),
  again('<=', '>=', true),
  again('<=', '<', false),
  again('<=', '<=', false),
  again('<', '>=', true),
  again('<', '<', false),
  {
    name: 'a pointer that is not data_end proves nothing',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 14\n if r4 != r3 goto other\n goto out\n other: r0 = *(u8 *)(r2 +13)\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 14\n if r4 != r3 goto other\n goto out\n other: if r4 > r3 goto out\n r0 = *(u8 *)(r2 +13)\n out: ${PASS}`,
  },
  {
    name: 'a pointer that is not data_end need not be beyond it',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 14\n if r4 == r3 goto out\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +14)\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 14\n if r4 == r3 goto out\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +13)\n out: ${PASS}`,
  },
  {
    name: 'pointer at data_end may be beyond it',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 14\n if r4 < r3 goto out\n if r4 > r3 goto beyond\n r0 = *(u8 *)(r2 +13)\n goto out\n beyond: r0 = *(u8 *)(r2 +13)\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 14\n if r4 < r3 goto out\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +13)\n out: ${PASS}`,
  },
  {
    name: 'packet read without a comparison',
    code: 'packet-bounds',
    rejected: `${PACKET} r0 = *(u8 *)(r2 +0)\n exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 1\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'packet read one byte past what was compared',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 14\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u32 *)(r2 +11)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 14\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u32 *)(r2 +10)\n out: exit`,
  },
  {
    name: 'greater-or-equal proves one byte more than greater',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 13\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +13)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 13\n r0 = 2\n if r4 >= r3 goto out\n r0 = *(u8 *)(r2 +13)\n out: exit`,
  },
  {
    name: 'the branches of the comparison swapped',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 8\n r0 = 2\n if r4 <= r3 goto out\n r0 = *(u64 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 8\n r0 = 2\n if r4 <= r3 goto in\n exit\n in: r0 = *(u64 *)(r2 +0)\n exit`,
  },
  {
    name: 'data_end on the left, off by one',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 8\n r0 = 2\n if r3 >= r4 goto in\n exit\n in: r0 = *(u64 *)(r2 +1)\n exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 8\n r0 = 2\n if r3 >= r4 goto in\n exit\n in: r0 = *(u64 *)(r2 +0)\n exit`,
  },
  {
    name: 'data_end on the left, strictly greater gives one byte more',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 7\n r0 = 2\n if r3 >= r4 goto in\n exit\n in: r0 = *(u64 *)(r2 +0)\n exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 7\n r0 = 2\n if r3 > r4 goto in\n exit\n in: r0 = *(u64 *)(r2 +0)\n exit`,
  },
  {
    name: 'comparison with less proves in the branch that is taken',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 3\n r0 = 2\n if r4 < r3 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 3\n r0 = 2\n if r4 < r3 goto in\n exit\n in: r0 = *(u32 *)(r2 +0)\n exit`,
  },
  ...AT_LEAST.flatMap((first) =>
    NOT_ABOVE.map((second): Twin => ({
      name: `pointer that is data_end at least, and not above it: ${comparison(first)}, ${comparison(second)}`,
      code: 'packet-bounds',
      rejected: atEnd(first, second, 14),
      accepted: atEnd(first, second, 13),
    })),
  ),
  {
    name: 'a comparison on 32 bits proves nothing',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if w4 > w3 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'packet write past the end',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n *(u64 *)(r2 +0) = 0\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 8\n r0 = 2\n if r4 > r3 goto out\n *(u64 *)(r2 +0) = 0\n out: exit`,
  },
  {
    name: 'packet read before its start',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 -1)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u8 *)(r4 -1)\n out: exit`,
  },
  {
    name: 'variable offset, compared before it was added',
    code: 'packet-bounds',
    rejected: `${PACKET} r0 = 2\n r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r5 = *(u8 *)(r2 +0)\n r2 += r5\n r0 = *(u8 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r0 = 2\n r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r5 = *(u8 *)(r2 +0)\n r2 += r5\n r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'two variable offsets are not one',
    code: 'packet-bounds',
    rejected: `${PACKET} r0 = 2\n r4 = r2\n r4 += 14\n if r4 > r3 goto out
      r5 = *(u8 *)(r2 +0)\n r6 = r2\n r6 += r5\n r7 = *(u8 *)(r2 +1)\n r2 += r7\n r4 = r2\n r4 += 1\n if r4 > r3 goto out
      r0 = *(u8 *)(r6 +0)\n out: exit`,
    accepted: `${PACKET} r0 = 2\n r4 = r2\n r4 += 14\n if r4 > r3 goto out
      r5 = *(u8 *)(r2 +0)\n r2 += r5\n r6 = r2\n r4 = r2\n r4 += 1\n if r4 > r3 goto out
      r0 = *(u8 *)(r6 +0)\n out: exit`,
  },
  {
    name: 'variable offset too large for a comparison to prove anything',
    code: 'packet-bounds',
    rejected: `${PACKET} r0 = 2\n r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r5 = *(u32 *)(r2 +0)\n r5 &= 0xfffff\n r2 += r5\n r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r0 = 2\n r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r5 = *(u32 *)(r2 +0)\n r5 &= 0x7fff\n r2 += r5\n r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'variable offset that may be negative',
    code: 'pointer-offset-unbounded',
    rejected: `${PACKET} r0 = 2\n r5 = *(u32 *)(r1 +16)\n r5 <<= 48\n if r5 s> 100 goto out\n r2 += r5\n r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r0 = 2\n r5 = *(u32 *)(r1 +16)\n r5 <<= 48\n if r5 > 100 goto out\n r2 += r5\n r4 = r2\n r4 += 1\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'packet pointer used after bpf_xdp_adjust_head',
    code: 'stale-packet-pointer',
    rejected: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r3 = *(u32 *)(r1 +4)\n r4 = r7\n r4 += 14\n r0 = 2\n if r4 > r3 goto out\n r2 = 4\n call bpf_xdp_adjust_head\n r0 = *(u8 *)(r7 +0)\n out: exit`,
    accepted: `r6 = r1\n r2 = 4\n call bpf_xdp_adjust_head\n r0 = 2\n r7 = *(u32 *)(r6 +0)\n r3 = *(u32 *)(r6 +4)\n r4 = r7\n r4 += 14\n if r4 > r3 goto out\n r0 = *(u8 *)(r7 +0)\n out: exit`,
  },
  {
    name: 'packet pointer on the stack across bpf_xdp_adjust_tail',
    code: 'stale-packet-pointer',
    rejected: `${PACKET} r4 = r2\n r4 += 14\n r0 = 2\n if r4 > r3 goto out\n *(u64 *)(r10 -8) = r2\n r2 = 0\n call bpf_xdp_adjust_tail\n r2 = *(u64 *)(r10 -8)\n r0 = *(u8 *)(r2 +0)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 14\n r0 = 2\n if r4 > r3 goto out\n *(u64 *)(r10 -8) = r2\n r2 = *(u64 *)(r10 -8)\n r0 = *(u8 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'metadata compared with data_end instead of data',
    code: 'packet-bounds',
    rejected: `r2 = *(u32 *)(r1 +8)\n r3 = *(u32 *)(r1 +4)\n r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
    accepted: `r2 = *(u32 *)(r1 +8)\n r3 = *(u32 *)(r1 +0)\n r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'metadata compared with data that was moved',
    code: 'packet-bounds',
    rejected: `r2 = *(u32 *)(r1 +8)\n r3 = *(u32 *)(r1 +0)\n r3 += 8\n r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
    accepted: `r2 = *(u32 *)(r1 +8)\n r3 = *(u32 *)(r1 +0)\n r4 = r2\n r4 += 4\n r0 = 2\n if r3 < r4 goto out\n r0 = *(u32 *)(r2 +0)\n out: exit`,
  },
  {
    name: 'arithmetic on data_end',
    code: 'pointer-arithmetic',
    rejected: `${PACKET} r3 += -4\n r0 = 2\n if r2 > r3 goto out\n out: exit`,
    accepted: `${PACKET} r2 += 4\n r0 = 2\n if r2 > r3 goto out\n out: exit`,
  },
  {
    name: 'data_end moved by 0',
    code: 'pointer-arithmetic',
    rejected: `${PACKET} r3 += 0\n r0 = 2\n if r2 > r3 goto out\n out: exit`,
    accepted: `${PACKET} r2 += 0\n r0 = 2\n if r2 > r3 goto out\n out: exit`,
  },
  {
    name: 'length of the packet on 32 bits, with another pointer in it',
    code: 'pointer-leak',
    rejected: `${PACKET} w4 = w3\n r4 -= r2\n w0 = w4\n exit`,
    accepted: `${PACKET} w4 = w3\n w4 -= w2\n w0 = w4\n exit`,
  },
  {
    name: 'the range of a copy that was moved afterwards',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r5 = r2\n r5 += 4\n r0 = *(u8 *)(r5 +0)\n out: exit`,
    accepted: `${PACKET} r4 = r2\n r4 += 4\n r0 = 2\n if r4 > r3 goto out\n r5 = r2\n r5 += 3\n r0 = *(u8 *)(r5 +0)\n out: exit`,
  },
  {
    name: 'packet memory for a helper, compared one byte short',
    code: 'packet-bounds',
    rejected: `${PACKET} r4 = r2\n r4 += 3\n if r4 > r3 goto out\n r1 = map[flows]\n call bpf_map_lookup_elem\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 4\n if r4 > r3 goto out\n r1 = map[flows]\n call bpf_map_lookup_elem\n out: ${PASS}`,
  },
  {
    name: 'packet memory for a helper that cannot take it',
    code: 'packet-memory-argument',
    rejected: `${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r1 = map[ring]\n r3 = 8\n r4 = 0\n call bpf_ringbuf_output\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r5 = *(u64 *)(r2 +0)\n *(u64 *)(r10 -8) = r5\n r2 = r10\n r2 += -8\n r1 = map[ring]\n r3 = 8\n r4 = 0\n call bpf_ringbuf_output\n out: ${PASS}`,
  },
  {
    name: 'packet pointer used after a local function made a tail call',
    publishedAs: 'CVE-2024-58237',
    code: 'stale-packet-pointer',
    rejected: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r8 = *(u32 *)(r1 +4)\n r2 = r7\n r2 += 60\n r0 = 2\n if r2 > r8 goto out\n call sub\n r0 = *(u8 *)(r7 +59)\n out: exit\n sub: r3 = 0\n r2 = map[programs]\n call bpf_tail_call\n r0 = 0\n exit`,
    accepted: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r8 = *(u32 *)(r1 +4)\n r2 = r7\n r2 += 60\n r0 = 2\n if r2 > r8 goto out\n r0 = *(u8 *)(r7 +59)\n r9 = r0\n call sub\n r0 = r9\n out: exit\n sub: r3 = 0\n r2 = map[programs]\n call bpf_tail_call\n r0 = 0\n exit`,
  },
  {
    name: 'packet pointer after the tail was moved; bytes stored leave the packet where it is',
    code: 'stale-packet-pointer',
    rejected: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r8 = *(u32 *)(r1 +4)\n r2 = r7\n r2 += 60\n r0 = 2\n if r2 > r8 goto out\n r1 = r6\n r2 = -4\n call bpf_xdp_adjust_tail\n r0 = *(u8 *)(r7 +14)\n out: exit`,
    accepted: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r8 = *(u32 *)(r1 +4)\n r2 = r7\n r2 += 60\n r0 = 2\n if r2 > r8 goto out\n *(u32 *)(r10 -4) = 0\n r1 = r6\n r2 = 8000\n r3 = r10\n r3 += -4\n r4 = 4\n call bpf_xdp_store_bytes\n r0 = *(u8 *)(r7 +14)\n out: exit`,
  },
  {
    name: 'the length of all buffers is not how much may be accessed directly',
    code: 'packet-bounds',
    rejected: `r6 = r1\n call bpf_xdp_get_buff_len\n r2 = *(u32 *)(r6 +0)\n if r0 < 60 goto out\n r0 = *(u8 *)(r2 +59)\n exit\n out: ${PASS}`,
    accepted: `r6 = r1\n call bpf_xdp_get_buff_len\n r2 = *(u32 *)(r6 +0)\n r3 = *(u32 *)(r6 +4)\n if r0 < 60 goto out\n r4 = r2\n r4 += 60\n if r4 > r3 goto out\n r0 = *(u8 *)(r2 +59)\n exit\n out: ${PASS}`,
  },
  {
    name: 'bytes of the packet loaded past the end of the buffer',
    code: 'stack-bounds',
    rejected: `r2 = 8000\n r3 = r10\n r3 += -8\n r4 = 9\n call bpf_xdp_load_bytes\n ${PASS}`,
    accepted: `r2 = 8000\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_load_bytes\n ${PASS}`,
  },
  {
    name: 'bytes of the packet loaded into the packet',
    code: 'packet-memory-argument',
    rejected: `r6 = r1\n ${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r1 = r6\n r3 = r2\n r2 = 8000\n r4 = 8\n call bpf_xdp_load_bytes\n out: ${PASS}`,
    accepted: `r6 = r1\n ${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r1 = r6\n r3 = r10\n r3 += -8\n r2 = 8000\n r4 = 8\n call bpf_xdp_load_bytes\n out: ${PASS}`,
  },
  {
    name: 'bytes of stack that were never written stored in the packet',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: 'root may read stack that was never written',
    rejected: `*(u32 *)(r10 -4) = 0\n r2 = 8000\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_store_bytes\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n r2 = 8000\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_store_bytes\n ${PASS}`,
  },
];
