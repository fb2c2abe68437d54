import { FOUND, PASS, type Twin } from './twin.js';

/** R6 = 64 bits of the packet of which nothing is known, R9 = the packet; leaves for `out` when it is shorter than 40 bytes. */
const UNKNOWN = `r9 = *(u32 *)(r1 +0)\n r5 = *(u32 *)(r1 +4)\n r2 = r9\n r2 += 40\n if r2 > r5 goto out\n r6 = *(u64 *)(r9 +8)\n`;
/** R7 likewise. */
const SECOND = `r7 = *(u64 *)(r9 +16)\n`;

/** A byte of the 16 of a value of `values`, at R6; R8 = the value. */
const VALUE = `${FOUND} r8 = r0\n`;
const useAs = (index: string): string => `r8 += ${index}\n r0 = *(u8 *)(r8 +0)\n out: ${PASS}`;
/** As \`useAs\`, on 256 bytes. */
const useWide = (index: string): string =>
  `r2 = map[wide][0]+0\n r2 += ${index}\n r0 = *(u8 *)(r2 +0)\n out: ${PASS}`;
/** Takes the context through FOUND, which needs it in R1. */
const START = `r6 = r1\n ${VALUE} r1 = r6\n ${UNKNOWN}`;

/** Two ways with R7 = 0 on the first and `second` on the other meet where a state is stored. */
const twoWays = (second: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r7 = 0\n if r6 > 3 goto B\n goto join\n B: r7 = ${second}\n join: r6 = 0\n ${STORED}`;
const STORED = `${'r0 = 0\n '.repeat(9)} goto s1\n s1: goto s2\n s2: ${'r0 = 0\n '.repeat(9)} goto s3\n s3: goto s4\n s4:`;

const RESERVE = `r1 = map[ring]\n r3 = 0\n call bpf_ringbuf_reserve\n`;
const SUBMIT = `r2 = 0\n call bpf_ringbuf_submit\n`;
const LOOP = (body: string): string =>
  `r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${body}`;

/**
 * Classes of faults of the kernel's verifier that were published and that an XDP program could have used, each with the
 * places where it was found in the kernel. What needs another program type, dynptrs or the CPU's speculation is not here.
 */
export const PUBLISHED_TWINS: readonly Twin[] = [
  {
    name: 'what a 32-bit comparison tells taken for all 64 bits',
    publishedAs: 'CVE-2020-8835',
    code: 'pointer-offset-unbounded',
    rejected: `${START} if w6 > 15 goto out\n ${useAs('r6')}`,
    accepted: `${START} if w6 > 15 goto out\n w6 = w6\n ${useAs('r6')}`,
  },
  {
    name: 'low half of an OR, of numbers that are bounded in 64 bits',
    publishedAs: 'CVE-2020-27194',
    code: 'map-value-bounds',
    rejected: `${START} r2 = 0x600000001 ll\n if r6 > r2 goto out\n if r6 == 0 goto out\n r6 |= 0\n w7 = w6\n r7 >>= 28\n r7 += 1\n ${useAs('r7')}`,
    accepted: `${START} r2 = 0x600000001 ll\n if r6 > r2 goto out\n if r6 == 0 goto out\n r6 |= 0\n w7 = w6\n r7 >>= 29\n r7 += 1\n ${useAs('r7')}`,
  },
  {
    name: 'exclusive OR of two numbers of which only the low halves are known',
    publishedAs: 'CVE-2021-3490',
    code: 'pointer-offset-unbounded',
    rejected: `${START} ${SECOND} if w6 != 9 goto out\n if w7 != 8 goto out\n r6 ^= r7\n ${useAs('r6')}`,
    accepted: `${START} ${SECOND} if w6 != 9 goto out\n if w7 != 8 goto out\n w6 ^= w7\n ${useAs('r6')}`,
  },
  {
    name: 'AND with a number of which only the low half is known',
    publishedAs: 'CVE-2021-3490',
    code: 'pointer-offset-unbounded',
    rejected: `${START} ${SECOND} if w7 != 8 goto out\n r6 &= r7\n ${useAs('r6')}`,
    accepted: `${START} ${SECOND} if w7 != 8 goto out\n w6 &= w7\n ${useAs('r6')}`,
  },
  {
    name: 'low half of a number that is not 0 in 64 bits',
    publishedAs: 'CVE-2021-31440',
    code: 'map-value-bounds',
    rejected: `${START} if r6 == 0 goto out\n w6 = w6\n if r6 > 15 goto out\n r6 += -1\n ${useAs('r6')}`,
    accepted: `${START} w6 = w6\n if r6 == 0 goto out\n if r6 > 15 goto out\n r6 += -1\n ${useAs('r6')}`,
  },
  {
    name: 'remainder by a number that may be 0',
    publishedAs: 'CVE-2021-3444',
    kernelRejectsAccepted: 'of a remainder it knows nothing',
    code: 'map-value-bounds',
    rejected: `${START} ${SECOND} if r7 > 16 goto out\n w6 %= w7\n ${useAs('r6')}`,
    accepted: `${START} ${SECOND} if r7 > 16 goto out\n if r7 == 0 goto out\n w6 %= w7\n ${useAs('r6')}`,
  },
  {
    name: '32-bit remainder by a number whose low half may be 0',
    publishedAs: 'CVE-2021-3600',
    kernelRejectsAccepted: 'of a remainder it knows nothing',
    code: 'map-value-bounds',
    rejected: `${START} r7 = 0x100000000 ll\n w6 %= w7\n ${useAs('r6')}`,
    accepted: `${START} r7 = 0x100000010 ll\n w6 %= w7\n ${useAs('r6')}`,
  },
  {
    name: 'minus one moved into the low half is not minus one',
    publishedAs: 'CVE-2017-16995, CVE-2021-45402',
    code: 'map-value-bounds',
    rejected: `r6 = r1\n ${VALUE} w6 = -1\n r6 += 1\n r6 >>= 28\n ${useAs('r6')}`,
    accepted: `r6 = r1\n ${VALUE} r6 = -1\n r6 += 1\n r6 >>= 28\n ${useAs('r6')}`,
  },
  {
    name: 'arithmetic on a record before the check for NULL',
    publishedAs: 'CVE-2021-4204, CVE-2022-23222',
    code: 'null-dereference',
    rejected: `r2 = 16\n ${RESERVE} r6 = r0\n r6 += 8\n if r0 == 0 goto out\n *(u8 *)(r6 +0) = 1\n r1 = r0\n ${SUBMIT} out: ${PASS}`,
    accepted: `r2 = 16\n ${RESERVE} if r0 == 0 goto out\n r6 = r0\n r6 += 8\n *(u8 *)(r6 +0) = 1\n r1 = r0\n ${SUBMIT} out: ${PASS}`,
  },
  {
    name: 'record moved by a number before it is given back',
    publishedAs: 'CVE-2021-4204',
    code: 'reference-release',
    rejected: `r7 = *(u32 *)(r1 +12)\n r7 &= 7\n r2 = 16\n ${RESERVE} if r0 == 0 goto out\n r1 = r0\n r1 += r7\n ${SUBMIT} out: ${PASS}`,
    accepted: `r7 = *(u32 *)(r1 +12)\n r7 &= 7\n r2 = 16\n ${RESERVE} if r0 == 0 goto out\n r1 = r0\n r1 += r7\n *(u8 *)(r1 +0) = 1\n r1 = r0\n ${SUBMIT} out: ${PASS}`,
  },
  {
    name: 'helper that writes to what may only be read',
    publishedAs: 'CVE-2022-0500',
    code: 'read-only',
    rejected: `r3 = map[constants][0]+0\n r2 = 0\n r4 = 8\n call bpf_xdp_load_bytes\n ${PASS}`,
    accepted: `r3 = map[constants][0]+0\n r2 = 0\n r4 = 8\n call bpf_xdp_store_bytes\n ${PASS}`,
  },
  {
    name: 'atomic operation on what may only be read',
    publishedAs: 'CVE-2022-0500',
    code: 'read-only',
    rejected: `r6 = map[constants][0]+8\n r1 = 1\n r1 = atomic64_fetch_add((u64 *)(r6 +0), r1)\n ${PASS}`,
    accepted: `r6 = map[constants][0]+8\n r1 = *(u64 *)(r6 +0)\n ${PASS}`,
  },
  {
    name: 'number that decides an access behind a copy of it',
    publishedAs: 'CVE-2023-2163',
    code: 'map-value-bounds',
    rejected: `${twoWays(300)} r3 = r7\n r3 <<= 1\n r3 >>= 1\n ${useWide('r3')}`,
    accepted: `${twoWays(200)} r3 = r7\n r3 <<= 1\n r3 >>= 1\n ${useWide('r3')}`,
  },
  {
    name: 'number that decides an access behind its spill',
    publishedAs: 'CVE-2023-2163',
    code: 'map-value-bounds',
    rejected: `${twoWays(300)} *(u64 *)(r10 -8) = r7\n r3 = *(u64 *)(r10 -8)\n ${useWide('r3')}`,
    accepted: `${twoWays(200)} *(u64 *)(r10 -8) = r7\n r3 = *(u64 *)(r10 -8)\n ${useWide('r3')}`,
  },
  {
    name: 'number that decides which branch is possible, and by that an access',
    publishedAs: 'CVE-2023-2163',
    code: 'map-value-bounds',
    rejected: `${twoWays(1)} r3 = 0\n if r7 == 0 goto near\n r3 = 300\n near: ${useWide('r3')}`,
    accepted: `${twoWays(1)} r3 = 0\n if r7 == 0 goto near\n r3 = 200\n near: ${useWide('r3')}`,
  },
  {
    name: 'number that decides an access behind a function that passes it on',
    publishedAs: 'CVE-2023-2163',
    code: 'map-value-bounds',
    rejected: `${twoWays(300)} r1 = r7\n call f\n r3 = r0\n ${useWide('r3')}\n f: r0 = r1\n exit`,
    accepted: `${twoWays(200)} r1 = r7\n call f\n r3 = r0\n ${useWide('r3')}\n f: r0 = r1\n exit`,
  },
  {
    name: 'size of a record from another way',
    publishedAs: 'CVE-2022-49961',
    code: 'memory-bounds',
    rejected: `r6 = *(u32 *)(r1 +12)\n r7 = 16\n if r6 > 3 goto B\n goto join\n B: r7 = 8\n join: r6 = 0\n ${STORED} r2 = r7\n ${RESERVE} if r0 == 0 goto out\n *(u64 *)(r0 +8) = 1\n r1 = r0\n ${SUBMIT} out: ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r7 = 16\n if r6 > 3 goto B\n goto join\n B: r7 = 24\n join: r6 = 0\n ${STORED} r2 = r7\n ${RESERVE} if r0 == 0 goto out\n *(u64 *)(r0 +8) = 1\n r1 = r0\n ${SUBMIT} out: ${PASS}`,
  },
  {
    name: 'zero bytes of the stack taken for any bytes',
    publishedAs: 'kernel commit 482d548d40b0, stores of constants in precision tracking',
    code: 'map-value-bounds',
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n if r6 > 3 goto B\n goto join\n B: *(u64 *)(r10 -8) = 300\n join: r6 = 0\n ${STORED} r3 = *(u32 *)(r10 -8)\n ${useWide('r3')}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n if r6 > 3 goto B\n goto join\n B: *(u64 *)(r10 -8) = 200\n join: r6 = 0\n ${STORED} r3 = *(u32 *)(r10 -8)\n ${useWide('r3')}`,
  },
  {
    name: 'memory that a dynptr stands for',
    publishedAs: 'CVE-2023-39191',
    code: 'helper-unsupported',
    kernelAcceptsAsRoot: 'dynptrs are not modelled',
    rejected: `r1 = map[wide][0]+0\n r2 = 64\n r3 = 0\n r4 = r10\n r4 += -16\n call bpf_dynptr_from_mem\n ${PASS}`,
    accepted: `r1 = map[wide][0]+0\n r0 = *(u64 *)(r1 +56)\n r0 = 2\n exit`,
  },
  {
    name: 'stack at an offset so large that sums of it come round',
    publishedAs: 'CVE-2023-52676',
    code: 'stack-bounds',
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n r2 = r10\n r6 &= 0x7ffffff8\n r2 += r6\n r0 = *(u8 *)(r2 -8)\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n r2 = r10\n r6 &= 7\n r2 += r6\n r0 = *(u8 *)(r2 -8)\n ${PASS}`,
  },
  {
    name: 'stack that only a state before this one had',
    publishedAs: 'CVE-2024-45020',
    kernelAcceptsAsRoot: 'root may read stack that was never written',
    code: 'uninitialised-stack',
    rejected: `r6 = *(u32 *)(r1 +12)\n if r6 > 3 goto B\n *(u64 *)(r10 -64) = 0\n goto join\n B: *(u64 *)(r10 -8) = 0\n join: r6 = 0\n ${STORED} r0 = *(u64 *)(r10 -64)\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n if r6 > 3 goto B\n *(u64 *)(r10 -64) = 0\n goto join\n B: *(u64 *)(r10 -64) = 1\n join: r6 = 0\n ${STORED} r0 = *(u64 *)(r10 -64)\n ${PASS}`,
  },
  {
    name: 'packet pointer after a function whose callee moves the packet',
    publishedAs: 'CVE-2024-58098, CVE-2024-58237',
    code: 'stale-packet-pointer',
    rejected: `r8 = r1\n ${UNKNOWN} r1 = r8\n call f\n r0 = *(u8 *)(r9 +0)\n out: ${PASS}\n f: call g\n r0 = 0\n exit\n g: r2 = 0\n call bpf_xdp_adjust_head\n exit`,
    accepted: `r8 = r1\n ${UNKNOWN} r1 = r8\n call f\n r0 = *(u8 *)(r9 +0)\n out: ${PASS}\n f: call g\n r0 = 0\n exit\n g: call bpf_xdp_get_buff_len\n exit`,
  },
  {
    name: 'copy that took a 32-bit constant more, checked for both',
    publishedAs: 'numbers that are linked by a constant that was added to 32 bits only',
    code: 'map-value-bounds',
    rejected: `${START} w6 = w6\n r7 = r6\n w7 += 1\n if r7 > 15 goto out\n ${useAs('r6')}`,
    accepted: `${START} w6 = w6\n r7 = r6\n r7 += 1\n if r7 > 15 goto out\n ${useAs('r6')}`,
  },
  {
    name: 'copy of a number whose bytes were swapped',
    publishedAs: 'kernel commit a3125bc01884, ids of numbers whose bytes are swapped',
    code: 'map-value-bounds',
    rejected: `${START} w6 = w6\n r7 = r6\n r6 = be32 r6\n if r6 > 15 goto out\n ${useAs('r7')}`,
    accepted: `${START} w6 = w6\n r6 = be32 r6\n r7 = r6\n if r6 > 15 goto out\n ${useAs('r7')}`,
  },
  {
    name: 'copy of a number that was negated',
    publishedAs: 'as for byte swaps, kernel commit a3125bc01884',
    code: 'pointer-offset-unbounded',
    rejected: `${START} r7 = r6\n r6 = -r6\n if r6 > 15 goto out\n ${useAs('r7')}`,
    accepted: `${START} r6 = -r6\n r7 = r6\n if r6 > 15 goto out\n ${useAs('r7')}`,
  },
  {
    name: 'copy of a number that an atomic operation replaced',
    publishedAs: 'as for byte swaps, kernel commit a3125bc01884',
    code: 'pointer-offset-unbounded',
    rejected: `${START} r7 = r6\n r6 = atomic64_fetch_add((u64 *)(r8 +0), r6)\n if r6 > 15 goto out\n ${useAs('r7')}`,
    accepted: `${START} r6 = atomic64_fetch_add((u64 *)(r8 +0), r6)\n r7 = r6\n if r6 > 15 goto out\n ${useAs('r7')}`,
  },
  {
    name: 'copy whose sign was extended',
    publishedAs: 'as for byte swaps, kernel commit a3125bc01884',
    code: 'pointer-offset-unbounded',
    rejected: `${START} r7 = (s8)r6\n if r7 > 15 goto out\n ${useAs('r6')}`,
    accepted: `${START} r7 = (s8)r6\n if r7 > 15 goto out\n ${useAs('r7')}`,
  },
  {
    name: 'two lookups that are equal, and both NULL',
    publishedAs: 'the comparison of two pointers that may both be NULL',
    code: 'pointer-comparison',
    rejected: `r6 = r1\n r7 = *(u32 *)(r6 +12)\n *(u32 *)(r10 -4) = r7\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem\n r8 = r0\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem\n if r0 != r8 goto out\n r0 = *(u8 *)(r8 +0)\n out: ${PASS}`,
    accepted: `r6 = r1\n r7 = *(u32 *)(r6 +12)\n *(u32 *)(r10 -4) = r7\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem\n r8 = r0\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem\n if r8 == 0 goto out\n r0 = *(u8 *)(r8 +0)\n out: ${PASS}`,
  },
  {
    name: "callback that gives its caller's record back, each time that it is called",
    publishedAs: 'CVE-2022-50650',
    code: 'use-after-release',
    rejected: `r2 = 16\n ${RESERVE} if r0 == 0 goto out\n *(u64 *)(r10 -8) = r0\n ${LOOP(`r1 = *(u64 *)(r10 -8)\n ${SUBMIT} out: ${PASS}`)} cb: r1 = *(u64 *)(r2 +0)\n ${SUBMIT} r0 = 0\n exit`,
    accepted: `r2 = 16\n ${RESERVE} if r0 == 0 goto out\n *(u64 *)(r10 -8) = r0\n ${LOOP(`r1 = *(u64 *)(r10 -8)\n ${SUBMIT} out: ${PASS}`)} cb: r1 = *(u64 *)(r2 +0)\n *(u8 *)(r1 +0) = 1\n r0 = 0\n exit`,
  },
  {
    name: 'callback that takes a record and keeps it',
    publishedAs: 'CVE-2022-50650',
    code: 'reference-leak',
    rejected: `*(u64 *)(r10 -8) = 0\n ${LOOP(PASS)} cb: r2 = 8\n ${RESERVE} r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n ${LOOP(PASS)} cb: r2 = 8\n ${RESERVE} if r0 == 0 goto none\n r1 = r0\n ${SUBMIT} none: r0 = 0\n exit`,
  },
  {
    name: 'number that a callback makes large in its third round',
    publishedAs: 'kernel commit ab5cfac139ab, callbacks that are called more than once',
    code: 'map-value-bounds',
    rejected: `*(u64 *)(r10 -8) = 0\n ${LOOP(`r3 = *(u64 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n ${PASS}`)} cb: r1 = *(u64 *)(r2 +0)\n if r1 == 2 goto large\n if r1 > 2 goto done\n r1 += 1\n *(u64 *)(r2 +0) = r1\n done: r0 = 0\n exit\n large: *(u64 *)(r2 +0) = 300\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n ${LOOP(`r3 = *(u64 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n ${PASS}`)} cb: r1 = *(u64 *)(r2 +0)\n if r1 == 2 goto large\n if r1 > 2 goto done\n r1 += 1\n *(u64 *)(r2 +0) = r1\n done: r0 = 0\n exit\n large: *(u64 *)(r2 +0) = 200\n r0 = 0\n exit`,
  },
];
