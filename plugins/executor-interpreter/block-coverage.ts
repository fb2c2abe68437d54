import type { InsnCounts } from '../../src/core/contract/insn-coverage.js';
import { isConditionalJump, jumpTarget } from '../../src/bpf/jumps.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import {
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_EXIT,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
} from '../../src/bpf/opcodes.js';

/** What the program under way has in its registers: see DecodedProgram. */
interface CoveredRegisters {
  readonly registers: Int32Array;
  operandsOf(slot: number): readonly [dst: number, src: number];
}

/**
 * Counts the blocks of a program as they are entered. A block is entered at its first insn and left behind its last,
 * and ends at whatever may lead elsewhere: jumps, EXIT and calls of every kind. The program pauses at the first insn of each;
 * a jump back is a block of its own, so that a loop is seen each time round. (Of an insn that jumps to itself only the
 * first round counts; no verifier that follows loops accepts it.)
 */
export class BlockCoverage {
  /** One past the last slot of the block that begins in a slot; 0 where none does. */
  readonly #ends: Int32Array;
  /** Slot that the conditional jump at a block's end leads to, by the jump's slot; -1 elsewhere. */
  readonly #targets: Int32Array;

  constructor(
    insns: readonly Insn[],
    readonly counts: InsnCounts,
  ) {
    const slots = insns.length;
    const starts = new Uint8Array(slots + 1);
    this.#targets = new Int32Array(slots).fill(-1);
    starts[0] = 1;
    const begin = (slot: number): void => {
      if (slot >= 0 && slot < slots) starts[slot] = 1;
    };
    for (let slot = 0; slot < slots; slot++) {
      const insn = insns[slot]!;
      if (isLddw(insn)) {
        if (insn.src === BPF_PSEUDO_FUNC) begin(slot + 1 + insn.imm);
        slot++;
        continue;
      }
      const kind = insn.opcode & BPF_CLASS_MASK;
      if (kind !== BPF_JMP && kind !== BPF_JMP32) continue;
      begin(slot + 1);
      const operation = insn.opcode & BPF_OP_MASK;
      if (operation === BPF_EXIT) continue;
      if (operation === BPF_CALL) {
        if (insn.src === BPF_PSEUDO_CALL) begin(slot + 1 + insn.imm);
        continue;
      }
      const target = jumpTarget(slot, insn);
      begin(target);
      if (isConditionalJump(insn)) this.#targets[slot] = target;
      // Control may come back to the first insn of this block, and that has to be a pause again by then.
      if (target <= slot) begin(slot);
    }
    this.#ends = new Int32Array(slots);
    for (let slot = 0; slot < slots; slot++) {
      if (starts[slot] === 0) continue;
      const next = starts.indexOf(1, slot + 1);
      this.#ends[slot] = next < 0 ? slots : next;
    }
  }

  /** Whether a block begins in a slot. */
  isStart(slot: number): boolean {
    return (this.#ends[slot] ?? 0) !== 0;
  }

  /** Counts the block of `program` that begins in `slot`, to which control came from the one that began in `from`, if there is one. */
  enter(slot: number, from: number, program: CoveredRegisters): void {
    const { executed, taken, operands } = this.counts;
    const end = this.#ends[slot]!;
    for (let at = slot; at < end; at++) executed[at]!++;
    if (from < 0) return;
    const last = this.#ends[from]! - 1;
    if (this.#targets[last]! < 0) return;
    if (this.#targets[last] === slot && slot !== last + 1) taken[last]!++;
    if (operands === undefined) return;
    // A jump changes no register, and nothing has run behind it.
    const { registers } = program;
    const [dst, src] = program.operandsOf(last);
    operands[4 * last] = registers[dst]!;
    operands[4 * last + 1] = registers[dst + 1]!;
    operands[4 * last + 2] = registers[src]!;
    operands[4 * last + 3] = registers[src + 1]!;
  }

  /** The block that began in `slot` ended in a fault at the insn in slot `fault`, if that is one of its own. */
  cutOff(slot: number, fault: number): void {
    const end = this.#ends[slot]!;
    if (fault < slot || fault >= end) return;
    for (let at = fault + 1; at < end; at++) this.counts.executed[at]!--;
  }
}
