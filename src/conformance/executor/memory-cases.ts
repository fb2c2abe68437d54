import type { ComputationCase } from './executor-case.js';

const BYTES = [0x81, 0x92, 0xa3, 0xb4, 0xc5, 0xd6, 0xe7, 0xf8, 0x09, 0x1a];
const LOAD = 'RFC 9669 section 5.1';
const SIGNED = 'RFC 9669 section 5.2';

/** RFC 9669 section 5: loads, sign-extending loads, stores of registers and immediates, every size. */
export const MEMORY_CASES: readonly ComputationCase[] = [
  load('r0 = *(u8 *)(r1 +1)', 0x92n, LOAD),
  load('r0 = *(u16 *)(r1 +0)', 0x9281n, LOAD),
  load('r0 = *(u32 *)(r1 +4)', 0xf8e7_d6c5n, LOAD),
  load('r0 = *(u64 *)(r1 +0)', 0xf8e7_d6c5_b4a3_9281n, LOAD),
  load('r0 = *(u16 *)(r1 +1)', 0xa392n, LOAD, 'not aligned'),
  load('r0 = *(u32 *)(r1 +1)', 0xc5b4_a392n, LOAD, 'not aligned'),
  load('r0 = *(u32 *)(r1 +2)', 0xd6c5_b4a3n, LOAD, 'half aligned'),
  load('r0 = *(u64 *)(r1 +1)', 0x09f8_e7d6_c5b4_a392n, LOAD, 'not aligned'),
  load('r0 = *(u64 *)(r1 +2)', 0x1a09_f8e7_d6c5_b4a3n, LOAD, 'up to the end'),
  load('r0 = *(s8 *)(r1 +0)', 0xffff_ffff_ffff_ff81n, SIGNED),
  load('r0 = *(s8 *)(r1 +8)', 9n, SIGNED),
  load('r0 = *(s16 *)(r1 +0)', 0xffff_ffff_ffff_9281n, SIGNED),
  load('r0 = *(s16 *)(r1 +8)', 0x1a09n, SIGNED),
  load('r0 = *(s16 *)(r1 +7)', 0x9f8n, SIGNED, 'not aligned'),
  load('r0 = *(s32 *)(r1 +1)', 0xffff_ffff_c5b4_a392n, SIGNED),
  load('r0 = *(s32 *)(r1 +6)', 0x1a09_f8e7n, SIGNED),
  {
    name: 'a negative offset',
    source: LOAD,
    program: 'r1 += 8\nr0 = *(u8 *)(r1 -3)\nexit',
    memory: BYTES,
    r0: 0xd6n,
  },
  {
    name: 'a load replaces its own base register',
    source: LOAD,
    program: 'r1 = *(u16 *)(r1 +0)\nr0 = r1\nexit',
    memory: BYTES,
    r0: 0x9281n,
  },
  store('*(u8 *)(r1 +1) = r3', [0, 0x88, 0, 0, 0, 0, 0, 0, 0, 0]),
  store('*(u16 *)(r1 +2) = r3', [0, 0, 0x88, 0x77, 0, 0, 0, 0, 0, 0]),
  store('*(u16 *)(r1 +3) = r3', [0, 0, 0, 0x88, 0x77, 0, 0, 0, 0, 0]),
  store('*(u32 *)(r1 +4) = r3', [0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0, 0]),
  store('*(u32 *)(r1 +5) = r3', [0, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0]),
  store('*(u64 *)(r1 +0) = r3', [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0]),
  store('*(u64 *)(r1 +2) = r3', [0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]),
  store('*(u8 *)(r1 +0) = 0x7f', [0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
  store('*(u16 *)(r1 +0) = 0x1234', [0x34, 0x12, 0, 0, 0, 0, 0, 0, 0, 0]),
  store('*(u32 *)(r1 +0) = -2', [0xfe, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0]),
  store('*(u64 *)(r1 +0) = -2', [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0], 'sign-extended'),
  {
    name: 'what is stored on the stack is loaded again, in parts',
    source: LOAD,
    program: `
      r1 = 0x1122334455667788ll
      *(u64 *)(r10 -8) = r1
      r0 = *(u32 *)(r10 -4)
      r2 = *(u16 *)(r10 -8)
      r0 += r2
      r2 = *(u8 *)(r10 -6)
      r0 += r2
      exit`,
    r0: 0x1122_3344n + 0x7788n + 0x66n,
  },
  {
    name: 'the whole stack of a frame, through a copy of R10',
    source: 'kernel MAX_BPF_STACK',
    program: `
        r1 = r10
        r1 += -512
        r2 = 0
      fill:
        r3 = r1
        r3 += r2
        *(u8 *)(r3 +0) = r2
        r2 += 1
        if r2 != 512 goto fill
        r0 = *(u64 *)(r10 -512)
        r4 = *(u64 *)(r10 -8)
        r0 ^= r4
        exit`,
    r0: 0x0706_0504_0302_0100n ^ 0xfffe_fdfc_fbfa_f9f8n,
  },
];

function load(insn: string, r0: bigint, source: string, note?: string): ComputationCase {
  const name = note === undefined ? insn : `${insn}: ${note}`;
  return { name, source, program: `${insn}\nexit`, memory: BYTES, r0 };
}

function store(insn: string, memoryAfter: readonly number[], note?: string): ComputationCase {
  return {
    name: note === undefined ? insn : `${insn}: ${note}`,
    source: 'RFC 9669 section 5.1',
    program: `r3 = 0x1122334455667788ll\n${insn}\nr0 = 0\nexit`,
    memory: new Array<number>(10).fill(0),
    r0: 0n,
    memoryAfter,
  };
}
