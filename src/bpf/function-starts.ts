import { isLddw, type Insn } from './insn.js';
import { BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, OP_CALL } from './opcodes.js';

/** Does the insn name a function of the same program: a local call, or an `lddw` of a function's address? */
export function isFunctionReference(insn: Insn): boolean {
  return (
    (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_CALL) ||
    (isLddw(insn) && insn.src === BPF_PSEUDO_FUNC)
  );
}

/** Slots where the main program and each function that is called or taken the address of begin, in order. */
export function functionStarts(insns: readonly Insn[]): number[] {
  const starts = new Set([0]);
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (isFunctionReference(insn)) starts.add(slot + insn.imm + 1);
    if (isLddw(insn)) slot++;
  }
  return [...starts].filter((start) => start >= 0 && start < insns.length).sort((a, b) => a - b);
}
