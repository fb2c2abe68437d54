import { MISSING_FUNCTION } from './helper-ids.js';
import { isLddw, type Insn } from './insn.js';
import { BPF_CALL_HELPER, OP_CALL } from './opcodes.js';

/** Each call of a helper that there is, in order: its slot and the helper's number. */
export function helperCalls(insns: readonly Insn[]): { readonly insn: number; readonly helper: number }[] {
  const calls: { insn: number; helper: number }[] = [];
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    // The second slot of an lddw is data, whatever it looks like.
    if (isLddw(insn)) index++;
    else if (insn.opcode === OP_CALL && insn.src === BPF_CALL_HELPER && insn.imm !== MISSING_FUNCTION) {
      calls.push({ insn: index, helper: insn.imm });
    }
  }
  return calls;
}
