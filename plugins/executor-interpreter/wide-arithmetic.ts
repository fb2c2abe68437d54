/**
 * 64-bit multiplication and division on registers that are pairs of int32 (low at `d`, high at `d + 1`), with
 * the corner cases of RFC 9669 section 4.1: division by zero gives 0, modulo by zero leaves dst, the most
 * negative number divided by -1 is itself and leaves no remainder.
 */

export function multiply64(regs: Int32Array, d: number, s: number): void {
  const aLow = regs[d]!;
  const bLow = regs[s]!;
  regs[d + 1] = multiplyHigh(aLow, bLow) + Math.imul(aLow, regs[s + 1]!) + Math.imul(regs[d + 1]!, bLow);
  regs[d] = Math.imul(aLow, bLow);
}

/** Upper half of the unsigned product of two 32-bit numbers. */
function multiplyHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16);
  // `middle` is at most 0xffff * 0xffff + 0xffff, which has 32 bits; so has the sum below.
  const other = Math.imul(a0, b1) + (middle & 0xffff);
  return (Math.imul(a1, b1) + (middle >>> 16) + (other >>> 16)) | 0;
}

export function divide64(regs: Int32Array, d: number, s: number): void {
  divideUnsigned(regs, d, regs[s]!, regs[s + 1]!, false);
}

export function modulo64(regs: Int32Array, d: number, s: number): void {
  divideUnsigned(regs, d, regs[s]!, regs[s + 1]!, true);
}

export function signedDivide64(regs: Int32Array, d: number, s: number): void {
  const negativeDivisor = regs[s + 1]! < 0;
  const negativeDividend = regs[d + 1]! < 0;
  // Copies first: dst and src may be the same register.
  const low = negativeDivisor ? -regs[s]! | 0 : regs[s]!;
  const high = negativeDivisor ? negatedHigh(regs[s]!, regs[s + 1]!) : regs[s + 1]!;
  if (negativeDividend) negate(regs, d);
  divideUnsigned(regs, d, low, high, false);
  if (negativeDivisor !== negativeDividend) negate(regs, d);
}

export function signedModulo64(regs: Int32Array, d: number, s: number): void {
  const negativeDivisor = regs[s + 1]! < 0;
  const negativeDividend = regs[d + 1]! < 0;
  const low = negativeDivisor ? -regs[s]! | 0 : regs[s]!;
  const high = negativeDivisor ? negatedHigh(regs[s]!, regs[s + 1]!) : regs[s + 1]!;
  if (negativeDividend) negate(regs, d);
  divideUnsigned(regs, d, low, high, true);
  // The remainder takes the dividend's sign; by zero, this puts the dividend back.
  if (negativeDividend) negate(regs, d);
}

export function signedDivide32(a: number, b: number): number {
  if (b === 0) return 0;
  // -2147483648 / -1 is 2147483648, which as an int32 is -2147483648 again.
  return (a / b) | 0;
}

export function signedModulo32(a: number, b: number): number {
  return b === 0 ? a : (a % b) | 0;
}

function negate(regs: Int32Array, d: number): void {
  const low = regs[d]!;
  regs[d + 1] = negatedHigh(low, regs[d + 1]!);
  regs[d] = -low;
}

function negatedHigh(low: number, high: number): number {
  return (~high + (low === 0 ? 1 : 0)) | 0;
}

/** dst := quotient or remainder of dst by the given divisor, unsigned. */
function divideUnsigned(regs: Int32Array, d: number, low: number, high: number, remainder: boolean): void {
  const dividendLow = regs[d]! >>> 0;
  const dividendHigh = regs[d + 1]! >>> 0;
  if (high !== 0) {
    divideByWide(regs, d, low, high, remainder);
    return;
  }
  const divisor = low >>> 0;
  if (divisor === 0) {
    if (!remainder) regs[d] = regs[d + 1] = 0;
    return;
  }
  if (dividendHigh === 0) {
    regs[d] = remainder ? dividendLow % divisor : dividendLow / divisor;
    return;
  }
  // Long division, digits of 32, 16 and 16 bits. Every partial dividend is below 2^48, so the doubles are exact,
  // and too far from the next integer for a quotient to round up to it.
  const upper = Math.floor(dividendHigh / divisor);
  let rest = dividendHigh - upper * divisor;
  let part = rest * 0x10000 + (dividendLow >>> 16);
  const middle = Math.floor(part / divisor);
  rest = part - middle * divisor;
  part = rest * 0x10000 + (dividendLow & 0xffff);
  const lower = Math.floor(part / divisor);
  if (remainder) {
    regs[d] = part - lower * divisor;
    regs[d + 1] = 0;
  } else {
    regs[d] = (middle << 16) | lower;
    regs[d + 1] = upper;
  }
}

/** A divisor of more than 32 bits is rare enough for BigInt. */
function divideByWide(regs: Int32Array, d: number, low: number, high: number, remainder: boolean): void {
  const dividend = wide(regs[d]!, regs[d + 1]!);
  const divisor = wide(low, high);
  const result = remainder ? dividend % divisor : dividend / divisor;
  regs[d] = Number(result & 0xffffffffn);
  regs[d + 1] = Number(result >> 32n);
}

/** The unsigned 64-bit number of two halves. */
export function wide(low: number, high: number): bigint {
  return (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
}
