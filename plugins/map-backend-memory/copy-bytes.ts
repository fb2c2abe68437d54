import type { AddressSpace } from '../../src/bpf/runtime/address-space.js';

/** Above this, `copyWithin`'s fixed cost is less than a loop's. */
const LOOP_LIMIT = 128;

/** Copies between two addresses of a space; the ranges may overlap. */
export function copyBytes(space: AddressSpace, from: number, to: number, size: number): void {
  if (((from | to | size) & 3) === 0 && size <= LOOP_LIMIT) {
    const { i32 } = space;
    let source = from >>> 2;
    let target = to >>> 2;
    if (from >= to) {
      for (let words = size >>> 2; words > 0; words--) i32[target++] = i32[source++]!;
      return;
    }
    source += size >>> 2;
    target += size >>> 2;
    for (let words = size >>> 2; words > 0; words--) i32[--target] = i32[--source]!;
    return;
  }
  space.u8.copyWithin(to, from, from + size);
}
