import { isLddw, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';

export interface Replaced {
  readonly insns: Insn[];
  /** By old slot, the end of the program included: where what stands for it begins. */
  readonly places: readonly number[];
}

/**
 * Puts rows of insns in the place of single ones, by slot; jumps and calls of all others lead where they led. In a row, jumps
 * count from where they stand, but where the insn it replaces jumps, the last leads where that one did.
 */
export function replaceInsns(insns: readonly Insn[], rows: ReadonlyMap<number, readonly Insn[]>): Replaced {
  const places: number[] = [];
  let length = 0;
  for (let slot = 0; slot <= insns.length; slot++) {
    places.push(length);
    length += rows.get(slot)?.length ?? 1;
  }
  const replaced = insns.flatMap((insn, slot) => {
    const field = fieldOfTarget(insn);
    const row = rows.get(slot) ?? [insn];
    if (field === undefined) return row;
    const from = places[slot]! + row.length;
    const last = { ...row.at(-1)!, [field]: places[slot + 1 + insn[field]]! - from };
    return [...row.slice(0, -1), last];
  });
  return { insns: replaced, places };
}

/** Where an insn keeps how far it leads. */
function fieldOfTarget(insn: Insn): 'off' | 'imm' | undefined {
  const { opcode, src } = insn;
  if (isLddw(insn)) return src === op.BPF_PSEUDO_FUNC ? 'imm' : undefined;
  if (opcode === op.OP_CALL) return src === op.BPF_PSEUDO_CALL ? 'imm' : undefined;
  if (isUnconditional(insn)) return (opcode & op.BPF_CLASS_MASK) === op.BPF_JMP32 ? 'imm' : 'off';
  return isConditional(insn) ? 'off' : undefined;
}

export function isUnconditional({ opcode }: Insn): boolean {
  return opcode === (op.BPF_JMP | op.BPF_JA) || opcode === (op.BPF_JMP32 | op.BPF_JA);
}

export function isConditional({ opcode }: Insn): boolean {
  const insnClass = opcode & op.BPF_CLASS_MASK;
  if (insnClass !== op.BPF_JMP && insnClass !== op.BPF_JMP32) return false;
  const code = opcode & op.BPF_OP_MASK;
  return code !== op.BPF_JA && code !== op.BPF_CALL && code !== op.BPF_EXIT;
}
