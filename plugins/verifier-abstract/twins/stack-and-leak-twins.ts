import { FOUND, LOOKUP, PACKET, PASS, type Twin } from './twin.js';

const AS_ROOT = 'root may see addresses and old stack content; a guest may not';

const PRINTS_REGISTERS = 'the kernel prints what happens to be in the registers';

/** Writes 7 of the 8 bytes below R10, R3 = one of them or the 8th. */
const SEVEN_BYTES = `r3 = *(u32 *)(r1 +12)\n r3 &= 7\n *(u32 *)(r10 -8) = 0\n *(u16 *)(r10 -4) = 0\n *(u8 *)(r10 -2) = 0\n`;
const BYTE_OF_EIGHT = `r2 = r10\n r2 += -8\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** The 8 bytes below R10 are an index. */
const INDEX = `r7 = *(u64 *)(r10 -8)\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** The 8 bytes below R10 are 5, and a number is stored in a byte of those below them or, with the mask 8, in the first of them. */
const variableByte = (mask: number): string =>
  `r6 = *(u32 *)(r1 +12)\n r3 = r6\n r3 &= ${mask}\n *(u64 *)(r10 -8) = 5\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n *(u8 *)(r2 +0) = r6\n`;

/** R2 = address of a key that `values` has, and 8 bytes above it is one that it has not. */
const TWO_KEYS = `*(u64 *)(r10 -16) = 0\n *(u32 *)(r10 -16) = 1\n *(u32 *)(r10 -8) = 9\n r2 = r10\n r2 += -16\n`;
const TAKEN_TO_BE_THERE = `r1 = map[values]\n call bpf_map_lookup_elem\n r0 = *(u8 *)(r0 +0)\n ${PASS}`;

/** The upper bit of a number of 4 bytes on the stack is an index, or that with its sign. */
const signOf = (type: string): string =>
  `r6 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -8) = r6\n r3 = *(${type} *)(r10 -8)\n r3 s>>= 31\n r2 = map[wide][0]+0\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n ${PASS}`;

/** 4 of a number's 8 bytes are stored twice; those of the first place are bounded, and one of both is an index. */
const cutAndRead = (index: number): string =>
  `call bpf_ktime_get_ns\n *(u32 *)(r10 -8) = r0\n *(u32 *)(r10 -16) = r0\n r1 = *(u32 *)(r10 -8)\n if r1 > 100 goto out\n r7 = *(u32 *)(r10 ${index})\n r2 = map[wide][0]+0\n r2 += r7\n r0 = *(u8 *)(r2 +0)\n out: ${PASS}`;

export const STACK_TWINS: readonly Twin[] = [
  {
    name: 'stack read before it was written',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r0 = *(u64 *)(r10 -8)\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n r0 = *(u64 *)(r10 -8)\n exit`,
  },
  {
    name: 'stack read of which half was written',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `*(u32 *)(r10 -8) = 0\n r0 = *(u64 *)(r10 -8)\n exit`,
    accepted: `*(u32 *)(r10 -8) = 0\n *(u32 *)(r10 -4) = 0\n r0 = *(u64 *)(r10 -8)\n exit`,
  },
  {
    name: 'key with padding that was not cleared',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `*(u16 *)(r10 -4) = 1\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem\n ${PASS}`,
    accepted: `*(u32 *)(r10 -4) = 0\n *(u16 *)(r10 -4) = 1\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_lookup_elem\n ${PASS}`,
  },
  {
    name: 'stack written on one of two paths',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r2 = *(u32 *)(r1 +12)\n if r2 == 7 goto skip\n *(u64 *)(r10 -8) = 1\n skip: r0 = *(u64 *)(r10 -8)\n exit`,
    accepted: `r2 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0\n if r2 == 7 goto skip\n *(u64 *)(r10 -8) = 1\n skip: r0 = *(u64 *)(r10 -8)\n exit`,
  },
  {
    name: 'stack above the frame pointer',
    code: 'stack-bounds',
    rejected: `*(u64 *)(r10 +0) = 0\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n ${PASS}`,
  },
  {
    name: 'more than 512 bytes of stack',
    code: 'stack-bounds',
    rejected: `*(u64 *)(r10 -520) = 0\n ${PASS}`,
    accepted: `*(u64 *)(r10 -512) = 0\n ${PASS}`,
  },
  {
    name: 'one byte more than 512 of stack',
    code: 'stack-bounds',
    rejected: `*(u8 *)(r10 -513) = 0\n ${PASS}`,
    accepted: `*(u8 *)(r10 -512) = 0\n ${PASS}`,
  },
  {
    name: 'stack access that is not aligned',
    code: 'stack-alignment',
    rejected: `*(u64 *)(r10 -12) = 0\n ${PASS}`,
    accepted: `*(u64 *)(r10 -16) = 0\n ${PASS}`,
  },
  {
    name: 'stack at a variable offset that may leave it',
    code: 'stack-bounds',
    rejected: `r3 = *(u32 *)(r1 +12)\n r3 &= 15\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -8\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n exit`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r3 &= 15\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n exit`,
  },
  {
    name: 'stack at a variable offset, not all of it written',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r3 = *(u32 *)(r1 +12)\n r3 &= 15\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n exit`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r3 &= 7\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n r0 = *(u8 *)(r2 +0)\n exit`,
  },
  {
    name: 'stack at a variable offset, all but the last byte written',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${SEVEN_BYTES} ${BYTE_OF_EIGHT}`,
    accepted: `${SEVEN_BYTES} *(u8 *)(r10 -1) = 0\n ${BYTE_OF_EIGHT}`,
  },
  {
    name: 'a write at a variable offset does not initialise',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r3 = *(u32 *)(r1 +12)\n r3 &= 7\n r2 = r10\n r2 += -8\n r2 += r3\n *(u8 *)(r2 +0) = 1\n r0 = *(u8 *)(r10 -8)\n exit`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r3 &= 7\n *(u64 *)(r10 -8) = 0\n r2 = r10\n r2 += -8\n r2 += r3\n *(u8 *)(r2 +0) = 1\n r0 = *(u8 *)(r10 -8)\n exit`,
  },
  {
    name: 'spilled pointer overwritten at a variable offset',
    code: 'spill-size',
    rejected: `r3 = *(u32 *)(r1 +12)\n r3 &= 7\n *(u64 *)(r10 -8) = r1\n r2 = r10\n r2 += -8\n r2 += r3\n *(u8 *)(r2 +0) = 1\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +12)\n exit`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r3 &= 7\n *(u64 *)(r10 -8) = r1\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n *(u8 *)(r2 +0) = 1\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +12)\n exit`,
  },
  {
    name: 'pointer stored at a variable offset of the stack',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r3 = *(u32 *)(r1 +12)\n r3 &= 8\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n *(u64 *)(r2 +0) = r1\n ${PASS}`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r3 &= 8\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += -16\n r2 += r3\n *(u64 *)(r2 +0) = r3\n ${PASS}`,
  },
  {
    name: 'first byte of a spilled number overwritten at a variable offset, at most',
    code: 'pointer-offset-unbounded',
    rejected: `${variableByte(8)} ${INDEX}`,
    accepted: `${variableByte(7)} ${INDEX}`,
  },
  {
    name: 'half of a spilled pointer overwritten',
    publishedAs: 'CVE-2023-52462',
    code: 'uninitialised-stack',
    rejected: `*(u64 *)(r10 -8) = r1\n *(u32 *)(r10 -8) = 0\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +12)\n exit`,
    accepted: `*(u64 *)(r10 -8) = r1\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -8) = r0\n r0 = *(u32 *)(r10 -8)\n exit`,
  },
  {
    name: 'what is left of an overwritten pointer',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `*(u64 *)(r10 -8) = r1\n *(u32 *)(r10 -4) = 7\n r0 = *(u32 *)(r10 -8)\n exit`,
    accepted: `*(u64 *)(r10 -8) = r1\n *(u32 *)(r10 -4) = 7\n r0 = *(u32 *)(r10 -4)\n exit`,
  },
  {
    name: 'what is left of an overwritten pointer, for a helper',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `*(u64 *)(r10 -8) = r1\n *(u8 *)(r10 -1) = 7\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_delete_elem\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = r1\n *(u32 *)(r10 -4) = 7\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_delete_elem\n ${PASS}`,
  },
  {
    name: 'last byte of a spilled number overwritten',
    code: 'pointer-offset-unbounded',
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 5\n *(u8 *)(r10 -1) = r6\n ${INDEX}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 5\n *(u8 *)(r10 -9) = r6\n ${INDEX}`,
  },
  {
    name: 'number of 4 bytes read with its sign',
    code: 'map-value-bounds',
    rejected: signOf('s32'),
    accepted: signOf('u32'),
  },
  {
    name: 'number that was cut when it was stored, read twice',
    code: 'map-value-bounds',
    rejected: cutAndRead(-16),
    accepted: cutAndRead(-8),
    kernelRejectsAccepted: 'what two loads find in one place are two numbers to the kernel',
  },
  {
    name: 'half of a spilled pointer as a key',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `*(u64 *)(r10 -8) = r1\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_delete_elem\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 7\n r2 = r10\n r2 += -4\n r1 = map[flows]\n call bpf_map_delete_elem\n ${PASS}`,
  },
  {
    name: 'half of a spilled pointer read',
    code: 'spill-size',
    rejected: `*(u64 *)(r10 -8) = r1\n r0 = *(u32 *)(r10 -8)\n exit`,
    accepted: `*(u64 *)(r10 -8) = 7\n r0 = *(u32 *)(r10 -8)\n exit`,
  },
  {
    name: 'a spilled number filled as a pointer',
    code: 'not-a-pointer',
    rejected: `*(u64 *)(r10 -8) = 7\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +12)\n exit`,
    accepted: `*(u64 *)(r10 -8) = r1\n r1 = *(u64 *)(r10 -8)\n r0 = *(u32 *)(r1 +12)\n exit`,
  },
  {
    name: 'key at one of two places, of which the first holds one that is in the array',
    code: 'null-dereference',
    rejected: `r3 = *(u32 *)(r1 +12)\n r3 &= 8\n ${TWO_KEYS} r2 += r3\n ${TAKEN_TO_BE_THERE}`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r3 &= 8\n ${TWO_KEYS} ${TAKEN_TO_BE_THERE}`,
  },
  {
    name: 'key of which only the lower half is known',
    code: 'null-dereference',
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u16 *)(r10 -16) = 1\n *(u16 *)(r10 -14) = r6\n r2 = r10\n r2 += -16\n ${TAKEN_TO_BE_THERE}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -16) = 1\n *(u16 *)(r10 -24) = r6\n r2 = r10\n r2 += -16\n ${TAKEN_TO_BE_THERE}`,
  },
  {
    name: 'format on the stack that names a register that was not set',
    code: 'uninitialised-register',
    kernelAcceptsAsRoot: PRINTS_REGISTERS,
    rejected: `*(u64 *)(r10 -8) = 0x6425\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0x6425\n r3 = 7\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'format in constants that names a register that was not set',
    code: 'uninitialised-register',
    kernelAcceptsAsRoot: PRINTS_REGISTERS,
    rejected: `r1 = map[constants][0]+20\n r2 = 5\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r1 = map[constants][0]+0\n r2 = 6\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'format that is not known, and registers that were not set',
    code: 'uninitialised-register',
    kernelAcceptsAsRoot: PRINTS_REGISTERS,
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = r6\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = r6\n r3 = 0\n r4 = 0\n r5 = 0\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'format that names a register that was set on one of two paths',
    code: 'uninitialised-register',
    kernelAcceptsAsRoot: PRINTS_REGISTERS,
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0x6425\n if r6 == 7 goto skip\n r3 = 7\n skip: r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = 0x6425\n r3 = 8\n if r6 == 7 goto skip\n r3 = 7\n skip: r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'format that names a register on one of two paths',
    code: 'uninitialised-register',
    kernelAcceptsAsRoot: PRINTS_REGISTERS,
    rejected: `r6 = *(u32 *)(r1 +12)\n r2 = 0x6968\n if r6 != 7 goto skip\n r2 = 0x6425\n skip: *(u64 *)(r10 -8) = r2\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r2 = 0x6968\n if r6 != 7 goto skip\n r2 = 0x6868\n skip: *(u64 *)(r10 -8) = r2\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'format of which a part is known, and a register that was not set',
    code: 'uninitialised-register',
    kernelAcceptsAsRoot: PRINTS_REGISTERS,
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -4) = 0\n *(u16 *)(r10 -6) = 0\n *(u16 *)(r10 -8) = r6\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -4) = 0\n *(u16 *)(r10 -6) = 0\n *(u8 *)(r10 -7) = 0\n *(u8 *)(r10 -8) = r6\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'address stored in a map',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r6 = r1\n ${FOUND} *(u64 *)(r0 +0) = r6\n out: ${PASS}`,
    accepted: `r6 = r1\n ${FOUND} r6 = *(u32 *)(r6 +12)\n *(u64 *)(r0 +0) = r6\n out: ${PASS}`,
  },
  {
    name: 'address stored in a map by way of the stack',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `*(u64 *)(r10 -16) = r10\n *(u32 *)(r10 -4) = 0\n r1 = map[flows]\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_map_update_elem\n ${PASS}`,
    accepted: `*(u64 *)(r10 -16) = 5\n *(u32 *)(r10 -4) = 0\n r1 = map[flows]\n r2 = r10\n r2 += -4\n r3 = r10\n r3 += -16\n r4 = 0\n call bpf_map_update_elem\n ${PASS}`,
  },
  {
    name: 'address stored in the packet',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n *(u64 *)(r2 +0) = r10\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r3 -= r2\n *(u64 *)(r2 +0) = r3\n out: ${PASS}`,
  },
  {
    name: 'address as verdict',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r0 = r10\n exit`,
    accepted: `r0 = 2\n exit`,
  },
  {
    name: 'address added to a map value',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r6 = r1\n ${FOUND} lock *(u64 *)(r0 +0) += r6\n out: ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n ${FOUND} lock *(u64 *)(r0 +0) += r6\n out: ${PASS}`,
  },
  {
    name: 'address as a flag of a helper',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r2 = r10\n r1 = map[devices]\n r3 = 0\n call bpf_redirect_map\n exit`,
    accepted: `r2 = 1\n r1 = map[devices]\n r3 = 0\n call bpf_redirect_map\n exit`,
  },
  {
    name: 'distance between different memories',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${PACKET} r4 = r10\n r4 -= r2\n ${PASS}`,
    accepted: `${PACKET} r3 -= r2\n ${PASS}`,
  },
  {
    name: 'order of different memories',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${PACKET} if r2 > r10 goto out\n out: ${PASS}`,
    accepted: `${PACKET} if r2 > r3 goto out\n out: ${PASS}`,
  },
  {
    name: 'low half of a packet pointer compared with a number that is not 0',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${PACKET} if w2 == 16 goto out\n out: ${PASS}`,
    accepted: `${PACKET} if w2 == 0 goto out\n out: ${PASS}`,
  },
  {
    name: 'low half of a packet pointer, moved, ordered with 0',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${PACKET} w4 = w2\n if r4 > 0 goto out\n out: ${PASS}`,
    accepted: `${PACKET} w4 = w2\n if r4 != 0 goto out\n out: ${PASS}`,
  },
  {
    name: 'NULL check on 32 bits of something that is no packet',
    code: 'pointer-comparison',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${LOOKUP} if w0 == 0 goto out\n out: ${PASS}`,
    accepted: `${LOOKUP} if r0 == 0 goto out\n out: ${PASS}`,
  },
  {
    name: 'stack of a function outlives it by return',
    code: 'return-value',
    rejected: `call f\n ${PASS} f: r0 = r10\n exit`,
    accepted: `call f\n ${PASS} f: r0 = 0\n exit`,
  },
  {
    name: 'stack of a function outlives it in its caller',
    code: 'pointer-leak',
    rejected: `*(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -8\n call f\n ${PASS} f: *(u64 *)(r1 +0) = r10\n r0 = 0\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -8\n call f\n ${PASS} f: *(u64 *)(r1 +0) = 1\n r0 = 0\n exit`,
  },
  {
    name: 'caller stack that the function does not initialise on every path',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r6 = *(u32 *)(r1 +12)\n r1 = r10\n r1 += -8\n r2 = r6\n call f\n r0 = *(u64 *)(r10 -8)\n exit\n f: r0 = 0\n if r2 == 0 goto skip\n *(u64 *)(r1 +0) = 1\n skip: exit`,
    accepted: `r6 = *(u32 *)(r1 +12)\n r1 = r10\n r1 += -8\n r2 = r6\n call f\n r0 = *(u64 *)(r10 -8)\n exit\n f: r0 = 0\n *(u64 *)(r1 +0) = 1\n if r2 == 0 goto skip\n r0 = 1\n skip: exit`,
  },
  {
    name: 'atomic operation on the packet',
    code: 'atomic-target',
    rejected: `${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r5 = 1\n lock *(u64 *)(r2 +0) += r5\n out: ${PASS}`,
    accepted: `${PACKET} r4 = r2\n r4 += 8\n if r4 > r3 goto out\n r5 = *(u64 *)(r2 +0)\n r5 += 1\n *(u64 *)(r2 +0) = r5\n out: ${PASS}`,
  },
  {
    name: 'atomic operation that is not aligned',
    code: 'atomic-alignment',
    rejected: `${FOUND} r1 = 1\n lock *(u64 *)(r0 +4) += r1\n out: ${PASS}`,
    accepted: `${FOUND} r1 = 1\n lock *(u64 *)(r0 +8) += r1\n out: ${PASS}`,
  },
  {
    name: 'atomic operation on the stack that is not aligned',
    code: 'stack-alignment',
    rejected: `*(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r1 = 1\n lock *(u32 *)(r10 -10) += r1\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r1 = 1\n lock *(u32 *)(r10 -12) += r1\n ${PASS}`,
  },
  {
    name: 'atomic operation on stack that was never written',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `r1 = 1\n lock *(u64 *)(r10 -8) += r1\n ${PASS}`,
    accepted: `r1 = 1\n *(u64 *)(r10 -8) = 0\n lock *(u64 *)(r10 -8) += r1\n ${PASS}`,
  },
  {
    name: 'atomic operation on a spilled pointer',
    code: 'pointer-leak',
    rejected: `*(u64 *)(r10 -8) = r1\n r1 = 1\n r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)\n ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = 0\n r1 = 1\n r1 = atomic64_fetch_add((u64 *)(r10 -8), r1)\n ${PASS}`,
    kernelAcceptsAsRoot: AS_ROOT,
  },
  {
    name: 'atomic operation past the value',
    code: 'map-value-bounds',
    rejected: `${FOUND} r1 = 1\n lock *(u64 *)(r0 +16) += r1\n out: ${PASS}`,
    accepted: `${FOUND} r1 = 1\n lock *(u64 *)(r0 +8) += r1\n out: ${PASS}`,
  },
  {
    name: 'what an atomic operation fetches is not bounded',
    code: 'map-value-bounds',
    rejected: `${FOUND} r1 = 1\n r1 = atomic_fetch_add((u32 *)(r0 +0), r1)\n r0 += r1\n r1 = *(u8 *)(r0 +0)\n out: ${PASS}`,
    accepted: `${FOUND} r1 = 1\n r1 = atomic_fetch_add((u32 *)(r0 +0), r1)\n r1 &= 15\n r0 += r1\n r1 = *(u8 *)(r0 +0)\n out: ${PASS}`,
  },
  {
    name: 'compare-and-exchange with R0 a pointer',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: AS_ROOT,
    rejected: `${FOUND} r1 = 1\n r2 = r0\n r0 = atomic64_cmpxchg((u64 *)(r2 +0), r0, r1)\n out: ${PASS}`,
    accepted: `${FOUND} r1 = 1\n r2 = r0\n r0 = 0\n r0 = atomic64_cmpxchg((u64 *)(r2 +0), r0, r1)\n out: ${PASS}`,
  },
  {
    name: 'inner map used without a check',
    code: 'null-dereference',
    rejected: `${LOOKUP.replace('map[values]', 'map[nested]')} r1 = r0\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n ${PASS}`,
    accepted: `${LOOKUP.replace('map[values]', 'map[nested]')} if r0 == 0 goto out\n r1 = r0\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n out: ${PASS}`,
  },
  {
    name: 'value of an inner map, past its size',
    code: 'map-value-bounds',
    rejected: `${LOOKUP.replace('map[values]', 'map[nested]')} if r0 == 0 goto out\n r1 = r0\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = *(u64 *)(r0 +8)\n out: ${PASS}`,
    accepted: `${LOOKUP.replace('map[values]', 'map[nested]')} if r0 == 0 goto out\n r1 = r0\n r2 = r10\n r2 += -4\n call bpf_map_lookup_elem\n if r0 == 0 goto out\n r1 = *(u64 *)(r0 +0)\n out: ${PASS}`,
  },
  {
    name: 'number and constant offset that are aligned only together, on the stack',
    code: 'stack-alignment',
    rejected: `r4 = *(u32 *)(r1 +12)\n r4 &= 4\n r4 += 1\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += r4\n r0 = *(u32 *)(r2 -15)\n ${PASS}`,
    accepted: `r4 = *(u32 *)(r1 +12)\n r4 &= 4\n r4 += 1\n *(u64 *)(r10 -8) = 0\n *(u64 *)(r10 -16) = 0\n r2 = r10\n r2 += r4\n r0 = *(u32 *)(r2 -13)\n ${PASS}`,
  },
];
