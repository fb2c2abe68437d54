import type { Program } from '../../bpf/program.js';
import type { ProgramFacts } from './verifier.js';

/** How often each insn of a program ran, by slot; only ever added to. Exact to 2^53. */
export interface InsnCounts {
  /**
   * Runs of the insn in the slot; in the second slot of an `lddw` any number. An insn that faulted counts, as it was
   * begun; those behind it do not.
   */
  readonly executed: Float64Array;
  /** Of a conditional jump: how often it was taken. The rest of `executed` went on behind it. */
  readonly taken: Float64Array;
  /**
   * Where it is there, what each conditional jump compared last: four words of the slot's, the lower and upper half of
   * dst, then of src or the immediate with its sign extended. A jump of class JMP32 compares the lower halves only.
   */
  readonly operands?: Int32Array | undefined;
}

/** Takes the counts of all programs that are loaded in a party, those in its PROG_ARRAY maps included. */
export interface CoverageSink {
  /** The counts that an executor adds to, one element for each slot; the same ones for each load of a program. */
  countsFor(program: Program, facts: ProgramFacts | undefined): InsnCounts;
}
