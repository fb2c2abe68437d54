import { isLddw } from '../../bpf/insn.js';
import type { Program, ProgramSpec } from '../../bpf/program.js';
import type { CoverageSink, InsnCounts } from '../contract/insn-coverage.js';
import type { ProgramFacts } from '../contract/verifier.js';

/** What is known of one program's insns; slots are those of its ProgramSpec. */
export interface ProgramCoverage {
  readonly program: ProgramSpec;
  readonly counts: InsnCounts;
  /** Slots that no path reaches, whatever maps it was loaded with; empty when it never was, or the verifier does not say. */
  readonly unreachable: ReadonlySet<number>;
}

/**
 * Adds up how often the insns of an object's programs run, over all loads of them. Programs that are never loaded are in
 * it with zeros, as compilers' coverage has functions that are never called.
 */
export class CoverageCollector implements CoverageSink {
  readonly #programs: ReadonlyMap<string, { counts: InsnCounts; unreachable: Set<number> | undefined }>;

  /**
   * @param programs of one object; those that cannot be linked are left out
   * @param operands keep what jumps compared last, too
   */
  constructor(
    readonly programs: readonly ProgramSpec[],
    { operands = false } = {},
  ) {
    const linkable = programs.filter(({ unsupported }) => unsupported === undefined);
    this.#programs = new Map(
      linkable.map(({ name, insns }) => [
        name,
        {
          counts: {
            executed: new Float64Array(insns.length),
            taken: new Float64Array(insns.length),
            ...(operands ? { operands: new Int32Array(4 * insns.length) } : {}),
          },
          unreachable: undefined,
        },
      ]),
    );
  }

  /** Throws RangeError for a program that is not one of the object's. */
  countsFor(program: Program, facts: ProgramFacts | undefined): InsnCounts {
    const entry = this.#programs.get(program.name);
    if (entry?.counts.executed.length !== program.insns.length) {
      throw new RangeError(`program ${program.name} is none of those whose coverage is collected`);
    }
    const unreachable = facts?.unreachable ?? new Set();
    entry.unreachable =
      entry.unreachable === undefined
        ? new Set(unreachable)
        : new Set([...entry.unreachable].filter((slot) => unreachable.has(slot)));
    return entry.counts;
  }

  /** In the order of the object. */
  get coverage(): readonly ProgramCoverage[] {
    return this.programs.flatMap((program) => {
      const entry = this.#programs.get(program.name);
      if (entry === undefined) return [];
      return [{ program, counts: entry.counts, unreachable: entry.unreachable ?? new Set<number>() }];
    });
  }
}

/** Slots of a program that are insns: not the second ones of an `lddw`. */
export function* insnSlots({ insns }: ProgramSpec): Generator<number> {
  for (let slot = 0; slot < insns.length; slot++) {
    yield slot;
    if (isLddw(insns[slot])) slot++;
  }
}
