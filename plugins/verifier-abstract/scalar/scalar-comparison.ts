import * as op from '../../../src/bpf/opcodes.js';
import { meet, signExtend, truncate } from './scalar-arithmetic.js';
import { type Scalar, ScalarDraft } from './scalar.js';
import { LOW32, U64_MAX } from './tnum.js';

/**
 * What a comparison tells of its operands. `narrow` gives both operands as they are when `a code b` turned out as
 * `outcome`, or undefined when it cannot turn out so: a branch that nothing can take.
 */
export function narrow(
  code: number,
  outcome: boolean,
  a: Scalar,
  b: Scalar,
  is32: boolean,
): readonly [Scalar, Scalar] | undefined {
  const asked = outcome ? code : OPPOSITE[code]!;
  const key = is32 ? asked | 1 : asked;
  const slot = (Math.imul(a.serial, 31) ^ Math.imul(b.serial, 131) ^ Math.imul(key, 7919)) & (REMEMBERED - 1);
  const entry = remembered[slot];
  if (entry !== undefined && entry.key === key && entry.a === a && entry.b === b) return entry.result;
  const result = is32 ? narrow32(asked, a, b) : narrow64(asked, a, b);
  remembered[slot] = { key, a, b, result };
  return result;
}

/** Comparisons that were worked out: on the ways through a program, and in loops above all, they are the same ones. */
const REMEMBERED = 4096;

interface Outcome {
  readonly key: number;
  readonly a: Scalar;
  readonly b: Scalar;
  readonly result: readonly [Scalar, Scalar] | undefined;
}

const remembered: (Outcome | undefined)[] = new Array<Outcome | undefined>(REMEMBERED);

/** Not a jump code of the ISA: the outcome "no common bit" of JSET. */
const NO_COMMON_BIT = 0x100;

const OPPOSITE: Readonly<Record<number, number>> = {
  [op.BPF_JEQ]: op.BPF_JNE,
  [op.BPF_JNE]: op.BPF_JEQ,
  [op.BPF_JGT]: op.BPF_JLE,
  [op.BPF_JLE]: op.BPF_JGT,
  [op.BPF_JGE]: op.BPF_JLT,
  [op.BPF_JLT]: op.BPF_JGE,
  [op.BPF_JSGT]: op.BPF_JSLE,
  [op.BPF_JSLE]: op.BPF_JSGT,
  [op.BPF_JSGE]: op.BPF_JSLT,
  [op.BPF_JSLT]: op.BPF_JSGE,
  [op.BPF_JSET]: NO_COMMON_BIT,
};

function narrow64(code: number, a: Scalar, b: Scalar): readonly [Scalar, Scalar] | undefined {
  switch (code) {
    case op.BPF_JEQ: {
      const both = meet(a, b);
      return both === undefined ? undefined : [both, both];
    }
    case op.BPF_JNE: {
      if (a.isConst && b.isConst) return a.value === b.value ? undefined : [a, b];
      const left = b.isConst ? without(a, b.value) : a;
      const right = a.isConst ? without(b, a.value) : b;
      return left === undefined || right === undefined ? undefined : [left, right];
    }
    case op.BPF_JGT:
      return pair(above(a, b.umin + 1n), below(b, a.umax - 1n));
    case op.BPF_JGE:
      return pair(above(a, b.umin), below(b, a.umax));
    case op.BPF_JLT:
      return pair(below(a, b.umax - 1n), above(b, a.umin + 1n));
    case op.BPF_JLE:
      return pair(below(a, b.umax), above(b, a.umin));
    case op.BPF_JSGT:
      return pair(signedAbove(a, b.smin + 1n), signedBelow(b, a.smax - 1n));
    case op.BPF_JSGE:
      return pair(signedAbove(a, b.smin), signedBelow(b, a.smax));
    case op.BPF_JSLT:
      return pair(signedBelow(a, b.smax - 1n), signedAbove(b, a.smin + 1n));
    case op.BPF_JSLE:
      return pair(signedBelow(a, b.smax), signedAbove(b, a.smin));
    case op.BPF_JSET:
      return pair(withCommonBit(a, b, U64_MAX), withCommonBit(b, a, U64_MAX));
    default:
      return pair(withoutBits(a, b, U64_MAX), withoutBits(b, a, U64_MAX));
  }
}

/** On the low halves: worked out on 32-bit copies, whose bounds are then put back into the whole. */
function narrow32(code: number, a: Scalar, b: Scalar): readonly [Scalar, Scalar] | undefined {
  const signed = code === op.BPF_JSGT || code === op.BPF_JSGE || code === op.BPF_JSLT || code === op.BPF_JSLE;
  const lowA = signed ? signExtend(a, 32) : truncate(a, 4);
  const lowB = signed ? signExtend(b, 32) : truncate(b, 4);
  const low = narrow64(code, lowA, lowB);
  if (low === undefined) return undefined;
  return pair(low[0] === lowA ? a : withLowHalf(a, low[0]), low[1] === lowB ? b : withLowHalf(b, low[1]));
}

function withLowHalf(whole: Scalar, low: Scalar): Scalar | undefined {
  const draft = ScalarDraft.from(whole);
  if (!draft.narrowBits(low.value & LOW32, (low.mask & LOW32) | (U64_MAX & ~LOW32))) return undefined;
  if (low.u32min > draft.u32min) draft.u32min = low.u32min;
  if (low.u32max < draft.u32max) draft.u32max = low.u32max;
  if (low.s32min > draft.s32min) draft.s32min = low.s32min;
  if (low.s32max < draft.s32max) draft.s32max = low.s32max;
  return draft.freeze();
}

function pair(a: Scalar | undefined, b: Scalar | undefined): readonly [Scalar, Scalar] | undefined {
  return a === undefined || b === undefined ? undefined : [a, b];
}

function above(a: Scalar, min: bigint): Scalar | undefined {
  if (min <= a.umin) return a;
  if (min > a.umax) return undefined;
  const draft = ScalarDraft.from(a);
  draft.umin = min;
  return draft.freeze();
}

function below(a: Scalar, max: bigint): Scalar | undefined {
  if (max >= a.umax) return a;
  if (max < a.umin) return undefined;
  const draft = ScalarDraft.from(a);
  draft.umax = max;
  return draft.freeze();
}

function signedAbove(a: Scalar, min: bigint): Scalar | undefined {
  if (min <= a.smin) return a;
  if (min > a.smax) return undefined;
  const draft = ScalarDraft.from(a);
  draft.smin = min;
  return draft.freeze();
}

function signedBelow(a: Scalar, max: bigint): Scalar | undefined {
  if (max >= a.smax) return a;
  if (max < a.smin) return undefined;
  const draft = ScalarDraft.from(a);
  draft.smax = max;
  return draft.freeze();
}

/** A value that is not `excluded`, which only the ends of a range can express. */
function without(a: Scalar, excluded: bigint): Scalar | undefined {
  if (a.isConst) return a.value === excluded ? undefined : a;
  const signed = BigInt.asIntN(64, excluded);
  if (a.umin !== excluded && a.umax !== excluded && a.smin !== signed && a.smax !== signed) return a;
  const draft = ScalarDraft.from(a);
  if (draft.umin === excluded) draft.umin++;
  if (draft.umax === excluded) draft.umax--;
  if (draft.smin === signed) draft.smin++;
  if (draft.smax === signed) draft.smax--;
  return draft.freeze();
}

/** `a & b` is not zero, within `width`. */
function withCommonBit(a: Scalar, b: Scalar, width: bigint): Scalar | undefined {
  const possible = (a.value | a.mask) & (b.value | b.mask) & width;
  if (possible === 0n) return undefined;
  // If only one bit can be the common one, it is set.
  if ((possible & (possible - 1n)) !== 0n) return a.umin === 0n ? above(a, 1n) : a;
  const draft = ScalarDraft.from(a);
  return draft.narrowBits(possible, U64_MAX & ~possible) ? draft.freeze() : undefined;
}

/** `a & b` is zero: bits known to be set in `b` are clear in `a`. */
function withoutBits(a: Scalar, b: Scalar, width: bigint): Scalar | undefined {
  const bits = b.value & width;
  if ((a.value & bits) !== 0n) return undefined;
  if ((a.mask & bits) === 0n) return a;
  const draft = ScalarDraft.from(a);
  return draft.narrowBits(0n, U64_MAX & ~bits) ? draft.freeze() : undefined;
}
