import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_EXIT,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
  BPF_PSEUDO_CALL,
  BPF_PSEUDO_FUNC,
  OP_CALL,
  OP_LDDW,
} from '../../src/bpf/opcodes.js';
import { XdpbedError } from '../../src/core/diagnostic.js';

/** A run of insns that is entered only at its first and left only after its last. */
export interface BasicBlock {
  /** Slot of the first insn. */
  readonly start: number;
  /** One past the last slot. */
  readonly end: number;
  /**
   * None after EXIT; one after a jump or where the next block begins; two after a conditional jump, the taken
   * one first. Indices into the function's blocks.
   */
  readonly successors: readonly number[];
}

/** One function of a program: the main program, a local function, or a callback. Block 0 is its entry. */
export interface BpfFunction {
  /** Slot of the first insn: the function's name within its program. */
  readonly start: number;
  readonly blocks: readonly BasicBlock[];
  /** Start slots of the functions that it calls, without repetition. */
  readonly calls: readonly number[];
  /** Start slots of the functions whose address it takes (BPF_PSEUDO_FUNC). */
  readonly callbacks: readonly number[];
}

/**
 * Splits a program into its functions and their basic blocks; insns that nothing reaches are left out. The
 * first function is the main program. Throws `executor-unsupported` where control leaves the program.
 */
export function functionsOf(insns: readonly Insn[]): BpfFunction[] {
  const functions: BpfFunction[] = [];
  const pending = [0];
  const known = new Set(pending);
  for (let start = pending.pop(); start !== undefined; start = pending.pop()) {
    const found = functionAt(insns, start);
    functions.push(found);
    for (const target of [...found.calls, ...found.callbacks]) {
      if (known.has(target)) continue;
      known.add(target);
      pending.push(target);
    }
  }
  return functions;
}

/** Slot that a local call at `slot` enters. */
export function callTarget(insns: readonly Insn[], slot: number): number {
  return slot + 1 + insns[slot]!.imm;
}

/** The slots control can go to after the insn at `slot`; the taken branch first. */
function nextSlots(insns: readonly Insn[], slot: number): readonly number[] {
  const insn = insns[slot]!;
  if (insn.opcode === OP_LDDW) return [slot + 2];
  const klass = insn.opcode & BPF_CLASS_MASK;
  if (klass !== BPF_JMP && klass !== BPF_JMP32) return [slot + 1];
  const operation = insn.opcode & BPF_OP_MASK;
  if (operation === BPF_CALL) return [slot + 1];
  if (operation === BPF_EXIT) return [];
  if (operation === BPF_JA) return [slot + 1 + (klass === BPF_JMP32 ? insn.imm : insn.off)];
  const taken = slot + 1 + insn.off;
  return taken === slot + 1 ? [taken] : [taken, slot + 1];
}

function functionAt(insns: readonly Insn[], start: number): BpfFunction {
  const leaders = new Set([start]);
  const reached = new Set<number>();
  const calls = new Set<number>();
  const callbacks = new Set<number>();
  const pending = [start];
  for (let slot = pending.pop(); slot !== undefined; slot = pending.pop()) {
    // Straight-line code is followed in place, so that `pending` holds branch targets only.
    for (;;) {
      if (reached.has(slot)) {
        break;
      }
      const insn = insns[slot];
      if (insn === undefined) {
        throw new XdpbedError('executor-unsupported', `control leaves the program at insn ${slot}`, {
          at: { insn: Math.max(0, Math.min(slot, insns.length - 1)) },
        });
      }
      reached.add(slot);
      if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_CALL) calls.add(callTarget(insns, slot));
      if (insn.opcode === OP_LDDW && insn.src === BPF_PSEUDO_FUNC) callbacks.add(slot + 1 + insn.imm);
      const next = nextSlots(insns, slot);
      if (isJump(insn)) {
        for (const target of next) {
          leaders.add(target);
          pending.push(target);
        }
        break;
      }
      slot = next[0]!;
    }
  }

  // Blocks in the order of their code; the entry, which may lie behind others, goes first.
  const starts = [...leaders].sort((a, b) => (a === start ? -1 : b === start ? 1 : a - b));
  const indexOf = new Map(starts.map((slot, index) => [slot, index]));
  const blocks = starts.map((first): BasicBlock => {
    let slot = first;
    for (;;) {
      const next = nextSlots(insns, slot);
      const end = slot + (insns[slot]!.opcode === OP_LDDW ? 2 : 1);
      if (next.length !== 1 || isJump(insns[slot]!) || leaders.has(next[0]!)) {
        return { start: first, end, successors: next.map((target) => indexOf.get(target)!) };
      }
      slot = next[0]!;
    }
  });
  return { start, blocks, calls: [...calls], callbacks: [...callbacks] };
}

function isJump(insn: Insn): boolean {
  const klass = insn.opcode & BPF_CLASS_MASK;
  return (klass === BPF_JMP || klass === BPF_JMP32) && (insn.opcode & BPF_OP_MASK) !== BPF_CALL;
}
