import type { AccessFact, CallFact, ProgramFacts } from '../../core/contract/verifier.js';
import type { Program } from '../../bpf/program.js';
import type { EditedProgram } from '../../bpf/rewrite/program-editor.js';

/** A program made to fit a hook, or why that cannot be done. */
export type Rewriting<Extra extends object = object> = (Rewritten & Extra) | RewritingRefusal;

export interface Rewritten {
  readonly ok: true;
  readonly program: Program;
  /** The facts that were given, by the slots of the new program; of inserted insns nothing is known. */
  readonly facts?: ProgramFacts | undefined;
}

export interface RewritingRefusal {
  readonly ok: false;
  /** One sentence, lower-case. */
  readonly reason: string;
  /** Slot of the insn that is at fault, in the program that was given. */
  readonly insn?: number | undefined;
}

export function refuse(reason: string, insn?: number): RewritingRefusal {
  return insn === undefined ? { ok: false, reason } : { ok: false, reason, insn };
}

export function rewritten(edited: EditedProgram, facts: ProgramFacts | undefined): Rewritten {
  return {
    ok: true,
    program: edited.program,
    facts: facts === undefined ? undefined : moveFacts(edited, facts),
  };
}

function moveFacts(edited: EditedProgram, facts: ProgramFacts): ProgramFacts {
  const unreachable = [...facts.unreachable].map((slot) => edited.slotOf(slot));
  return {
    accesses: edited.moved<AccessFact>(facts.accesses),
    calls: edited.moved<CallFact>(facts.calls),
    unreachable: new Set(unreachable.filter((slot) => slot !== undefined)),
  };
}
