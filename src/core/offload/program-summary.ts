import { helperCalls } from '../../bpf/helper-calls.js';
import type { Insn } from '../../bpf/insn.js';
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
