import type { Renaming } from './renaming.js';
import type { Scalar } from './scalar/scalar.js';
import { Byte, type Slot } from './slot.js';
import { Kind, type Value } from './value.js';

/** Whether all that `current` may be, but for ids, `old` may be; the same and no less if `isSame`. */
export function coversValue(old: Value, current: Value, isSame: boolean): boolean {
  if (old === current) return true;
  if (old.kind !== current.kind) return false;
  if (old.kind !== Kind.Scalar) {
    if (
      old.off !== current.off ||
      old.maybeNull !== current.maybeNull ||
      old.map !== current.map ||
      old.size !== current.size ||
      old.socket !== current.socket
    ) {
      return false;
    }
    if (old.range !== current.range && (isSame || old.range < 0 || current.range < old.range)) return false;
  }
  return coversNumber(old.scalar, current.scalar, isSame);
}

function coversNumber(old: Scalar, current: Scalar, isSame: boolean): boolean {
  return isSame ? old.equals(current) : old.contains(current);
}

/** Whether the ids of both stand for each other. */
export function agreesOnIds(renaming: Renaming, old: Value, current: Value): boolean {
  if (old.kind === Kind.Scalar) return renaming.matchesNumber(old, current);
  return renaming.matches(old.id, current.id) && renaming.matches(old.ref, current.ref);
}

/** Whether all that those bytes of `current` may be, one bit for each, the bytes of `old` may be, its number left aside. */
export function coversBytes(old: Slot, bytes: number, current: Slot): boolean {
  if (old === current) return true;
  for (let i = 0; i < 8; i++) {
    if ((bytes & (1 << i)) === 0) continue;
    switch (old.byte(i)) {
      case Byte.Invalid:
        break;
      case Byte.Zero:
        if (!current.isZero(i)) return false;
        break;
      default: {
        const byte = current.byte(i);
        if (byte === Byte.Invalid) return false;
        if (byte === Byte.Spill && current.value!.kind !== Kind.Scalar) return false;
      }
    }
  }
  return true;
}
