import { PACKET, PASS, type Twin } from './twin.js';

const KEY = `*(u32 *)(r10 -4) = 0\n r2 = r10\n r2 += -4\n`;

/** Calls bpf_for_each_map_elem on `flows` with the address of fp-16 as context. */
const FOR_EACH = `*(u64 *)(r10 -16) = 0\n r1 = map[flows]\n r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_for_each_map_elem\n`;

/** R1 = the map under key 0 of a map of maps; leaves for `out` when there is none. */
const innerOf = (map: string): string =>
  `${KEY} r1 = map[${map}]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = r0\n`;

/** Counts in fp-16 up to 5 rounds, then reads beyond `wide`. */
const COUNTING = `cb: r6 = *(u64 *)(r4 +0)\n r5 = map[wide][0]+0\n r5 += r6\n r0 = *(u8 *)(r5 +0)\n r6 += 128\n *(u64 *)(r4 +0) = r6\n r0 = 0\n exit`;
const COUNTING_BOUNDED = `cb: r6 = *(u64 *)(r4 +0)\n r0 = 1\n if r6 > 255 goto stop\n r5 = map[wide][0]+0\n r5 += r6\n r0 = *(u8 *)(r5 +0)\n r6 += 128\n *(u64 *)(r4 +0) = r6\n r0 = 0\n stop: exit`;

/** What crosses from one function, callback, program or map to another. */
export const BOUNDARY_TWINS: readonly Twin[] = [
  {
    name: 'result of a function that may be left by a tail call',
    code: 'pointer-offset-unbounded',
    rejected: `call f\n r2 = map[wide][0]+0\n r2 += r0\n r0 = *(u8 *)(r2 +0)\n ${PASS} f: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
    accepted: `call f\n r2 = map[wide][0]+0\n r0 &= 0xff\n r2 += r0\n r0 = *(u8 *)(r2 +0)\n ${PASS} f: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
  },
  {
    name: 'code behind a function that returns only by a tail call',
    code: 'null-dereference',
    rejected: `call f\n if r0 == 0 goto fine\n r0 = 0\n r0 = *(u8 *)(r0 +0)\n fine: ${PASS} f: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
    accepted: `call f\n if r0 == 0 goto fine\n r0 = 0\n fine: ${PASS} f: r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
  },
  {
    name: 'packet pointer of the caller after a function that moved the packet',
    code: 'stale-packet-pointer',
    rejected: `r6 = r1\n ${PACKET} r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r7 = r2\n r1 = r6\n call f\n r0 = *(u8 *)(r7 +0)\n out: ${PASS} f: r2 = 4\n call bpf_xdp_adjust_head\n r0 = 0\n exit`,
    accepted: `r6 = r1\n ${PACKET} r4 = r2\n r4 += 14\n if r4 > r3 goto out\n r7 = r2\n r1 = r6\n r0 = *(u8 *)(r7 +0)\n call f\n out: ${PASS} f: r2 = 4\n call bpf_xdp_adjust_head\n r0 = 0\n exit`,
  },
  {
    name: 'tail call in a callback',
    code: 'callback-invalid',
    rejected: `*(u64 *)(r10 -8) = r1\n r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r1 = *(u64 *)(r2 +0)\n r2 = map[programs]\n r3 = 0\n call bpf_tail_call\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -8) = r1\n r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_loop\n ${PASS} cb: r1 = *(u64 *)(r2 +0)\n r0 = 0\n exit`,
  },
  {
    name: 'key of an element kept after the callback',
    code: 'use-after-release',
    kernelAcceptsAsRoot: 'it does not mind how long the key is there',
    rejected: `${FOR_EACH} r6 = *(u64 *)(r10 -16)\n if r6 == 0 goto out\n r0 = *(u32 *)(r6 +0)\n out: ${PASS} cb: *(u64 *)(r4 +0) = r2\n r0 = 1\n exit`,
    accepted: `${FOR_EACH} r6 = *(u64 *)(r10 -16)\n out: ${PASS} cb: r2 = *(u32 *)(r2 +0)\n *(u64 *)(r4 +0) = r2\n r0 = 1\n exit`,
  },
  {
    name: 'value of an element kept for the next round of the callback',
    code: 'use-after-release',
    kernelAcceptsAsRoot: 'it trusts the element to stay where it is',
    rejected: `${FOR_EACH} ${PASS} cb: r6 = *(u64 *)(r4 +0)\n *(u64 *)(r4 +0) = r3\n if r6 == 0 goto out\n r0 = *(u32 *)(r6 +0)\n out: r0 = 0\n exit`,
    accepted: `${FOR_EACH} ${PASS} cb: r6 = r3\n *(u64 *)(r4 +0) = r3\n r0 = *(u32 *)(r6 +0)\n out: r0 = 0\n exit`,
  },
  {
    name: 'pointer on the stack that a callback overwrites',
    code: 'not-a-pointer',
    rejected: `*(u64 *)(r10 -16) = r1\n r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_loop\n r1 = *(u64 *)(r10 -16)\n r0 = *(u32 *)(r1 +0)\n ${PASS} cb: *(u64 *)(r2 +0) = 4096\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -16) = r1\n r1 = 4\n r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_loop\n r1 = *(u64 *)(r10 -16)\n r0 = *(u32 *)(r1 +0)\n ${PASS} cb: r1 = *(u64 *)(r2 +0)\n *(u64 *)(r2 +0) = r1\n r0 = 0\n exit`,
  },
  {
    name: 'more elements in an inner map than in the one it was declared by',
    code: 'map-value-bounds',
    kernelRejectsAccepted: 'it creates no map of maps whose inner maps may be of several sizes here: EINVAL',
    rejected: `*(u64 *)(r10 -16) = 0\n ${innerOf('tables')} r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_for_each_map_elem\n out: ${PASS} ${COUNTING}`,
    accepted: `*(u64 *)(r10 -16) = 0\n ${innerOf('tables')} r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_for_each_map_elem\n out: ${PASS} ${COUNTING_BOUNDED}`,
  },
  {
    name: 'callback that adds to the map it is called for',
    code: 'map-value-bounds',
    rejected: `*(u64 *)(r10 -16) = 0\n r1 = map[pair]\n r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_for_each_map_elem\n ${PASS} ${COUNTING}`,
    accepted: `*(u64 *)(r10 -16) = 0\n r1 = map[pair]\n r2 = subprog[cb]\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_for_each_map_elem\n ${PASS} ${COUNTING_BOUNDED}`,
  },
  {
    name: 'index that is inside the declared inner map, but may be outside of the one that is there',
    code: 'null-dereference',
    rejected: `${innerOf('nested')} *(u32 *)(r10 -8) = 3\n r2 = r10\n r2 += -8\n call bpf_map_lookup_elem\n r0 = *(u64 *)(r0 +0)\n out: ${PASS}`,
    accepted: `${innerOf('nested')} *(u32 *)(r10 -8) = 3\n r2 = r10\n r2 += -8\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r0 = *(u64 *)(r0 +0)\n out: ${PASS}`,
  },
  {
    name: 'second element of a frozen map taken for the first',
    code: 'null-dereference',
    rejected: `*(u32 *)(r10 -4) = 1\n r2 = r10\n r2 += -4\n r1 = map[texts]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = *(u8 *)(r0 +0)\n if r1 == 104 goto out\n r0 = 0\n r0 = *(u8 *)(r0 +0)\n out: ${PASS}`,
    accepted: `*(u32 *)(r10 -4) = 0\n r2 = map[constants][0]+0\n r1 = *(u32 *)(r2 +16)\n if r1 == 5 goto out\n r0 = 0\n r0 = *(u8 *)(r0 +0)\n out: ${PASS}`,
  },
  {
    name: 'value taken from a queue that programs may only write',
    code: 'write-only',
    rejected: `r1 = map[outbox]\n r2 = r10\n r2 += -8\n call bpf_map_pop_elem\n ${PASS}`,
    accepted: `r1 = map[queue]\n r2 = r10\n r2 += -8\n call bpf_map_pop_elem\n ${PASS}`,
    kernelAcceptsAsRoot: 'it does not look at the flag when the element is taken out',
  },
  {
    name: 'byte of a value of no bytes',
    code: 'map-value-bounds',
    rejected: `${KEY} r1 = map[empty]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r0 = *(u8 *)(r0 +0)\n out: ${PASS}`,
    accepted: `${KEY} r1 = map[flows]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r0 = *(u8 *)(r0 +0)\n out: ${PASS}`,
  },
];
