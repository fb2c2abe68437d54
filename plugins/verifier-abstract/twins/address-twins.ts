import { FOUND, LOOKUP, PACKET, PASS, type Twin } from './twin.js';

const READ_SMALL_NUMBER = `r4 = 0x41414141\n r0 = *(u64 *)(r4 +0)\n`;

/** R4 = any number. */
const NUMBER = `r4 = map[wide][0]+0\n r4 = *(u64 *)(r4 +0)\n`;

const orderInValue = (moved: number): string =>
  `r6 = map[wide][0]+0\n r7 = r6\n r7 += ${moved}\n if r6 > r7 goto out\n out: ${PASS}`;

const orderInPacket = (moved: number): string =>
  `${PACKET} r4 = r2\n r4 += ${moved}\n if w2 > w4 goto out\n out: ${PASS}`;

/**
 * Addresses are small numbers here: what is true of the kernel's far-away ones, that pointers are never 0 and do not
 * wrap around, is not to be taken for granted of a pointer that was moved (docs/decisions/0013).
 */
export const ADDRESS_TWINS: readonly Twin[] = [
  {
    name: 'stack pointer stepped down until it is 0',
    code: 'pointer-comparison',
    rejected: `r2 = r10\n r3 = 0\n loop: r2 += -4096\n if r2 == 0 goto dead\n r3 += 1\n if r3 < 100 goto loop\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    accepted: `r2 = r10\n r3 = 0\n loop: r2 += -16\n if r2 == 0 goto dead\n r3 += 1\n if r3 < 100 goto loop\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    kernelRejectsAccepted: 'it knows of stack pointers only that they are not to be compared',
  },
  {
    name: 'map value moved far down, then compared with 0',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'memory of the kernel is far from 0 (docs/decisions/0013)',
    rejected: `${FOUND} r0 += -65536\n if r0 == 0 goto dead\n out: ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    accepted: `${FOUND} r0 += -65535\n if r0 == 0 goto dead\n out: ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
  },
  {
    name: 'packet pointer moved down by a number, then compared with 0',
    code: 'pointer-comparison',
    rejected: `r4 = *(u32 *)(r1 +12)\n r4 &= 0x1ffff\n ${PACKET} r2 -= r4\n if r2 == 0 goto dead\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    accepted: `r4 = *(u32 *)(r1 +12)\n r4 &= 0x7fff\n ${PACKET} r2 -= r4\n if r2 == 0 goto dead\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    kernelRejectsAccepted: 'it knows of packet pointers only that they are not to be compared with 0',
  },
  {
    name: 'wrapping around, seen by comparing with data_end',
    code: 'pointer-comparison',
    rejected: `${PACKET} r0 = 1\n r2 += -100000\n if r2 > r3 goto out\n r0 = 2\n out: exit`,
    accepted: `${PACKET} r0 = 1\n r2 += 10000\n if r2 > r3 goto out\n r0 = 2\n out: exit`,
    kernelAcceptsAsRoot: 'its addresses do not wrap around within 2^29 bytes',
  },
  {
    name: 'wrapping around, seen by comparing data_end with it',
    code: 'pointer-comparison',
    rejected: `${PACKET} r0 = 1\n r2 += -100000\n if r3 < r2 goto out\n r0 = 2\n out: exit`,
    accepted: `${PACKET} r0 = 1\n r2 += 10000\n if r3 < r2 goto out\n r0 = 2\n out: exit`,
    kernelAcceptsAsRoot: 'its addresses do not wrap around within 2^29 bytes',
  },
  {
    name: 'low half of a packet pointer that is 0, which it may be',
    code: 'not-a-pointer',
    rejected: `${PACKET} w4 = w2\n if r4 == 0 goto dead\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    accepted: `${PACKET} w4 = w2\n if r4 == 0 goto dead\n ${PASS} dead: ${PASS}`,
  },
  {
    name: 'low half of a moved packet pointer compared with 0',
    code: 'pointer-comparison',
    rejected: `${PACKET} w2 = w2\n w2 -= 4096\n r0 = 1\n if w2 == 0 goto out\n r0 = 2\n out: exit`,
    accepted: `${PACKET} w2 = w2\n r0 = 1\n if w2 == 0 goto out\n r0 = 2\n out: exit`,
    kernelAcceptsAsRoot: 'addresses may be seen',
  },
  {
    name: 'order of two pointers into a value, of which the second was moved far down',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: orderInValue(-65536),
    accepted: orderInValue(-65535),
  },
  {
    name: 'order of packet pointers on 32 bits, of which the second was moved farther than a packet is long',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: orderInPacket(65537),
    accepted: orderInPacket(65536),
  },
  {
    name: 'packet pointer moved farther than a packet is long, compared with 0 on 32 bits',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: `${PACKET} r2 += 65537\n if w2 == 0 goto out\n out: ${PASS}`,
    accepted: `${PACKET} r2 += 65536\n if w2 == 0 goto out\n out: ${PASS}`,
  },
  {
    name: 'low half of a packet pointer ordered with a whole one',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: `${PACKET} w4 = w2\n if r4 > r3 goto out\n out: ${PASS}`,
    accepted: `${PACKET} w4 = w2\n if w4 > w3 goto out\n out: ${PASS}`,
  },
  {
    name: 'order of pointers into a value on 32 bits',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: `r6 = map[wide][0]+0\n r7 = map[wide][0]+8\n if w6 > w7 goto out\n out: ${PASS}`,
    accepted: `r6 = map[wide][0]+0\n r7 = map[wide][0]+8\n if r6 > r7 goto out\n out: ${PASS}`,
  },
  {
    name: 'value compared with 0 on 32 bits',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'addresses may be seen',
    rejected: `r6 = map[wide][0]+0\n if w6 == 0 goto out\n out: ${PASS}`,
    accepted: `r6 = map[wide][0]+0\n if r6 == 0 goto out\n out: ${PASS}`,
  },
  {
    name: 'arithmetic on a pointer from before the packet was moved',
    code: 'stale-packet-pointer',
    kernelAcceptsAsRoot: 'it makes a number of it, which root may have',
    rejected: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r2 = 0\n call bpf_xdp_adjust_head\n r7 += 4\n ${PASS}`,
    accepted: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n r2 = 0\n call bpf_xdp_adjust_head\n r7 = *(u32 *)(r6 +0)\n r7 += 4\n ${PASS}`,
  },
  {
    name: 'pointer from before the packet was moved compared with 0',
    code: 'stale-packet-pointer',
    rejected: `r7 = *(u32 *)(r1 +0)\n r2 = 0\n call bpf_xdp_adjust_head\n if r7 == 0 goto dead\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    accepted: `r6 = r1\n r2 = 0\n call bpf_xdp_adjust_head\n r7 = *(u32 *)(r6 +0)\n if r7 == 0 goto dead\n ${PASS} dead: ${READ_SMALL_NUMBER} ${PASS}`,
    kernelRejectsAccepted: 'it knows of packet pointers only that they are not to be compared with 0',
  },
  {
    name: 'distance of two pointers of which one may be NULL',
    code: 'pointer-leak',
    rejected: `${LOOKUP} r8 = r0\n r2 = r10\n r2 += -4\n r1 = map[values]\n call bpf_map_lookup_elem\n r8 -= r0\n ${PASS}`,
    accepted: `${FOUND} r8 = r0\n r2 = r10\n r2 += -4\n r1 = map[values]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r8 -= r0\n out: ${PASS}`,
    kernelAcceptsAsRoot: 'addresses may be seen',
  },
  {
    name: 'distance of values of two maps out of one map of maps',
    code: 'pointer-leak',
    rejected: `r7 = *(u32 *)(r1 +16)\n ${inner(0)} r8 = r0\n ${inner(1)} r8 -= r0\n out: ${PASS}`,
    accepted: `r7 = *(u32 *)(r1 +16)\n ${inner(0)} r8 = r0\n r8 -= 8\n ${inner(1)} out: ${PASS}`,
    kernelAcceptsAsRoot: 'addresses may be seen',
  },
  {
    name: 'numbers subtracted again and again until the offset has no bound',
    code: 'pointer-offset-unbounded',
    rejected: `r4 = *(u32 *)(r1 +12)\n r4 &= 0x1fffffff\n ${foundKeepingR4()} r0 -= r4\n r0 -= r4\n out: ${PASS}`,
    accepted: `r4 = *(u32 *)(r1 +12)\n r4 &= 0xfffffff\n ${foundKeepingR4()} r0 -= r4\n r0 -= r4\n out: ${PASS}`,
  },
  {
    name: 'low halves compared of which one may have come round',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `r5 = *(u32 *)(r1 +16)\n ${PACKET} r0 = 1\n r2 += r5\n if w2 > w3 goto out\n r0 = 2\n out: exit`,
    accepted: `r5 = *(u32 *)(r1 +16)\n ${PACKET} r5 &= 0xffff\n r0 = 1\n r2 += r5\n if w2 > w3 goto out\n r0 = 2\n out: exit`,
  },
  {
    name: 'distance of low halves in 64 bits, of which one may have come round',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `${PACKET} r0 = 1\n w2 = w2\n w3 = w3\n w2 -= 100000\n r2 -= r3\n if r2 s> 0 goto out\n r0 = 2\n out: exit`,
    accepted: `${PACKET} r0 = 1\n w2 = w2\n w3 = w3\n w2 -= 100000\n w2 -= w3\n if r2 s> 0 goto out\n r0 = 2\n out: exit`,
  },
  {
    name: 'wrapping around at the end, seen by comparing with data_end',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `${NUMBER} ${PACKET} r4 >>= 1\n r0 = 1\n r2 += r4\n if r2 > r3 goto out\n r0 = 2\n out: exit`,
    accepted: `${NUMBER} ${PACKET} r4 >>= 32\n r0 = 1\n r2 += r4\n if r2 > r3 goto out\n r0 = 2\n out: exit`,
  },
  {
    name: 'wrapping around at the end, seen by comparing a value with itself',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `${NUMBER} r4 >>= 1\n r2 = map[wide][0]+0\n r3 = r2\n r2 += r4\n r0 = 1\n if r2 > r3 goto out\n r0 = 2\n out: exit`,
    accepted: `${NUMBER} r4 >>= 32\n r2 = map[wide][0]+0\n r3 = r2\n r2 += r4\n r0 = 1\n if r2 > r3 goto out\n r0 = 2\n out: exit`,
  },
  {
    name: 'signed comparison of pointers',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `${FOUND} r2 = r0\n r2 += 4\n if r2 s> r0 goto out\n r0 = 1\n exit\n out: ${PASS}`,
    accepted: `${FOUND} r2 = r0\n r2 += 4\n if r2 > r0 goto out\n r0 = 1\n exit\n out: ${PASS}`,
  },
  {
    name: 'test of the bits of two pointers',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `${FOUND} r2 = r0\n r2 += 4\n if r2 & r0 goto out\n r0 = 1\n exit\n out: ${PASS}`,
    accepted: `${FOUND} r2 = r0\n r2 += 4\n if r2 != r0 goto out\n r0 = 1\n exit\n out: ${PASS}`,
  },
  {
    name: 'distance of the keys of two callbacks',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: 'root may know of addresses',
    rejected: `r1 = map[flows]\n r2 = subprog[each]\n r3 = 0\n r4 = 0\n call bpf_for_each_map_elem\n ${PASS} each: *(u64 *)(r10 -8) = r2\n r1 = map[flows]\n r2 = subprog[other]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_for_each_map_elem\n r0 = 0\n exit\n other: r5 = *(u64 *)(r4 +0)\n r2 -= r5\n r0 = 0\n exit`,
    accepted: `r1 = map[flows]\n r2 = subprog[each]\n r3 = 0\n r4 = 0\n call bpf_for_each_map_elem\n ${PASS} each: *(u64 *)(r10 -8) = r2\n r1 = map[flows]\n r2 = subprog[other]\n r3 = r10\n r3 += -8\n r4 = 0\n call bpf_for_each_map_elem\n r0 = 0\n exit\n other: r5 = r2\n r2 -= r5\n r0 = 0\n exit`,
  },
];

/** R0 = the value under key R7 of the map under that key of `nested`; leaves for `out` when there is none. */
function inner(key: number): string {
  return `*(u32 *)(r10 -4) = ${key}\n r2 = r10\n r2 += -4\n r1 = map[nested]\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n *(u32 *)(r10 -8) = r7\n r2 = r10\n r2 += -8\n r1 = r0\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n`;
}

function foundKeepingR4(): string {
  return `r6 = r4\n ${FOUND} r4 = r6\n`;
}
