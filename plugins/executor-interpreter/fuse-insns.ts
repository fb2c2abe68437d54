import { Op } from './op.js';

/**
 * A copy of `DecodedProgram.code` in which what each bounds check of a packet begins with, `r3 = r2; r3 += 14; if r3 > r4`, is
 * one operation. The insns that follow keep their words: a jump may lead to them, and the operation finds its operands
 * there.
 */
export function fuseInsns(code: Int32Array): Int32Array {
  const fused = code.slice();
  const op = (at: number): number => (code[at] ?? 0) & 0xff;
  const dst = (at: number): number => (code[at]! >>> 8) & 0xff;
  for (let at = 0; at < code.length; at += 2) {
    const next = at + 2;
    let as: Op | undefined;
    if (op(at) === Op.ADD64 && op(next) === Op.JGT64) as = Op.ADD64_JGT64;
    // A register that is added to itself has another value once it was moved to.
    if (
      op(at) === Op.MOV64 &&
      op(next) === Op.ADD64 &&
      dst(at) === dst(next) &&
      code[next]! >>> 16 !== dst(at)
    )
      as = op(next + 2) === Op.JGT64 ? Op.SUM64_JGT64 : Op.SUM64;
    if (as !== undefined) fused[at] = (code[at]! & ~0xff) | as;
  }
  return fused;
}
