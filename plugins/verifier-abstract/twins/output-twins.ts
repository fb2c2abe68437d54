import { PACKET, PASS, type Twin } from './twin.js';

const READS_ALL = 'root may read any memory';
const SEES = 'root may know of addresses';
const LEFT_THERE = 'the kernel leaves on its stack what was there before, and root may see that';

/** R1 and R2 = a format of so many bytes, which is the number. */
const format = (bytes: number, text: string): string =>
  `*(u64 *)(r10 -8) = ${text}\n r1 = r10\n r1 += -8\n r2 = ${bytes}\n`;

/** Prints with the constant format at that offset of `constants`, and one number as argument, to fp-16. */
const snprintf = (at: number): string =>
  `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = r6\n *(u64 *)(r10 -16) = 0\n r1 = r10\n r1 += -16\n r2 = 8\n r3 = map[constants][0]+${at}\n r4 = r10\n r4 += -8\n r5 = 8\n call bpf_snprintf\n ${PASS}`;

const vprintk = (at: number): string =>
  `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = r6\n r1 = map[constants][0]+${at}\n r2 = ${at === 20 ? 5 : 3}\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_trace_vprintk\n ${PASS}`;

const LOAD_4_OVER = `r2 = 0\n r3 = r10\n r3 += -8\n r4 = 4\n call bpf_xdp_load_bytes`;

/** A byte is an index, of two that were 0; over the first of them one of the packet was to be loaded, and may have been in part. */
const byteAfterLoad = (index: number): string =>
  `*(u8 *)(r10 -5) = 0\n *(u8 *)(r10 -4) = 0\n r2 = 0xffff\n r3 = r10\n r3 += -5\n r4 = 1\n call bpf_xdp_load_bytes\n if r0 == 0 goto out\n r2 = *(u8 *)(r10 ${index})\n r1 = map[wide][0]+0\n r1 += r2\n r0 = *(u8 *)(r1 +1)\n out: ${PASS}`;

/** What may be printed, and what helpers leave in memory that they are given to write. */
export const OUTPUT_TWINS: readonly Twin[] = [
  {
    name: 'address printed in as many digits as it takes, which the helper gives back',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: SEES,
    rejected: `${format(3, '0x7525')} r3 = r10\n call bpf_trace_printk\n r0 &= 3\n exit`,
    accepted: `${format(3, '0x7025')} r3 = r10\n call bpf_trace_printk\n r0 &= 3\n exit`,
  },
  {
    name: 'address printed by a format that is not known',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: SEES,
    rejected: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = r6\n r3 = r10\n r4 = 0\n r5 = 0\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r6 = *(u32 *)(r1 +12)\n *(u64 *)(r10 -8) = r6\n r3 = 0\n r4 = 0\n r5 = 0\n r1 = r10\n r1 += -8\n r2 = 8\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'number printed as the string at that address',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: `r3 = *(u32 *)(r1 +12)\n ${format(3, '0x7325')} call bpf_trace_printk\n ${PASS}`,
    accepted: `r3 = *(u32 *)(r1 +12)\n ${format(3, '0x6425')} call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'number printed by a format of which a part is not known',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: `r3 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -8) = 0x6425\n *(u8 *)(r10 -7) = r3\n r1 = r10\n r1 += -8\n r2 = 3\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r3 = *(u32 *)(r1 +12)\n *(u32 *)(r10 -8) = 0x6425\n *(u8 *)(r10 -4) = r3\n r1 = r10\n r1 += -8\n r2 = 3\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'number printed as a string on one of two paths',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: `r3 = *(u32 *)(r1 +12)\n r6 = 0x6425\n if r3 != 7 goto print\n r6 = 0x7325\n print: *(u64 *)(r10 -8) = r6\n r1 = r10\n r1 += -8\n r2 = 3\n call bpf_trace_printk\n ${PASS}`,
    accepted: `r3 = *(u32 *)(r1 +12)\n r6 = 0x6425\n if r3 != 7 goto print\n r6 = 0x7525\n print: *(u64 *)(r10 -8) = r6\n r1 = r10\n r1 += -8\n r2 = 3\n call bpf_trace_printk\n ${PASS}`,
  },
  {
    name: 'string that is not constant printed, and how long it is told',
    code: 'pointer-leak',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: `${format(3, '0x7325')} r3 = map[wide][0]+0\n r3 += 300\n call bpf_trace_printk\n r0 &= 3\n exit`,
    accepted: `${format(3, '0x7325')} r3 = map[constants][0]+0\n call bpf_trace_printk\n r0 &= 3\n exit`,
  },
  {
    name: 'text made of the string at an address that the program chooses',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: snprintf(26),
    accepted: snprintf(20),
  },
  {
    name: 'text made of the name of the symbol at an address',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: snprintf(8),
    accepted: snprintf(20),
  },
  {
    name: 'line printed of the string at an address in memory',
    code: 'helper-privileged',
    kernelAcceptsAsRoot: READS_ALL,
    rejected: vprintk(26),
    accepted: vprintk(20),
  },
  {
    name: 'bytes of the stack behind a text',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: LEFT_THERE,
    rejected: `r1 = r10\n r1 += -16\n r2 = 16\n r3 = map[constants][0]+0\n r4 = 0\n r5 = 0\n call bpf_snprintf\n r0 = *(u64 *)(r10 -8)\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n r1 = r10\n r1 += -16\n r2 = 16\n r3 = map[constants][0]+0\n r4 = 0\n r5 = 0\n call bpf_snprintf\n r0 = *(u64 *)(r10 -8)\n exit`,
  },
  {
    name: 'bytes of the stack that were to be loaded from the packet, and were not',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: LEFT_THERE,
    rejected: `r2 = 0xffff\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_load_bytes\n r0 = *(u64 *)(r10 -8)\n exit`,
    accepted: `r2 = 0xffff\n r3 = r10\n r3 += -8\n r4 = 8\n call bpf_xdp_load_bytes\n if r0 != 0 goto out\n r0 = *(u64 *)(r10 -8)\n out: exit`,
  },
  {
    name: 'a pointer that bytes were to be loaded over, and were not',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: LEFT_THERE,
    rejected: `*(u64 *)(r10 -8) = r1\n r2 = 0xffff\n r3 = r10\n r3 += -8\n r4 = 4\n call bpf_xdp_load_bytes\n r0 = *(u32 *)(r10 -8)\n exit`,
    accepted: `*(u64 *)(r10 -8) = 0\n r2 = 0xffff\n r3 = r10\n r3 += -8\n r4 = 4\n call bpf_xdp_load_bytes\n r0 = *(u32 *)(r10 -8)\n exit`,
  },
  {
    name: 'what is left of a pointer that bytes were loaded over',
    code: 'uninitialised-stack',
    kernelAcceptsAsRoot: LEFT_THERE,
    rejected: `*(u64 *)(r10 -8) = r1\n ${LOAD_4_OVER}\n if r0 != 0 goto out\n r0 = *(u32 *)(r10 -4)\n out: ${PASS}`,
    accepted: `*(u64 *)(r10 -8) = r1\n ${LOAD_4_OVER}\n if r0 != 0 goto out\n r0 = *(u32 *)(r10 -8)\n out: ${PASS}`,
  },
  {
    name: 'zero byte that another may have been loaded over',
    code: 'map-value-bounds',
    rejected: byteAfterLoad(-5),
    accepted: byteAfterLoad(-4),
  },
  {
    name: 'number that is known until bytes may have been loaded over it',
    code: 'map-value-bounds',
    rejected: `*(u64 *)(r10 -8) = 8\n r2 = 0xffff\n r3 = r10\n r3 += -8\n r4 = 4\n call bpf_xdp_load_bytes\n if r0 == 0 goto out\n r2 = *(u32 *)(r10 -8)\n r1 = map[wide][0]+0\n r1 += r2\n r0 = *(u8 *)(r1 +0)\n out: ${PASS}`,
    accepted: `*(u64 *)(r10 -16) = 8\n r2 = 0xffff\n r3 = r10\n r3 += -8\n r4 = 4\n call bpf_xdp_load_bytes\n if r0 == 0 goto out\n r2 = *(u32 *)(r10 -16)\n r1 = map[wide][0]+0\n r1 += r2\n r0 = *(u8 *)(r1 +0)\n out: ${PASS}`,
  },
  {
    name: 'low half of a pointer from before the packet was moved',
    code: 'stale-packet-pointer',
    kernelAcceptsAsRoot: 'it is a number to root',
    rejected: `r6 = r1\n r7 = *(u32 *)(r1 +0)\n w7 = w7\n r2 = 0\n call bpf_xdp_adjust_head\n ${PACKET.replaceAll('r1', 'r6')} w2 = w2\n w2 -= w7\n ${PASS}`,
    accepted: `r6 = r1\n r2 = 0\n call bpf_xdp_adjust_head\n r7 = *(u32 *)(r6 +0)\n w7 = w7\n ${PACKET.replaceAll('r1', 'r6')} w2 = w2\n w2 -= w7\n ${PASS}`,
  },
];
