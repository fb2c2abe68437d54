import type { Insn } from '../../bpf/insn.js';
import { isConditionalJump } from '../../bpf/jumps.js';
import { BPF_CLASS_MASK, BPF_JMP32 } from '../../bpf/opcodes.js';
import type { InsnCounts } from '../contract/insn-coverage.js';
import type { CoverageCollector } from '../coverage/coverage-collector.js';

/** What a conditional jump compared last; unsigned, of the width that it compares. */
export interface JumpOperands {
  readonly left: bigint;
  readonly right: bigint;
}

interface Seen {
  readonly insns: readonly Insn[];
  readonly counts: InsnCounts;
  readonly executed: Uint8Array;
  readonly taken: Uint8Array;
  readonly passed: Uint8Array;
}

/**
 * Tells whether runs of programs reached what none before had: an insn, or a way of a conditional jump. What guides a
 * search through packets.
 */
export class CoverageFrontier {
  readonly #programs: readonly Seen[];

  constructor(collectors: readonly CoverageCollector[]) {
    this.#programs = collectors.flatMap(({ coverage }) =>
      coverage.map(({ counts, program: { insns } }) => ({
        counts,
        insns,
        executed: new Uint8Array(insns.length),
        taken: new Uint8Array(insns.length),
        passed: new Uint8Array(insns.length),
      })),
    );
  }

  /** Since the last call. */
  hasAdvanced(): boolean {
    let advanced = false;
    for (const { counts, executed, taken, passed } of this.#programs) {
      for (let slot = 0; slot < executed.length; slot++) {
        const runs = counts.executed[slot]!;
        if (runs === 0) continue;
        const jumps = counts.taken[slot]!;
        const isOld =
          executed[slot] === 1 &&
          (jumps === 0 || taken[slot] === 1) &&
          (jumps === runs || passed[slot] === 1);
        if (isOld) continue;
        advanced = true;
        executed[slot] = 1;
        if (jumps > 0) taken[slot] = 1;
        if (jumps < runs) passed[slot] = 1;
      }
    }
    return advanced;
  }

  /** Of the jumps that have gone one way only so far, in what ran last. */
  comparisons(): JumpOperands[] {
    return this.#programs.flatMap(({ insns, counts: { operands }, executed, taken, passed }) => {
      if (operands === undefined) return [];
      const found: JumpOperands[] = [];
      insns.forEach((insn, slot) => {
        if (executed[slot] === 0 || taken[slot] === passed[slot] || !isConditionalJump(insn)) return;
        const isNarrow = (insn.opcode & BPF_CLASS_MASK) === BPF_JMP32;
        const at = (word: number): bigint => BigInt(operands[4 * slot + word]! >>> 0);
        const value = (word: number): bigint => at(word) | (isNarrow ? 0n : at(word + 1) << 32n);
        found.push({ left: value(0), right: value(2) });
      });
      return found;
    });
  }
}
