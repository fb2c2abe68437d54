import { MISSING_FUNCTION } from '../../bpf/helper-ids.js';
import type { Insn } from '../../bpf/insn.js';
import { isLddw } from '../../bpf/insn.js';
import { BPF_CALL_HELPER, OP_CALL } from '../../bpf/opcodes.js';
import type { ProgramSummary } from '../contract/policy.js';

/** What can be read off the insns without verifying them: what policies rule on before the verifier is asked. */
export function summarizeProgram(
  insns: readonly Insn[],
  gplCompatible: boolean,
  mapTypes: Iterable<number>,
): ProgramSummary {
  return {
    insnCount: insns.length,
    helpers: [...new Set(helperCalls(insns).map((call) => call.helper))].sort((a, b) => a - b),
    mapTypes: [...new Set(mapTypes)].sort((a, b) => a - b),
    gplCompatible,
  };
}

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
