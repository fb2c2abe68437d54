import * as op from '../../../src/bpf/opcodes.js';
import { Scalar, ScalarDraft, UNKNOWN, ZERO } from './scalar.js';
import {
  bitLength,
  S64_MAX,
  S64_MIN,
  swapBytes,
  tnumAdd,
  tnumAnd,
  tnumMul,
  tnumOr,
  tnumShiftLeft,
  tnumShiftRight,
  tnumShiftRightArithmetic,
  tnumSub,
  tnumSwapBytes,
  tnumTruncate,
  tnumXor,
  U64_MAX,
} from './tnum.js';

/**
 * The arithmetic of RFC 9669 section 4.1 on scalars. Operations are pure and their operands shared, so results are
 * remembered: programs, and loops above all, compute the same thing from the same objects over and over.
 */
const MEMO_SIZE = 4096;

interface MemoEntry {
  key: number;
  a: number;
  b: number;
  result: Scalar;
}

const memo: (MemoEntry | undefined)[] = new Array<MemoEntry | undefined>(MEMO_SIZE);

function remembered(key: number, a: Scalar, b: Scalar, compute: (a: Scalar, b: Scalar) => Scalar): Scalar {
  const slot = (Math.imul(a.serial, 31) ^ Math.imul(b.serial, 131) ^ Math.imul(key, 7919)) & (MEMO_SIZE - 1);
  const entry = memo[slot];
  if (entry !== undefined && entry.key === key && entry.a === a.serial && entry.b === b.serial) {
    return entry.result;
  }
  const result = compute(a, b);
  memo[slot] = { key, a: a.serial, b: b.serial, result };
  return result;
}

const WIDE: Readonly<Record<number, (a: Scalar, b: Scalar) => Scalar>> = {
  [op.BPF_ADD]: add64,
  [op.BPF_SUB]: sub64,
  [op.BPF_MUL]: mul64,
  [op.BPF_DIV]: div64,
  [op.BPF_MOD]: mod64,
  [op.BPF_OR]: or64,
  [op.BPF_AND]: and64,
  [op.BPF_XOR]: xor64,
  [op.BPF_LSH]: lsh64,
  [op.BPF_RSH]: rsh64,
  [op.BPF_ARSH]: arsh64,
};

const WIDE_SIGNED: Readonly<Record<number, (a: Scalar, b: Scalar) => Scalar>> = {
  [op.BPF_DIV]: sdiv64,
  [op.BPF_MOD]: smod64,
};

/**
 * `dst code= src` on 64 bits (`is32` false) or on the low 32 with the upper half cleared. `signed` selects the
 * signed forms of DIV and MOD. Codes: BPF_ADD … BPF_ARSH without MOV, NEG and END.
 */
export function arithmetic(code: number, a: Scalar, b: Scalar, is32: boolean, signed = false): Scalar {
  const key = code | (is32 ? 1 : 0) | (signed ? 2 : 0);
  return remembered(key, a, b, is32 ? narrowOperation(code, signed) : wideOperation(code, signed));
}

function wideOperation(code: number, signed: boolean): (a: Scalar, b: Scalar) => Scalar {
  const operation = (signed ? WIDE_SIGNED[code] : undefined) ?? WIDE[code];
  return operation ?? (() => UNKNOWN);
}

/**
 * 32-bit operations are the 64-bit ones on extended operands, cut to 32 bits: zero-extended where the operation
 * does not look at the sign, sign-extended where it does. Only shift counts need care, as they wrap at 32.
 */
function narrowOperation(code: number, signed: boolean): (a: Scalar, b: Scalar) => Scalar {
  switch (code) {
    case op.BPF_ARSH:
      return (a, b) => truncate(arsh64(signExtend(a, 32), shiftCount32(b)), 4);
    case op.BPF_LSH:
    case op.BPF_RSH: {
      const wide = wideOperation(code, false);
      return (a, b) => truncate(wide(truncate(a, 4), shiftCount32(b)), 4);
    }
    case op.BPF_DIV:
    case op.BPF_MOD: {
      const wide = wideOperation(code, signed);
      return signed
        ? (a, b) => truncate(wide(signExtend(a, 32), signExtend(b, 32)), 4)
        : (a, b) => truncate(wide(truncate(a, 4), truncate(b, 4)), 4);
    }
    case op.BPF_ADD:
    case op.BPF_SUB:
    case op.BPF_MUL: {
      // Both views are sound, and each is sharp where the other wraps: take what both say.
      const wide = wideOperation(code, false);
      return (a, b) => {
        const unsigned = truncate(wide(truncate(a, 4), truncate(b, 4)), 4);
        if (unsigned.isConst) return unsigned;
        const signedView = truncate(wide(signExtend(a, 32), signExtend(b, 32)), 4);
        return meet(unsigned, signedView) ?? unsigned;
      };
    }
    default: {
      const wide = wideOperation(code, false);
      return (a, b) => truncate(wide(truncate(a, 4), truncate(b, 4)), 4);
    }
  }
}

/** What both say; undefined when they contradict each other. */
export function meet(a: Scalar, b: Scalar): Scalar | undefined {
  if (a === b) return a;
  const draft = ScalarDraft.from(a);
  if (!draft.narrowBits(b.value, b.mask)) return undefined;
  if (b.umin > draft.umin) draft.umin = b.umin;
  if (b.umax < draft.umax) draft.umax = b.umax;
  if (b.smin > draft.smin) draft.smin = b.smin;
  if (b.smax < draft.smax) draft.smax = b.smax;
  if (b.u32min > draft.u32min) draft.u32min = b.u32min;
  if (b.u32max < draft.u32max) draft.u32max = b.u32max;
  if (b.s32min > draft.s32min) draft.s32min = b.s32min;
  if (b.s32max < draft.s32max) draft.s32max = b.s32max;
  return draft.freeze();
}

/** A value that may be either: the least that covers both. */
export function join(a: Scalar, b: Scalar): Scalar {
  if (a === b || a.contains(b)) return a;
  if (b.contains(a)) return b;
  const draft = new ScalarDraft();
  const mask = a.mask | b.mask | (a.value ^ b.value);
  draft.value = a.value & ~mask;
  draft.mask = mask;
  draft.umin = a.umin < b.umin ? a.umin : b.umin;
  draft.umax = a.umax > b.umax ? a.umax : b.umax;
  draft.smin = a.smin < b.smin ? a.smin : b.smin;
  draft.smax = a.smax > b.smax ? a.smax : b.smax;
  draft.u32min = Math.min(a.u32min, b.u32min);
  draft.u32max = Math.max(a.u32max, b.u32max);
  draft.s32min = Math.min(a.s32min, b.s32min);
  draft.s32max = Math.max(a.s32max, b.s32max);
  return draft.freeze() ?? UNKNOWN;
}

/** Keeps the low 1, 2, 4 or 8 bytes; the rest becomes zero. */
export function truncate(a: Scalar, bytes: number): Scalar {
  if (bytes >= 8 || a.umax <= BYTE_MAX[bytes]!) return a;
  if (a.isConst) return Scalar.constant(BigInt.asUintN(8 * bytes, a.value));
  return remembered(0x100 | bytes, a, ZERO, () => {
    const bits = 8 * bytes;
    const draft = new ScalarDraft().setBits(tnumTruncate(a, bits));
    if (bytes === 4) {
      draft.umin = BigInt(a.u32min);
      draft.umax = BigInt(a.u32max);
      draft.u32min = a.u32min;
      draft.u32max = a.u32max;
      draft.s32min = a.s32min;
      draft.s32max = a.s32max;
    } else {
      const width = BigInt(bits);
      if (a.umin >> width === a.umax >> width) {
        draft.umin = BigInt.asUintN(bits, a.umin);
        draft.umax = BigInt.asUintN(bits, a.umax);
      } else draft.umax = BYTE_MAX[bytes]!;
    }
    return draft.freeze() ?? UNKNOWN;
  });
}

const BYTE_MAX: readonly bigint[] = Array.from({ length: 9 }, (_, bytes) => (1n << BigInt(8 * bytes)) - 1n);

/** The low 8, 16 or 32 bits as a signed number, in 64 bits. */
export function signExtend(a: Scalar, bits: number): Scalar {
  const limit = 1n << BigInt(bits - 1);
  if (a.smin >= -limit && a.smax < limit) return a;
  if (a.isConst) return Scalar.constant(BigInt.asIntN(bits, a.value));
  return remembered(0x200 | bits, a, ZERO, () => {
    const shift = BigInt(64 - bits);
    const draft = new ScalarDraft().setBits(tnumShiftRightArithmetic(tnumShiftLeft(a, shift), shift));
    draft.smin = -limit;
    draft.smax = limit - 1n;
    if (bits === 32) {
      draft.smin = BigInt(a.s32min);
      draft.smax = BigInt(a.s32max);
      draft.u32min = a.u32min;
      draft.u32max = a.u32max;
      draft.s32min = a.s32min;
      draft.s32max = a.s32max;
    } else {
      const low = truncate(a, bits / 8);
      if (low.umax < limit || low.umin >= limit) {
        draft.smin = BigInt.asIntN(bits, low.umin);
        draft.smax = BigInt.asIntN(bits, low.umax);
      }
    }
    return draft.freeze() ?? UNKNOWN;
  });
}

export function negate(a: Scalar, is32: boolean): Scalar {
  return arithmetic(op.BPF_SUB, ZERO, a, is32);
}

/**
 * BPF_END on a little-endian machine: `swap` false keeps the low bits in order and clears the rest, true reverses
 * their bytes as well.
 */
export function byteOrder(a: Scalar, bits: number, swap: boolean): Scalar {
  const bytes = bits / 8;
  const low = truncate(a, bytes);
  if (!swap) return low;
  if (low.isConst) return Scalar.constant(swapBytes(low.value, bytes));
  return remembered(0x300 | bits, low, ZERO, () => {
    const draft = new ScalarDraft().setBits(tnumSwapBytes(low, bytes));
    draft.umax = BYTE_MAX[bytes]!;
    return draft.freeze() ?? UNKNOWN;
  });
}

/** Shift counts are taken modulo the width. */
function shiftCount32(b: Scalar): Scalar {
  return b.umax < 32n ? b : and64(b, Scalar.of(31));
}

function shiftCount64(b: Scalar): Scalar {
  return b.umax < 64n ? b : and64(b, Scalar.of(63));
}

function finish(draft: ScalarDraft): Scalar {
  // The operands were possible, so the result is; should they secretly not have been, anything is sound.
  return draft.freeze() ?? UNKNOWN;
}

/** A range of exact results, brought back to 64 bits when all of them wrap by the same amount. */
function setUnsigned(draft: ScalarDraft, min: bigint, max: bigint): void {
  if (min >> 64n !== max >> 64n) return;
  draft.umin = BigInt.asUintN(64, min);
  draft.umax = BigInt.asUintN(64, max);
}

function setSigned(draft: ScalarDraft, min: bigint, max: bigint): void {
  if ((min - S64_MIN) >> 64n !== (max - S64_MIN) >> 64n) return;
  draft.smin = BigInt.asIntN(64, min);
  draft.smax = BigInt.asIntN(64, max);
}

/** The same for the low half, in doubles: sums of 32-bit numbers are exact. */
function setUnsigned32(draft: ScalarDraft, min: number, max: number): void {
  if (Math.floor(min / 0x1_0000_0000) !== Math.floor(max / 0x1_0000_0000)) return;
  draft.u32min = min >>> 0;
  draft.u32max = max >>> 0;
}

function setSigned32(draft: ScalarDraft, min: number, max: number): void {
  const wraps = (value: number): number => Math.floor((value + 0x8000_0000) / 0x1_0000_0000);
  if (wraps(min) !== wraps(max)) return;
  draft.s32min = min | 0;
  draft.s32max = max | 0;
}

function add64(a: Scalar, b: Scalar): Scalar {
  if (a.isConst && b.isConst) return Scalar.constant(a.value + b.value);
  const draft = new ScalarDraft().setBits(tnumAdd(a, b));
  setUnsigned(draft, a.umin + b.umin, a.umax + b.umax);
  setSigned(draft, a.smin + b.smin, a.smax + b.smax);
  setUnsigned32(draft, a.u32min + b.u32min, a.u32max + b.u32max);
  setSigned32(draft, a.s32min + b.s32min, a.s32max + b.s32max);
  return finish(draft);
}

function sub64(a: Scalar, b: Scalar): Scalar {
  if (a.isConst && b.isConst) return Scalar.constant(a.value - b.value);
  const draft = new ScalarDraft().setBits(tnumSub(a, b));
  setUnsigned(draft, a.umin - b.umax, a.umax - b.umin);
  setSigned(draft, a.smin - b.smax, a.smax - b.smin);
  setUnsigned32(draft, a.u32min - b.u32max, a.u32max - b.u32min);
  setSigned32(draft, a.s32min - b.s32max, a.s32max - b.s32min);
  return finish(draft);
}

function mul64(a: Scalar, b: Scalar): Scalar {
  if (a.isConst && b.isConst) return Scalar.constant(BigInt.asUintN(64, a.value * b.value));
  const draft = new ScalarDraft().setBits(tnumMul(a, b));
  const most = a.umax * b.umax;
  if (most <= U64_MAX) {
    draft.umin = a.umin * b.umin;
    draft.umax = most;
  }
  const corners = [a.smin * b.smin, a.smin * b.smax, a.smax * b.smin, a.smax * b.smax];
  const least = corners.reduce((x, y) => (x < y ? x : y));
  const greatest = corners.reduce((x, y) => (x > y ? x : y));
  if (least >= S64_MIN && greatest <= S64_MAX) {
    draft.smin = least;
    draft.smax = greatest;
  }
  return finish(draft);
}

/** Division by zero gives zero. */
function div64(a: Scalar, b: Scalar): Scalar {
  if (b.isConst) {
    if (b.value === 0n) return ZERO;
    if (a.isConst) return Scalar.constant(a.value / b.value);
  }
  const draft = new ScalarDraft();
  draft.umax = a.umax / (b.umin > 0n ? b.umin : 1n);
  draft.umin = b.umin > 0n ? a.umin / b.umax : 0n;
  return finish(draft);
}

/** Modulo by zero leaves the dividend. */
function mod64(a: Scalar, b: Scalar): Scalar {
  if (b.isConst) {
    if (b.value === 0n) return a;
    if (a.isConst) return Scalar.constant(a.value % b.value);
  }
  if (b.umin > a.umax) return a;
  const draft = new ScalarDraft();
  draft.umax = b.umin > 0n && b.umax - 1n < a.umax ? b.umax - 1n : a.umax;
  return finish(draft);
}

function sdiv64(a: Scalar, b: Scalar): Scalar {
  if (!b.isConst) return UNKNOWN;
  const divisor = BigInt.asIntN(64, b.value);
  if (divisor === 0n) return ZERO;
  // The one quotient that does not fit, MIN / -1, wraps around to MIN.
  if (divisor === -1n) return sub64(ZERO, a);
  if (a.isConst) return Scalar.constant(BigInt.asIntN(64, a.value) / divisor);
  const first = a.smin / divisor;
  const last = a.smax / divisor;
  return divisor > 0n ? Scalar.signed(first, last) : Scalar.signed(last, first);
}

function smod64(a: Scalar, b: Scalar): Scalar {
  if (!b.isConst) return UNKNOWN;
  const divisor = BigInt.asIntN(64, b.value);
  if (divisor === 0n) return a;
  if (a.isConst) return Scalar.constant(BigInt.asIntN(64, a.value) % divisor);
  // The result takes the dividend's sign and is smaller than the divisor.
  const limit = (divisor < 0n ? -divisor : divisor) - 1n;
  const min = a.smin >= 0n ? 0n : a.smin > -limit ? a.smin : -limit;
  const max = a.smax <= 0n ? 0n : a.smax < limit ? a.smax : limit;
  return Scalar.signed(min, max);
}

function and64(a: Scalar, b: Scalar): Scalar {
  if (a.isConst && b.isConst) return Scalar.constant(a.value & b.value);
  const draft = new ScalarDraft().setBits(tnumAnd(a, b));
  draft.umax = a.umax < b.umax ? a.umax : b.umax;
  draft.u32max = Math.min(a.u32max, b.u32max);
  // The sign survives only if both have it; clearing bits of a negative number lowers it.
  if (a.smin >= 0n || b.smin >= 0n) draft.smin = 0n;
  return finish(draft);
}

function or64(a: Scalar, b: Scalar): Scalar {
  if (a.isConst && b.isConst) return Scalar.constant(a.value | b.value);
  const draft = new ScalarDraft().setBits(tnumOr(a, b));
  draft.umin = a.umin > b.umin ? a.umin : b.umin;
  draft.u32min = Math.max(a.u32min, b.u32min);
  return finish(draft);
}

function xor64(a: Scalar, b: Scalar): Scalar {
  if (a.isConst && b.isConst) return Scalar.constant(a.value ^ b.value);
  const draft = new ScalarDraft().setBits(tnumXor(a, b));
  // No bit above the highest that either can have.
  const bits = Math.max(bitLength(a.umax), bitLength(b.umax));
  draft.umax = (1n << BigInt(bits)) - 1n;
  return finish(draft);
}

function lsh64(a: Scalar, count: Scalar): Scalar {
  const shift = shiftCount64(count);
  if (!shift.isConst) {
    const most = a.umax << shift.umax;
    return most <= U64_MAX ? Scalar.unsigned(a.umin << shift.umin, most) : UNKNOWN;
  }
  const by = shift.value;
  if (by === 0n) return a;
  if (a.isConst) return Scalar.constant(BigInt.asUintN(64, a.value << by));
  const draft = new ScalarDraft().setBits(tnumShiftLeft(a, by));
  setUnsigned(draft, a.umin << by, a.umax << by);
  setSigned(draft, a.smin << by, a.smax << by);
  if (by === 32n) {
    // Half of the sign extension idiom (`<<= 32`, `s>>= 32`): only the low half counts.
    draft.smin = BigInt(a.s32min) << 32n;
    draft.smax = BigInt(a.s32max) << 32n;
  }
  return finish(draft);
}

function rsh64(a: Scalar, count: Scalar): Scalar {
  const shift = shiftCount64(count);
  if (!shift.isConst) return Scalar.unsigned(a.umin >> shift.umax, a.umax >> shift.umin);
  const by = shift.value;
  if (by === 0n) return a;
  if (a.isConst) return Scalar.constant(a.value >> by);
  const draft = new ScalarDraft().setBits(tnumShiftRight(a, by));
  draft.umin = a.umin >> by;
  draft.umax = a.umax >> by;
  return finish(draft);
}

function arsh64(a: Scalar, count: Scalar): Scalar {
  const shift = shiftCount64(count);
  if (!shift.isConst) {
    // Towards zero from either side as the count grows.
    const min = a.smin >> (a.smin < 0n ? shift.umin : shift.umax);
    const max = a.smax >> (a.smax < 0n ? shift.umax : shift.umin);
    return Scalar.signed(min, max);
  }
  const by = shift.value;
  if (by === 0n) return a;
  if (a.isConst) return Scalar.constant(BigInt.asIntN(64, a.value) >> by);
  const draft = new ScalarDraft().setBits(tnumShiftRightArithmetic(a, by));
  draft.smin = a.smin >> by;
  draft.smax = a.smax >> by;
  return finish(draft);
}
