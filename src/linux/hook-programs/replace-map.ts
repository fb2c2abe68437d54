import { isLddw } from '../../bpf/insn.js';
import { BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE } from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import type { ProgramFacts } from '../../core/contract/verifier.js';
import type { Rewritten } from './rewriting.js';

/** The program with another map in the place of one, by handle; both have to be alike but in what they hold. */
export function replaceMap(program: Program, from: number, to: number, facts?: ProgramFacts): Rewritten {
  const insns = [...program.insns];
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (!isLddw(insn)) continue;
    const namesMap = insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE;
    if (namesMap && insn.imm === from) insns[slot] = { ...insn, imm: to };
    slot++;
  }
  const renamed = <T extends { readonly map?: number | undefined }>(
    bySlot: ReadonlyMap<number, T>,
  ): Map<number, T> =>
    new Map([...bySlot].map(([slot, fact]) => [slot, fact.map === from ? { ...fact, map: to } : fact]));
  return {
    ok: true,
    program: { ...program, insns },
    facts: facts && { ...facts, accesses: renamed(facts.accesses), calls: renamed(facts.calls) },
  };
}
