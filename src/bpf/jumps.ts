import type { Insn } from './insn.js';
import * as op from './opcodes.js';

/** Whether an insn goes on in one of two places: a jump of class JMP or JMP32 that compares. */
export function isConditionalJump({ opcode }: Insn): boolean {
  const kind = opcode & op.BPF_CLASS_MASK;
  if (kind !== op.BPF_JMP && kind !== op.BPF_JMP32) return false;
  const operation = opcode & op.BPF_OP_MASK;
  return operation !== op.BPF_JA && operation !== op.BPF_CALL && operation !== op.BPF_EXIT;
}

/** `goto` or `gotol`. */
export function isUnconditionalJump({ opcode }: Insn): boolean {
  return opcode === (op.BPF_JMP | op.BPF_JA) || opcode === (op.BPF_JMP32 | op.BPF_JA);
}

/** Slot that the jump in `slot` leads to when it is taken; `gotol` has its distance in imm (RFC 9669 section 4.3). */
export function jumpTarget(slot: number, { opcode, off, imm }: Insn): number {
  const isLong = opcode === (op.BPF_JMP32 | op.BPF_JA);
  return slot + 1 + (isLong ? imm : off);
}
