import { describe, expect, it } from 'vitest';
import * as op from '../../../src/bpf/opcodes.js';
import { arithmetic, byteOrder, join, meet, negate, signExtend, truncate } from './scalar-arithmetic.js';
import { narrow } from './scalar-comparison.js';
import { Scalar, ScalarDraft, UNKNOWN } from './scalar.js';
import { S64_MIN, swapBytes } from './tnum.js';

/** Deterministic 64-bit numbers (xorshift64*), with a liking for the edges of ranges. */
class Numbers {
  #state: bigint;
  constructor(seed: number) {
    this.#state = BigInt(seed) * 0x9e3779b97f4a7c15n + 1n;
  }
  raw(): bigint {
    let x = BigInt.asUintN(64, this.#state);
    x ^= x >> 12n;
    x = BigInt.asUintN(64, x ^ (x << 25n));
    x ^= x >> 27n;
    this.#state = x;
    return BigInt.asUintN(64, x * 0x2545f4914f6cdd1dn);
  }
  below(limit: number): number {
    return Number(this.raw() >> 33n) % limit;
  }
  value(): bigint {
    const edges = [
      0n,
      1n,
      0x7fn,
      0x80n,
      0xffn,
      0x7fffffffn,
      0x80000000n,
      0xffffffffn,
      1n << 63n,
      (1n << 63n) - 1n,
    ];
    switch (this.below(5)) {
      case 0:
        return BigInt.asUintN(64, edges[this.below(edges.length)]! + BigInt(this.below(5) - 2));
      case 1:
        return BigInt.asUintN(64, -BigInt(this.below(300)));
      case 2:
        return BigInt(this.below(70));
      case 3:
        return this.raw() >> 32n;
      default:
        return this.raw() >> BigInt(this.below(64));
    }
  }
  /** A random scalar that admits `value`. */
  around(value: bigint): Scalar {
    if (this.below(4) === 0) return Scalar.constant(value);
    const draft = new ScalarDraft();
    const signed = BigInt.asIntN(64, value);
    const low = Number(value & 0xffffffffn);
    const slack = (): bigint => this.raw() >> BigInt(this.below(64));
    const min = (a: bigint, b: bigint): bigint => (a < b ? a : b);
    const max = (a: bigint, b: bigint): bigint => (a > b ? a : b);
    if (this.below(2) === 0) {
      draft.mask = this.raw() & this.raw() & (this.below(2) === 0 ? this.raw() : 0xffffn);
      draft.value = value & ~draft.mask;
    }
    if (this.below(2) === 0) {
      draft.umin = max(0n, value - slack());
      draft.umax = min((1n << 64n) - 1n, value + slack());
    }
    if (this.below(2) === 0) {
      draft.smin = max(S64_MIN, signed - slack());
      draft.smax = min((1n << 63n) - 1n, signed + slack());
    }
    if (this.below(3) === 0) {
      draft.u32min = Math.max(0, low - this.below(1000));
      draft.u32max = Math.min(0xffffffff, low + this.below(1000));
    }
    if (this.below(3) === 0) {
      draft.s32min = Math.max(-0x80000000, (low | 0) - this.below(100000));
      draft.s32max = Math.min(0x7fffffff, (low | 0) + this.below(100000));
    }
    const scalar = draft.freeze();
    if (scalar === undefined) throw new Error(`no value is possible around ${value}`);
    return scalar;
  }
}

const u = (value: bigint): bigint => BigInt.asUintN(64, value);
const s = (value: bigint): bigint => BigInt.asIntN(64, value);

function concrete(code: number, x: bigint, y: bigint, is32: boolean, signed: boolean): bigint {
  const bits = is32 ? 32 : 64;
  const a = BigInt.asUintN(bits, x);
  const b = BigInt.asUintN(bits, y);
  const sa = BigInt.asIntN(bits, x);
  const sb = BigInt.asIntN(bits, y);
  const shift = b & BigInt(bits - 1);
  const result = ((): bigint => {
    switch (code) {
      case op.BPF_ADD:
        return a + b;
      case op.BPF_SUB:
        return a - b;
      case op.BPF_MUL:
        return a * b;
      case op.BPF_DIV:
        return b === 0n ? 0n : signed ? sa / sb : a / b;
      case op.BPF_MOD:
        return b === 0n ? a : signed ? sa % sb : a % b;
      case op.BPF_OR:
        return a | b;
      case op.BPF_AND:
        return a & b;
      case op.BPF_XOR:
        return a ^ b;
      case op.BPF_LSH:
        return a << shift;
      case op.BPF_RSH:
        return a >> shift;
      default:
        return sa >> shift;
    }
  })();
  return BigInt.asUintN(bits, result);
}

function holds(code: number, x: bigint, y: bigint, is32: boolean): boolean {
  const bits = is32 ? 32 : 64;
  const a = BigInt.asUintN(bits, x);
  const b = BigInt.asUintN(bits, y);
  const sa = BigInt.asIntN(bits, x);
  const sb = BigInt.asIntN(bits, y);
  switch (code) {
    case op.BPF_JEQ:
      return a === b;
    case op.BPF_JNE:
      return a !== b;
    case op.BPF_JGT:
      return a > b;
    case op.BPF_JGE:
      return a >= b;
    case op.BPF_JLT:
      return a < b;
    case op.BPF_JLE:
      return a <= b;
    case op.BPF_JSGT:
      return sa > sb;
    case op.BPF_JSGE:
      return sa >= sb;
    case op.BPF_JSLT:
      return sa < sb;
    case op.BPF_JSLE:
      return sa <= sb;
    default:
      return (a & b) !== 0n;
  }
}

const CODES = [
  op.BPF_ADD,
  op.BPF_SUB,
  op.BPF_MUL,
  op.BPF_DIV,
  op.BPF_MOD,
  op.BPF_OR,
  op.BPF_AND,
  op.BPF_XOR,
  op.BPF_LSH,
  op.BPF_RSH,
  op.BPF_ARSH,
];
const JUMPS = [
  op.BPF_JEQ,
  op.BPF_JNE,
  op.BPF_JGT,
  op.BPF_JGE,
  op.BPF_JLT,
  op.BPF_JLE,
  op.BPF_JSGT,
  op.BPF_JSGE,
  op.BPF_JSLT,
  op.BPF_JSLE,
  op.BPF_JSET,
];

const show = (scalar: Scalar): string =>
  JSON.stringify(scalar, (_key, value: unknown) => (typeof value === 'bigint' ? value.toString(16) : value));

describe('scalar', () => {
  it('admits what it was made from', () => {
    const numbers = new Numbers(1);
    for (let i = 0; i < 8_000; i++) {
      const value = numbers.value();
      const scalar = numbers.around(value);
      if (!scalar.admits(value)) expect.fail(`${value.toString(16)} is lost in ${show(scalar)}`);
    }
  });

  it('computes a result that covers every outcome', () => {
    const numbers = new Numbers(2);
    for (let i = 0; i < 25_000; i++) {
      const x = numbers.value();
      const y = numbers.value();
      const a = numbers.around(x);
      const b = numbers.around(y);
      const code = CODES[i % CODES.length]!;
      const is32 = numbers.below(2) === 0;
      const signed = (code === op.BPF_DIV || code === op.BPF_MOD) && numbers.below(2) === 0;
      const result = arithmetic(code, a, b, is32, signed);
      const expected = concrete(code, x, y, is32, signed);
      if (!result.admits(expected)) {
        expect.fail(
          `${x} ${code.toString(16)} ${y} = ${expected} (32: ${is32}, signed: ${signed}) not in ${show(result)}`,
        );
      }
    }
  });

  it('converts widths and byte orders soundly', () => {
    const numbers = new Numbers(3);
    for (let i = 0; i < 8_000; i++) {
      const x = numbers.value();
      const a = numbers.around(x);
      for (const bytes of [1, 2, 4, 8]) {
        if (!truncate(a, bytes).admits(BigInt.asUintN(8 * bytes, x))) expect.fail(`truncate ${bytes} ${x}`);
      }
      for (const bits of [8, 16, 32]) {
        if (!signExtend(a, bits).admits(u(BigInt.asIntN(bits, x)))) expect.fail(`sign extend ${bits} ${x}`);
      }
      for (const bits of [16, 32, 64]) {
        const swapped = swapBytes(BigInt.asUintN(bits, x), bits / 8);
        if (!byteOrder(a, bits, true).admits(swapped)) expect.fail(`swap ${bits} ${x}`);
        if (!byteOrder(a, bits, false).admits(BigInt.asUintN(bits, x))) expect.fail(`keep ${bits} ${x}`);
      }
      if (!negate(a, false).admits(u(-x))) expect.fail(`negate ${x}`);
      const other = numbers.value();
      const b = numbers.around(other);
      const both = join(a, b);
      if (!both.admits(x) || !both.admits(other)) expect.fail(`join ${x} ${other}`);
      const same = numbers.around(x);
      if (meet(a, same)?.admits(x) !== true) expect.fail(`meet ${x}`);
      if (a.contains(b) && !a.admits(other)) expect.fail(`contains ${other}`);
    }
  });

  it('keeps the operands of a comparison that came out as it did', () => {
    const numbers = new Numbers(4);
    for (let i = 0; i < 25_000; i++) {
      const x = numbers.value();
      const y = numbers.below(3) === 0 ? x : numbers.value();
      const a = numbers.around(x);
      const b = numbers.around(y);
      const code = JUMPS[i % JUMPS.length]!;
      const is32 = numbers.below(2) === 0;
      const outcome = holds(code, x, y, is32);
      const narrowed = narrow(code, outcome, a, b, is32);
      if (narrowed === undefined || !narrowed[0].admits(x) || !narrowed[1].admits(y)) {
        expect.fail(
          `${x} ${code.toString(16)} ${y} is ${outcome} (32: ${is32}): ${narrowed?.map(show).join(' ')}`,
        );
      }
      if (!a.contains(narrowed[0]) && !a.equals(narrowed[0])) expect.fail('narrowing widened');
    }
  });

  it('is as sharp as the idioms of compilers need', () => {
    const byte = Scalar.ofBytes(1);
    const length = arithmetic(
      op.BPF_LSH,
      arithmetic(op.BPF_AND, byte, Scalar.of(15), false),
      Scalar.of(2),
      false,
    );
    expect([length.umin, length.umax, length.mask]).toEqual([0n, 60n, 60n]);
    // r <<= 32; r s>>= 32 after w < 10
    const bounded = narrow(op.BPF_JLT, true, UNKNOWN, Scalar.of(10), true)![0];
    const wide = arithmetic(
      op.BPF_ARSH,
      arithmetic(op.BPF_LSH, bounded, Scalar.of(32), false),
      Scalar.of(32),
      false,
    );
    expect([wide.smin, wide.smax]).toEqual([0n, 9n]);
    // a signed check alone leaves the negative half
    const signed = narrow(op.BPF_JSLT, true, UNKNOWN, Scalar.of(10), false)![0];
    expect(s(u(signed.smin))).toBe(S64_MIN);
    expect(narrow(op.BPF_JGT, true, Scalar.of(3), Scalar.of(5), false)).toBeUndefined();
    expect(narrow(op.BPF_JSET, false, Scalar.of(6), Scalar.of(2), false)).toBeUndefined();
  });
});
