import { isFunctionReference } from '../../bpf/function-starts.js';
import { isLddw, type Insn } from '../../bpf/insn.js';
import {
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_EXIT,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
} from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import type { Piece, ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { insnsBySlot } from './main-function.js';

/**
 * Takes away the insns that no path reaches as the verifier found; what leads to one of them leads to `dead(slot)` instead.
 * Nothing is known of such insns, and another verifier, which knows less, may want to look at them.
 */
export function dropUnreachable(
  editor: ProgramEditor,
  program: Program,
  unreachable: ReadonlySet<number>,
  dead: (slot: number) => Piece,
): void {
  if (unreachable.size === 0) return;
  const entries = new Set<number>();
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    if (unreachable.has(slot)) continue;
    for (const next of successors(insn, slot)) if (unreachable.has(next)) entries.add(next);
  }
  for (const [slot] of insnsBySlot(program.insns)) {
    if (unreachable.has(slot)) editor.replace(slot, entries.has(slot) ? dead(slot) : { insns: [] });
  }
}

/** Slots that may come after an insn, functions that it names included. */
function successors(insn: Insn, slot: number): number[] {
  const next = slot + (isLddw(insn) ? 2 : 1);
  if (isFunctionReference(insn)) return [next, slot + 1 + insn.imm];
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  if (insnClass !== BPF_JMP && insnClass !== BPF_JMP32) return [next];
  switch (insn.opcode & BPF_OP_MASK) {
    case BPF_CALL:
      return [next];
    case BPF_EXIT:
      return [];
    case BPF_JA:
      return [slot + 1 + (insnClass === BPF_JMP32 ? insn.imm : insn.off)];
    default:
      return [next, slot + 1 + insn.off];
  }
}
