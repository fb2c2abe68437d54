import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_ADD,
  BPF_AND,
  BPF_ARSH,
  BPF_DIV,
  BPF_LSH,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OR,
  BPF_RSH,
  BPF_SUB,
  BPF_X,
  BPF_XOR,
  OP_EXIT,
  OP_LDDW,
} from '../../src/bpf/opcodes.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { InterpreterExecutor } from './interpreter-executor.js';

/** RFC 9669 section 4.1 in BigInt, as plainly as it can be said; `off` 1 is the signed form. */
function model(code: number, bits: 32 | 64, off: number, dst: bigint, src: bigint): bigint {
  const unsigned = (value: bigint) => BigInt.asUintN(bits, value);
  const signed = (value: bigint) => BigInt.asIntN(bits, value);
  const a = unsigned(dst);
  const b = unsigned(src);
  const count = b & BigInt(bits - 1);
  switch (code) {
    case BPF_ADD:
      return unsigned(a + b);
    case BPF_SUB:
      return unsigned(a - b);
    case BPF_MUL:
      return unsigned(a * b);
    case BPF_DIV:
      if (b === 0n) return 0n;
      return off === 1 ? unsigned(signed(a) / signed(b)) : a / b;
    case BPF_MOD:
      if (b === 0n) return a;
      return off === 1 ? unsigned(signed(a) % signed(b)) : a % b;
    case BPF_OR:
      return a | b;
    case BPF_AND:
      return a & b;
    case BPF_XOR:
      return a ^ b;
    case BPF_LSH:
      return unsigned(a << count);
    case BPF_RSH:
      return a >> count;
    case BPF_ARSH:
      return unsigned(signed(a) >> count);
    case BPF_NEG:
      return unsigned(-a);
    default:
      return off === 0 ? b : unsigned(BigInt.asIntN(off, b));
  }
}

const CODES = [
  BPF_ADD,
  BPF_SUB,
  BPF_MUL,
  BPF_DIV,
  BPF_MOD,
  BPF_OR,
  BPF_AND,
  BPF_XOR,
  BPF_LSH,
  BPF_RSH,
  BPF_ARSH,
  BPF_NEG,
  BPF_MOV,
];

/** Numbers near what matters: powers of two, their neighbours, small ones, any. */
const operand = fc.oneof(
  fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  fc
    .tuple(fc.integer({ min: 0, max: 64 }), fc.integer({ min: -2, max: 2 }), fc.boolean())
    .map(([bit, near, negative]) => {
      const value = (1n << BigInt(bit)) + BigInt(near);
      return BigInt.asUintN(64, negative ? -value : value);
    }),
  fc.constantFrom(0n, 1n, 0xffff_ffffn, 1000n, 1_000_000_000n),
);

const step = fc.record({
  code: fc.constantFrom(...CODES),
  wide: fc.boolean(),
  signed: fc.boolean(),
  extend: fc.constantFrom(0, 8, 16, 32),
  fromRegister: fc.boolean(),
  value: operand,
});

function offsetOf({
  code,
  wide,
  signed,
  extend,
  fromRegister,
}: typeof step extends fc.Arbitrary<infer T> ? T : never) {
  if (code === BPF_DIV || code === BPF_MOD) return signed ? 1 : 0;
  if (code !== BPF_MOV || !fromRegister || (!wide && extend === 32)) return 0;
  return extend;
}

describe('arithmetic', () => {
  it('agrees with the RFC in BigInt, over chains of insns', () => {
    const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
    const executor = new InterpreterExecutor(runtime);
    const lddw = (dst: number, value: bigint): Insn[] => [
      { opcode: OP_LDDW, dst, src: 0, off: 0, imm: Number(BigInt.asIntN(32, value)) },
      { opcode: 0, dst: 0, src: 0, off: 0, imm: Number(BigInt.asIntN(32, value >> 32n)) },
    ];
    fc.assert(
      fc.property(operand, fc.array(step, { minLength: 1, maxLength: 12 }), (start, steps) => {
        const insns: Insn[] = lddw(0, start);
        let expected = start;
        for (const one of steps) {
          const { code, wide, value } = one;
          const fromRegister = one.fromRegister && code !== BPF_NEG;
          const off = offsetOf(one);
          const imm = Number(BigInt.asIntN(32, value));
          if (fromRegister) insns.push(...lddw(2, value));
          insns.push({
            opcode: (wide ? BPF_ALU64 : BPF_ALU) | code | (fromRegister ? BPF_X : 0),
            dst: 0,
            src: fromRegister ? 2 : 0,
            off,
            imm: fromRegister || code === BPF_NEG ? 0 : imm,
          });
          expected = model(code, wide ? 64 : 32, off, expected, fromRegister ? value : BigInt(imm));
        }
        insns.push({ opcode: OP_EXIT, dst: 0, src: 0, off: 0, imm: 0 });
        const loaded = executor.loadNow(
          { name: 'arithmetic', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns },
          { maps: new Map(), world: { trace() {} } },
        );
        expect(loaded.call(0n, 0n)).toEqual({ r0: expected });
        loaded.close();
      }),
      { numRuns: 20_000, seed: 1 },
    );
  });
});
