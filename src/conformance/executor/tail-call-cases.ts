import { XDP_DROP, XDP_PASS, XDP_TX } from '../../bpf/xdp.js';
import { u32, u64, type XdpCase } from './executor-case.js';

const SOURCE = 'kernel bpf_tail_call (Documentation/bpf, arch/x86/net/bpf_jit_comp.c)';
const PROG_ARRAY = { type: 'BPF_MAP_TYPE_PROG_ARRAY', keySize: 4, valueSize: 4, maxEntries: 4 } as const;
const COUNTER = { type: 'BPF_MAP_TYPE_ARRAY', keySize: 4, valueSize: 8, maxEntries: 1 } as const;

/** Adds 1 to the only value of `counter`; clobbers R0 … R5. */
const COUNT = `
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[counter]
  call bpf_map_lookup_elem
  if r0 == 0 goto pc+2
  r1 = 1
  lock *(u64 *)(r0 +0) += r1`;

export const TAIL_CALL_CASES: readonly XdpCase[] = [
  {
    name: 'the target runs in place of the caller, with the context in R1',
    source: SOURCE,
    maps: { jumps: { ...PROG_ARRAY, programs: { 2: 'target' } } },
    program: 'r2 = map[jumps]\nr3 = 2\ncall bpf_tail_call\nr0 = 1\nexit',
    others: {
      target: `
        r2 = *(u32 *)(r1 +4)
        r1 = *(u32 *)(r1 +0)
        r3 = r1
        r3 += 1
        r0 = 1
        if r3 > r2 goto out
        r0 = 3
        *(u8 *)(r1 +0) = 0xee
      out:
        exit`,
    },
    packet: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
    verdict: XDP_TX,
    packetAfter: Uint8Array.of(0xee, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
  },
  {
    name: 'an empty slot falls through',
    source: SOURCE,
    maps: { jumps: { ...PROG_ARRAY, programs: { 2: 'target' } } },
    program: 'r2 = map[jumps]\nr3 = 1\ncall bpf_tail_call\nr0 = 2\nexit',
    others: { target: 'r0 = 3\nexit' },
    verdict: XDP_PASS,
  },
  {
    name: 'an index beyond the array falls through',
    source: SOURCE,
    maps: { jumps: { ...PROG_ARRAY, programs: { 0: 'target' } } },
    program: 'r2 = map[jumps]\nr3 = 4\ncall bpf_tail_call\nr0 = 2\nexit',
    others: { target: 'r0 = 3\nexit' },
    verdict: XDP_PASS,
  },
  {
    name: 'only the lower 32 bits of the index count',
    source: SOURCE,
    maps: { jumps: { ...PROG_ARRAY, programs: { 2: 'target' } } },
    program: 'r2 = map[jumps]\nr3 = 0x500000002ll\ncall bpf_tail_call\nr0 = 1\nexit',
    others: { target: 'r0 = 3\nexit' },
    verdict: XDP_TX,
  },
  {
    name: 'callee-saved registers are not lost when a tail call falls through',
    source: SOURCE,
    maps: { jumps: PROG_ARRAY },
    program: 'r6 = 2\nr2 = map[jumps]\nr3 = 0\ncall bpf_tail_call\nr0 = r6\nexit',
    verdict: XDP_PASS,
  },
  {
    name: 'a chain through three programs',
    source: SOURCE,
    maps: { jumps: { ...PROG_ARRAY, programs: { 0: 'first', 1: 'second', 2: 'third' } } },
    program: 'r2 = map[jumps]\nr3 = 0\ncall bpf_tail_call\nr0 = 0\nexit',
    others: {
      first: 'r2 = map[jumps]\nr3 = 1\ncall bpf_tail_call\nr0 = 0\nexit',
      second: 'r2 = map[jumps]\nr3 = 2\ncall bpf_tail_call\nr0 = 0\nexit',
      third: 'r0 = 1\nexit',
    },
    verdict: XDP_DROP,
  },
  {
    name: 'the limit is 33 tail calls: the main program runs 34 times',
    source: 'kernel MAX_TAIL_CALL_CNT',
    maps: { jumps: { ...PROG_ARRAY, programs: { 0: 'main' } }, counter: COUNTER },
    program: `r6 = r1\n${COUNT}\nr1 = r6\nr2 = map[jumps]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit`,
    verdict: XDP_PASS,
    mapsAfter: { counter: [[u32(0), u64(34n)]] },
  },
  {
    name: 'a tail call in a local function returns to the caller of the function',
    source: SOURCE,
    maps: { jumps: { ...PROG_ARRAY, programs: { 0: 'target' } }, counter: COUNTER },
    program: `
        r6 = r1
        *(u64 *)(r10 -16) = 1
        call tail
        r7 = r0
        ${COUNT}
        r0 = *(u64 *)(r10 -16)
        r0 += r7
        exit
      tail:
        r2 = map[jumps]
        r3 = 0
        call bpf_tail_call
        r0 = 0
        exit`,
    others: { target: 'r6 = 77\n*(u64 *)(r10 -16) = 9\nr0 = 1\nexit' },
    verdict: XDP_PASS,
    mapsAfter: { counter: [[u32(0), u64(1n)]] },
  },
];
