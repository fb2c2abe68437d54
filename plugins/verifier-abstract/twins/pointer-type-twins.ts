import { FOUND, PASS, type Twin } from './twin.js';

/** R6 = the context, or what `other` makes it; then the paths meet. */
const either = (other: string): string =>
  `*(u64 *)(r10 -8) = 0\n r8 = r1\n r6 = r1\n r9 = *(u32 *)(r1 +16)\n if r9 == 0 goto read\n ${other}\n`;

const READ = `read: r0 = *(u32 *)(r6 +12)\n`;

/** Reads through the stack's copy of a pointer, which is the context on one path; far enough on for the paths to be compared. */
const spilled = (other: string): string => `
  *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -24) = r1\n r9 = *(u32 *)(r1 +16)\n if r9 == 0 goto read\n ${other}\n
  read: r9 = 0\n r2 = 1\n r3 = 2\n r4 = 3\n if r2 == r3 goto on\n r5 = 5\n r2 += 1\n if r2 == r4 goto on\n r4 = 4\n
  on: r6 = *(u64 *)(r10 -24)\n r0 = *(u32 *)(r6 +12)\n ${PASS}`;

/** A function that reads what it is given, called with the context; then `second` with the address of fp-16. */
const called = (second: string, more = ''): string =>
  `*(u64 *)(r10 -8) = 0\n call f\n r1 = r10\n r1 += -16\n call ${second}\n ${PASS} f: r0 = *(u32 *)(r1 +12)\n exit\n ${more}`;

/** A callback that reads through the pointer in fp-8, which is the context, and puts `next` into its place. */
const rounds = (next: string): string =>
  `*(u64 *)(r10 -8) = r1\n r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r6 = *(u64 *)(r2 +0)\n r0 = *(u32 *)(r6 +12)\n ${next}\n *(u64 *)(r2 +0) = r6\n r0 = 0\n exit`;

const TUPLE = `*(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r6 = r1\n r7 = *(u32 *)(r1 +12)\n`;

/** R0 = a socket, by one helper or the other; leaves for `out` when there is none. */
const socketBy = (one: string, other: string): string => {
  const lookup = (helper: string): string =>
    `r2 = r10\n r2 += -16\n r3 = 12\n r4 = -1\n r5 = 0\n call ${helper}\n`;
  return `${TUPLE} if r7 == 0 goto other\n ${lookup(one)} goto met\n other: ${lookup(other)} met: if r0 == 0 goto out\n`;
};

/** R0 = what one cast of the socket in R6 or the other gives; leaves for `give` when that is NULL. */
const castBy = (one: string, other: string): string =>
  `${socketBy('bpf_skc_lookup_tcp', 'bpf_skc_lookup_tcp')} r6 = r0\n r1 = r0\n if r7 == 0 goto third\n ${one}\n goto cast\n third: ${other}\n cast: if r0 == 0 goto give\n`;

const RELEASE = `r1 = r0\n call bpf_sk_release\n`;

/** An insn may not read the context or a socket on one path and something else on another. */
export const POINTER_TYPE_TWINS: readonly Twin[] = [
  {
    name: 'an insn that reads the context or the stack',
    code: 'pointer-types-differ',
    rejected: `${either('r6 = r10\n r6 += -16')} ${READ} ${PASS}`,
    accepted: `${either('r6 = r10\n r6 += -16\n r0 = *(u32 *)(r6 +12)\n goto out')} ${READ} out: ${PASS}`,
  },
  {
    name: 'an insn that reads a value of a map or the context',
    code: 'pointer-types-differ',
    rejected: `r8 = r1\n ${FOUND} r6 = r0\n r9 = *(u32 *)(r8 +16)\n if r9 == 0 goto read\n r6 = r8\n ${READ} out: ${PASS}`,
    accepted: `r8 = r1\n ${FOUND} r6 = r0\n r9 = *(u32 *)(r8 +16)\n if r9 == 0 goto read\n r6 = map[wide][0]+0\n ${READ} out: ${PASS}`,
  },
  {
    name: 'an insn that reads the context or the packet',
    code: 'pointer-types-differ',
    rejected: `${either('r6 = *(u32 *)(r8 +0)\n r2 = *(u32 *)(r8 +4)\n r3 = r6\n r3 += 16\n if r3 > r2 goto out')} ${READ} out: ${PASS}`,
    accepted: `${either('r6 = *(u32 *)(r8 +0)\n r2 = *(u32 *)(r8 +4)\n r3 = r6\n r3 += 16\n if r3 > r2 goto out\n r0 = *(u32 *)(r6 +12)\n goto out')} ${READ} out: ${PASS}`,
  },
  {
    name: 'a spilled pointer that is the context or into the stack, read where states are compared',
    code: 'pointer-types-differ',
    rejected: spilled('r6 = r10\n r6 += -16\n *(u64 *)(r10 -24) = r6'),
    accepted: spilled('r6 = r1\n *(u64 *)(r10 -24) = r6'),
  },
  {
    name: 'a function that is called with the context and with the address of something else',
    code: 'pointer-types-differ',
    rejected: called('f'),
    accepted: called('g', 'g: r0 = *(u32 *)(r1 +12)\n exit'),
  },
  {
    name: 'a callback that reads the context in one round and a value of a map in the next',
    code: 'pointer-types-differ',
    rejected: rounds('r6 = map[wide][0]+0'),
    accepted: rounds('r7 = map[wide][0]+0'),
  },
  {
    name: 'an insn that reads a full socket or one that need not be',
    code: 'pointer-types-differ',
    rejected: `${socketBy('bpf_sk_lookup_tcp', 'bpf_skc_lookup_tcp')} r7 = *(u32 *)(r0 +4)\n ${RELEASE} out: ${PASS}`,
    accepted: `${socketBy('bpf_sk_lookup_tcp', 'bpf_sk_lookup_udp')} r7 = *(u32 *)(r0 +4)\n ${RELEASE} out: ${PASS}`,
  },
  {
    name: 'an insn that reads a socket or the structure that the kernel has of it',
    code: 'pointer-types-differ',
    rejected: `${castBy('call bpf_skc_to_tcp_sock', '')} r0 = *(u32 *)(r0 +4)\n give: r1 = r6\n call bpf_sk_release\n out: ${PASS}`,
    accepted: `${castBy('call bpf_skc_to_tcp_sock', 'call bpf_skc_to_tcp6_sock')} r0 = *(u32 *)(r0 +4)\n give: r1 = r6\n call bpf_sk_release\n out: ${PASS}`,
  },
  {
    name: 'an insn that reads an AF_XDP socket or the stack',
    code: 'pointer-types-differ',
    rejected: `*(u64 *)(r10 -8) = 0\n r7 = *(u32 *)(r1 +12)\n r2 = r10\n r2 += -8\n r1 = map[sockets]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n if r7 == 0 goto read\n r0 = r10\n r0 += -8\n read: r0 = *(u32 *)(r0 +0)\n out: ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n r7 = *(u32 *)(r1 +12)\n r2 = r10\n r2 += -8\n r1 = map[sockets]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n if r7 == 0 goto read\n goto out\n read: r0 = *(u32 *)(r0 +0)\n out: ${PASS}`,
  },
];
