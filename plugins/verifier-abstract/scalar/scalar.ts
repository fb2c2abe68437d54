import { LOW32, S64_MAX, S64_MIN, SIGN_BIT, type Tnum, U64_MAX } from './tnum.js';

const U32_MAX = 0xffff_ffff;
const S32_MIN = -0x8000_0000;
const S32_MAX = 0x7fff_ffff;

let nextSerial = 1;

/**
 * What is known of a 64-bit number: its bits, and its range as unsigned and signed, of 64 bits and of its low 32.
 * Immutable and shared: equal objects are equal values, which the memo of scalar-arithmetic.ts and the comparison
 * of states rely on for speed.
 */
export class Scalar implements Tnum {
  /** Key for memo tables; says nothing about the value. */
  readonly serial = nextSerial++;
  /** The register value that is just this number; kept here by register-state.ts so that it is made once. */
  asValue: object | undefined = undefined;

  /** Use `Scalar.constant`, `Scalar.unsigned` … or `ScalarDraft.freeze`; the parts must agree with each other. */
  constructor(
    readonly value: bigint,
    readonly mask: bigint,
    readonly umin: bigint,
    readonly umax: bigint,
    readonly smin: bigint,
    readonly smax: bigint,
    readonly u32min: number,
    readonly u32max: number,
    readonly s32min: number,
    readonly s32max: number,
  ) {}

  get isConst(): boolean {
    return this.mask === 0n;
  }

  /** The value, when there is only one. */
  get constant(): bigint | undefined {
    return this.mask === 0n ? this.value : undefined;
  }

  equals(other: Scalar): boolean {
    return (
      this === other ||
      (this.value === other.value &&
        this.mask === other.mask &&
        this.umin === other.umin &&
        this.umax === other.umax &&
        this.smin === other.smin &&
        this.smax === other.smax &&
        this.u32min === other.u32min &&
        this.u32max === other.u32max &&
        this.s32min === other.s32min &&
        this.s32max === other.s32max)
    );
  }

  /** Whether every value that `other` may have is one that this may have. */
  contains(other: Scalar): boolean {
    return (
      this === other ||
      (this.umin <= other.umin &&
        this.umax >= other.umax &&
        this.smin <= other.smin &&
        this.smax >= other.smax &&
        this.u32min <= other.u32min &&
        this.u32max >= other.u32max &&
        this.s32min <= other.s32min &&
        this.s32max >= other.s32max &&
        // Every bit known here is known there, and the same.
        (other.mask & ~this.mask) === 0n &&
        (other.value & ~this.mask) === this.value)
    );
  }

  /** Whether all bits of the byte are known to be 0; byte 0 is the lowest. */
  isZeroByte(index: number): boolean {
    return (((this.value | this.mask) >> BigInt(8 * index)) & 0xffn) === 0n;
  }

  /** Whether `value`, as unsigned, is one of the possible values. For tests. */
  admits(value: bigint): boolean {
    const signed = BigInt.asIntN(64, value);
    const low = Number(value & LOW32);
    return (
      (value & ~this.mask) === this.value &&
      value >= this.umin &&
      value <= this.umax &&
      signed >= this.smin &&
      signed <= this.smax &&
      low >= this.u32min &&
      low <= this.u32max &&
      (low | 0) >= this.s32min &&
      (low | 0) <= this.s32max
    );
  }

  /** A known value, given as unsigned or signed. */
  static constant(value: bigint): Scalar {
    const signed = BigInt.asIntN(64, value);
    if (signed >= SMALL_MIN && signed <= SMALL_MAX) {
      const index = Number(signed - SMALL_MIN);
      return (SMALL_CONSTANTS[index] ??= makeConstant(signed));
    }
    let cached = LARGE_CONSTANTS.get(signed);
    if (cached === undefined) {
      // Bounded, because a hostile program can name as many constants as it has insns.
      if (LARGE_CONSTANTS.size >= 4096) LARGE_CONSTANTS.clear();
      LARGE_CONSTANTS.set(signed, (cached = makeConstant(signed)));
    }
    return cached;
  }

  static of(value: number): Scalar {
    return Scalar.constant(BigInt(value));
  }

  /** What a load of that many bytes without sign extension can give. */
  static ofBytes(bytes: number): Scalar {
    return LOADED[bytes] ?? UNKNOWN;
  }

  /** Any value between the two, both included, as unsigned. */
  static unsigned(min: bigint, max: bigint): Scalar {
    const draft = new ScalarDraft();
    draft.umin = min;
    draft.umax = max;
    return draft.freeze() ?? UNKNOWN;
  }

  /** Any value between the two, both included, as signed. */
  static signed(min: bigint, max: bigint): Scalar {
    const draft = new ScalarDraft();
    draft.smin = min;
    draft.smax = max;
    return draft.freeze() ?? UNKNOWN;
  }
}

const SMALL_MIN = -1024n;
const SMALL_MAX = 8191n;
const SMALL_CONSTANTS: (Scalar | undefined)[] = [];
const LARGE_CONSTANTS = new Map<bigint, Scalar>();

function makeConstant(signed: bigint): Scalar {
  const unsigned = BigInt.asUintN(64, signed);
  const low = Number(unsigned & LOW32);
  return new Scalar(unsigned, 0n, unsigned, unsigned, signed, signed, low, low, low | 0, low | 0);
}

/**
 * A scalar being worked out. Fields may be set to anything sound; `freeze` lets each tell the others what it
 * knows, and gives undefined when they contradict each other, i.e. when no value is possible.
 */
export class ScalarDraft {
  value = 0n;
  mask = U64_MAX;
  umin = 0n;
  umax = U64_MAX;
  smin = S64_MIN;
  smax = S64_MAX;
  u32min = 0;
  u32max = U32_MAX;
  s32min = S32_MIN;
  s32max = S32_MAX;

  static from(scalar: Scalar): ScalarDraft {
    const draft = new ScalarDraft();
    draft.value = scalar.value;
    draft.mask = scalar.mask;
    draft.umin = scalar.umin;
    draft.umax = scalar.umax;
    draft.smin = scalar.smin;
    draft.smax = scalar.smax;
    draft.u32min = scalar.u32min;
    draft.u32max = scalar.u32max;
    draft.s32min = scalar.s32min;
    draft.s32max = scalar.s32max;
    return draft;
  }

  setBits(bits: Tnum): this {
    this.value = bits.value;
    this.mask = bits.mask;
    return this;
  }

  /** Adds what `bits` says to what is known; false on contradiction. */
  narrowBits(value: bigint, mask: bigint): boolean {
    if (((this.value ^ value) & ~this.mask & ~mask) !== 0n) return false;
    const both = this.mask & mask;
    this.value = (this.value | value) & ~both;
    this.mask = both;
    return true;
  }

  /** The finished scalar; undefined when nothing is possible. */
  freeze(): Scalar | undefined {
    this.#fromBits();
    this.#exchange();
    this.#exchange();
    if (!this.#toBits()) return undefined;
    this.#fromBits();
    this.#exchange();
    if (
      this.umin > this.umax ||
      this.smin > this.smax ||
      this.u32min > this.u32max ||
      this.s32min > this.s32max
    ) {
      return undefined;
    }
    if (this.umin === this.umax) {
      // The ranges have met: whatever the bits say agrees, or the value is impossible.
      if (((this.umin ^ this.value) & ~this.mask) !== 0n) return undefined;
      return Scalar.constant(this.umin);
    }
    if (this.mask === 0n) return undefined;
    return new Scalar(
      this.value,
      this.mask,
      this.umin,
      this.umax,
      this.smin,
      this.smax,
      this.u32min,
      this.u32max,
      this.s32min,
      this.s32max,
    );
  }

  /** Bits bound the ranges: unknown bits all 0 gives the least value, all 1 the greatest. */
  #fromBits(): void {
    const { value, mask } = this;
    const most = value | mask;
    if (value > this.umin) this.umin = value;
    if (most < this.umax) this.umax = most;
    const least = BigInt.asIntN(64, value | (mask & SIGN_BIT));
    const greatest = BigInt.asIntN(64, value | (mask & ~SIGN_BIT));
    if (least > this.smin) this.smin = least;
    if (greatest < this.smax) this.smax = greatest;
    const low = Number(value & LOW32) | 0;
    const lowMask = Number(mask & LOW32) | 0;
    const low32 = low >>> 0;
    const most32 = (low | lowMask) >>> 0;
    if (low32 > this.u32min) this.u32min = low32;
    if (most32 < this.u32max) this.u32max = most32;
    const least32 = low | (lowMask & S32_MIN);
    const greatest32 = low | (lowMask & S32_MAX);
    if (least32 > this.s32min) this.s32min = least32;
    if (greatest32 < this.s32max) this.s32max = greatest32;
  }

  /** Ranges bound each other. Each step follows from the previous ones being sound. */
  #exchange(): void {
    // 64 → 32: with equal upper halves, the lower half is in order.
    if (this.umin >> 32n === this.umax >> 32n) {
      const min = Number(this.umin & LOW32);
      const max = Number(this.umax & LOW32);
      if (min > this.u32min) this.u32min = min;
      if (max < this.u32max) this.u32max = max;
    }
    if (this.smin >> 32n === this.smax >> 32n) {
      const min = Number(this.smin & LOW32);
      const max = Number(this.smax & LOW32);
      if (min > this.u32min) this.u32min = min;
      if (max < this.u32max) this.u32max = max;
    }
    // A range of signed values inside the s32 range keeps its order in the low half.
    if (this.smin >= BigInt(S32_MIN) && this.smax <= BigInt(S32_MAX)) {
      const min = Number(this.smin);
      const max = Number(this.smax);
      if (min > this.s32min) this.s32min = min;
      if (max < this.s32max) this.s32max = max;
    }
    this.#exchangeSign32();
    this.#exchangeSign64();
    // 32 → 64: the lower half bounds the whole, whatever the upper half is.
    const umin = (this.umin & ~LOW32) | BigInt(this.u32min);
    const umax = (this.umax & ~LOW32) | BigInt(this.u32max);
    if (umin > this.umin) this.umin = umin;
    if (umax < this.umax) this.umax = umax;
    const smin = BigInt.asIntN(64, (BigInt.asUintN(64, this.smin) & ~LOW32) | BigInt(this.u32min));
    const smax = BigInt.asIntN(64, (BigInt.asUintN(64, this.smax) & ~LOW32) | BigInt(this.u32max));
    if (smin > this.smin) this.smin = smin;
    if (smax < this.smax) this.smax = smax;
    if (this.smin >= BigInt(S32_MIN) && this.smax <= BigInt(S32_MAX)) {
      const min = BigInt(this.s32min);
      const max = BigInt(this.s32max);
      if (min > this.smin) this.smin = min;
      if (max < this.smax) this.smax = max;
    }
    this.#exchangeSign64();
  }

  #exchangeSign32(): void {
    // Both ends in one half of the circle: signed and unsigned order agree.
    if ((this.u32min | 0) <= (this.u32max | 0)) {
      if ((this.u32min | 0) > this.s32min) this.s32min = this.u32min | 0;
      if ((this.u32max | 0) < this.s32max) this.s32max = this.u32max | 0;
    }
    if (this.s32min >>> 0 <= this.s32max >>> 0) {
      if (this.s32min >>> 0 > this.u32min) this.u32min = this.s32min >>> 0;
      if (this.s32max >>> 0 < this.u32max) this.u32max = this.s32max >>> 0;
    } else if (this.u32max < this.s32min >>> 0) {
      // Signed range around zero, and the unsigned one excludes its negative part.
      if (this.s32min < 0) this.s32min = 0;
      if (this.s32max < this.u32max) this.u32max = this.s32max;
    } else if (this.u32min > this.s32max) {
      // … or its part that is not negative.
      if (this.s32max > -1) this.s32max = -1;
      if (this.s32min >>> 0 > this.u32min) this.u32min = this.s32min >>> 0;
    }
  }

  #exchangeSign64(): void {
    if (this.umin > S64_MAX === this.umax > S64_MAX && this.umin <= this.umax) {
      const min = BigInt.asIntN(64, this.umin);
      const max = BigInt.asIntN(64, this.umax);
      if (min > this.smin) this.smin = min;
      if (max < this.smax) this.smax = max;
    }
    if (this.smin >= 0n || this.smax < 0n) {
      const min = BigInt.asUintN(64, this.smin);
      const max = BigInt.asUintN(64, this.smax);
      if (this.smin <= this.smax) {
        if (min > this.umin) this.umin = min;
        if (max < this.umax) this.umax = max;
      }
      return;
    }
    const negative = BigInt.asUintN(64, this.smin);
    if (this.umax < negative) {
      this.smin = 0n;
      if (this.smax < this.umax) this.umax = this.smax;
    } else if (this.umin > this.smax) {
      this.smax = -1n;
      if (negative > this.umin) this.umin = negative;
    }
  }

  /** Ranges tell the leading bits they have in common; empty ones stay empty, whatever they tell. */
  #toBits(): boolean {
    const difference = this.umin ^ this.umax;
    if (difference <= S64_MAX) {
      const mask = lowMask64(difference);
      if (!this.narrowBits(this.umin & ~mask, mask)) return false;
    }
    const difference32 = (this.u32min ^ this.u32max) >>> 0;
    const bits = 32 - Math.clz32(difference32);
    if (bits === 32) return true;
    const mask32 = 2 ** bits - 1;
    const value32 = (this.u32min & ~mask32) >>> 0;
    return this.narrowBits(BigInt(value32), (~LOW32 & U64_MAX) | BigInt(mask32));
  }
}

/** All bits up to and including the highest one set. */
function lowMask64(value: bigint): bigint {
  const high = Number(value >> 32n);
  const bits = high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(value & LOW32));
  return LOW_MASKS[bits]!;
}

const LOW_MASKS = Array.from({ length: 65 }, (_, bits) => (1n << BigInt(bits)) - 1n);

/** Nothing is known. */
export const UNKNOWN = new Scalar(0n, U64_MAX, 0n, U64_MAX, S64_MIN, S64_MAX, 0, U32_MAX, S32_MIN, S32_MAX);

export const ZERO = Scalar.constant(0n);

const LOADED: (Scalar | undefined)[] = [];
for (const bytes of [1, 2, 4]) LOADED[bytes] = Scalar.unsigned(0n, (1n << BigInt(8 * bytes)) - 1n);
