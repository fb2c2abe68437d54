import type { Scalar } from './scalar/scalar.js';
import { S64_MAX, S64_MIN } from './scalar/tnum.js';

const U32_MAX = 0xffff_ffff;

/**
 * How to bound a number that may be too large or negative, by what the comparisons on this path have left open: to
 * compare it as unsigned is of use only where no comparison was made, or a signed one. `goal` says what it has to be,
 * e.g. `at most 12`.
 */
export function boundAdvice(number: Scalar, name: string, goal: string): string {
  if (number.smin >= 0n) {
    return number.umax === S64_MAX
      ? `${name} is known not to be negative, but nothing bounds it above: mask it, or compare it, so that it is ${goal}`
      : `${name} may be up to ${number.umax} here: mask it, or compare it with less, so that it is ${goal}`;
  }
  if (number.smin > S64_MIN) {
    return `${name} may be negative, as low as ${number.smin}: leave if it is, or mask it or compare it as unsigned, so that it is ${goal}`;
  }
  if (number.u32max < U32_MAX) {
    return `only the low 32 bits of ${name} are bounded on this path: clear the others (as a 32-bit move does) or compare all 64, so that it is ${goal}`;
  }
  if (number.smax < S64_MAX) {
    return `the comparison that bounds ${name} on this path is a signed one, which leaves negative numbers: compare it as unsigned, or with 0 as well, so that it is ${goal}`;
  }
  return `nothing bounds ${name} on this path: mask it, or compare it as unsigned, so that it is ${goal}`;
}
