import { truncate } from './scalar/scalar-arithmetic.js';
import { Scalar } from './scalar/scalar.js';
import { Kind, NULL_VALUE, scalarValue, type Value } from './value.js';

/** What one byte of the stack holds. */
export enum Byte {
  /** Never written. */
  Invalid = 0,
  /** Written with something that is not tracked. */
  Misc = 1,
  Zero = 2,
  /** Part of the slot's spilled value. */
  Spill = 3,
}

/**
 * Eight bytes of stack, immutable. `types` has two bits for each byte, lowest address first. A spilled value
 * starts at the slot's first byte and has `spillSize` bytes; pointers always have eight.
 */
export class Slot {
  constructor(
    readonly types: number,
    readonly value: Value | undefined,
    readonly spillSize: number,
  ) {}

  byte(index: number): Byte {
    return (this.types >> (2 * index)) & 3;
  }

  /** Whether the byte is known to be 0, written as such or part of a number. */
  isZero(index: number): boolean {
    const byte = this.byte(index);
    if (byte !== Byte.Spill) return byte === Byte.Zero;
    const { value } = this;
    return value!.kind === Kind.Scalar && value!.scalar.isZeroByte(index);
  }

  /** What a load of the first `size` bytes finds: undefined if one was never written, or is part of a pointer. */
  read(size: number): Value | undefined {
    const { value, spillSize } = this;
    if (value !== undefined && size === spillSize) return value;
    if (value?.isPointer === true) return undefined;
    let areZero = true;
    for (let i = spillSize; i < size; i++) {
      const byte = this.byte(i);
      if (byte === Byte.Invalid) return undefined;
      if (byte !== Byte.Zero) areZero = false;
    }
    if (!areZero) return scalarValue(Scalar.ofBytes(size));
    if (value === undefined) return NULL_VALUE;
    // Numbers are stored without a sign, so that zeroes behind one change nothing.
    const scalar = truncate(value.scalar, size);
    return scalar === value.scalar ? value : scalarValue(scalar);
  }

  /** The same bytes with something else known of the spilled value. */
  withValue(value: Value): Slot {
    return new Slot(this.types, value, this.spillSize);
  }
}

export const EMPTY_SLOT = new Slot(0, undefined, 0);

const ALL_MISC = new Slot(fill(Byte.Misc), undefined, 0);

const ALL_ZERO = new Slot(fill(Byte.Zero), undefined, 0);

function fill(byte: Byte): number {
  let types = 0;
  for (let i = 0; i < 8; i++) types |= byte << (2 * i);
  return types;
}

/** Bits of the bytes `from` … `from + size - 1` in `types`. */
export function byteMask(from: number, size: number): number {
  return ((1 << (2 * size)) - 1) << (2 * from);
}

/** A slot with a value spilled at its start; what else it held beyond is kept as far as it is bytes. */
export function spilledSlot(previous: Slot, value: Value, size: number): Slot {
  if (size === 8) return new Slot(fill(Byte.Spill), value, 8);
  const kept = demoted(previous).types & ~byteMask(0, size);
  return new Slot(kept | (fill(Byte.Spill) & byteMask(0, size)), value, size);
}

/** A slot after bytes of it were written without being tracked, or with zeroes. */
export function overwrittenSlot(previous: Slot, from: number, size: number, byte: Byte): Slot {
  if (size === 8) return byte === Byte.Zero ? ALL_ZERO : ALL_MISC;
  // A spilled value that is not touched stays.
  const base = previous.value !== undefined && from < previous.spillSize ? demoted(previous) : previous;
  const mask = byteMask(from, size);
  return new Slot((base.types & ~mask) | (fill(byte) & mask), base.value, base.spillSize);
}

/** The slot without its value: spilled bytes become untracked ones. */
export function demoted(slot: Slot): Slot {
  if (slot.value === undefined) return slot;
  let types = slot.types;
  for (let i = 0; i < slot.spillSize; i++) types = (types & ~byteMask(i, 1)) | (Byte.Misc << (2 * i));
  return new Slot(types, undefined, 0);
}
