/**
 * Tracked numbers: what is known of each bit of a 64-bit value. `value` holds the bits known to be 1, `mask` the
 * bits that are not known; a bit is never set in both. Every operation is exact for constants and sound otherwise:
 * the result covers every outcome of the operands' possible values (see the exhaustive test over small widths).
 */
export interface Tnum {
  readonly value: bigint;
  readonly mask: bigint;
}

export const U64_MAX = 0xffff_ffff_ffff_ffffn;
export const S64_MIN = -0x8000_0000_0000_0000n;
export const S64_MAX = 0x7fff_ffff_ffff_ffffn;
export const SIGN_BIT = 0x8000_0000_0000_0000n;
export const LOW32 = 0xffff_ffffn;

export const TNUM_UNKNOWN: Tnum = { value: 0n, mask: U64_MAX };

const wrap = (value: bigint): bigint => BigInt.asUintN(64, value);

/** Number of bits needed for an unsigned 64-bit value; 0 for 0. */
export function bitLength(value: bigint): number {
  const high = Number(value >> 32n);
  return high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(value & LOW32));
}

export function tnumConst(value: bigint): Tnum {
  return { value, mask: 0n };
}

export function tnumAdd(a: Tnum, b: Tnum): Tnum {
  const masks = a.mask + b.mask;
  const values = a.value + b.value;
  const carries = (masks + values) ^ values;
  const mask = wrap(carries | a.mask | b.mask);
  return { value: wrap(values) & ~mask, mask };
}

export function tnumSub(a: Tnum, b: Tnum): Tnum {
  const difference = wrap(a.value - b.value);
  const upper = wrap(difference + a.mask);
  const lower = wrap(difference - b.mask);
  const mask = (upper ^ lower) | a.mask | b.mask;
  return { value: difference & ~mask, mask };
}

export function tnumAnd(a: Tnum, b: Tnum): Tnum {
  const possible = (a.value | a.mask) & (b.value | b.mask);
  const value = a.value & b.value;
  return { value, mask: possible & ~value };
}

export function tnumOr(a: Tnum, b: Tnum): Tnum {
  const value = a.value | b.value;
  return { value, mask: (a.mask | b.mask) & ~value };
}

export function tnumXor(a: Tnum, b: Tnum): Tnum {
  const mask = a.mask | b.mask;
  return { value: (a.value ^ b.value) & ~mask, mask };
}

/** Shift-and-add over the bits of `a`; an unknown bit adds either nothing or the whole of `b`. */
export function tnumMul(a: Tnum, b: Tnum): Tnum {
  if (a.mask === 0n && b.mask === 0n) return tnumConst(wrap(a.value * b.value));
  // The loop runs over one operand's bits: let it be the one with fewer of them.
  if (bitLength(a.value | a.mask) > bitLength(b.value | b.mask)) [a, b] = [b, a];
  const known = wrap(a.value * b.value);
  let uncertain: Tnum = { value: 0n, mask: 0n };
  let value = a.value;
  let mask = a.mask;
  let multiplicand = b;
  while (value !== 0n || mask !== 0n) {
    if ((value & 1n) !== 0n) uncertain = tnumAdd(uncertain, { value: 0n, mask: multiplicand.mask });
    else if ((mask & 1n) !== 0n) {
      uncertain = tnumAdd(uncertain, { value: 0n, mask: multiplicand.value | multiplicand.mask });
    }
    value >>= 1n;
    mask >>= 1n;
    multiplicand = { value: wrap(multiplicand.value << 1n), mask: wrap(multiplicand.mask << 1n) };
  }
  return tnumAdd(tnumConst(known), uncertain);
}

export function tnumShiftLeft(a: Tnum, shift: bigint): Tnum {
  return { value: wrap(a.value << shift), mask: wrap(a.mask << shift) };
}

export function tnumShiftRight(a: Tnum, shift: bigint): Tnum {
  return { value: a.value >> shift, mask: a.mask >> shift };
}

export function tnumShiftRightArithmetic(a: Tnum, shift: bigint): Tnum {
  // An unknown sign bit is copied as unknown, a known one as known.
  const value = wrap(BigInt.asIntN(64, a.value) >> shift);
  const mask = wrap(BigInt.asIntN(64, a.mask) >> shift);
  return { value: value & ~mask, mask };
}

/** Keeps the low `bits`; the rest becomes known zero. */
export function tnumTruncate(a: Tnum, bits: number): Tnum {
  return { value: BigInt.asUintN(bits, a.value), mask: BigInt.asUintN(bits, a.mask) };
}

/** Reverses the low `bytes` bytes and clears the rest. */
export function tnumSwapBytes(a: Tnum, bytes: number): Tnum {
  return { value: swapBytes(a.value, bytes), mask: swapBytes(a.mask, bytes) };
}

export function swapBytes(value: bigint, bytes: number): bigint {
  let out = 0n;
  for (let i = 0; i < bytes; i++) {
    out = (out << 8n) | (value & 0xffn);
    value >>= 8n;
  }
  return out;
}
