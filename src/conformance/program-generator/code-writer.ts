import type { Insn } from '../../bpf/insn.js';
import * as op from '../../bpf/opcodes.js';
import type { MachineState } from './machine-state.js';

/** A place in a function that jumps may lead to before it is known. */
export class Label {
  readonly jumps: number[] = [];
  /** What holds on all the jumps that lead here. */
  state: MachineState | undefined;
}

/** A call or a pointer to another function: `slot` holds the insn. */
export interface FunctionReference {
  readonly slot: number;
  readonly callee: number;
}

/** Collects one function's insns. */
export class CodeWriter {
  readonly insns: Insn[] = [];
  readonly references: FunctionReference[] = [];

  get length(): number {
    return this.insns.length;
  }

  emit(opcode: number, dst = 0, src = 0, off = 0, imm = 0): void {
    this.insns.push({ opcode, dst, src, off, imm: imm | 0 });
  }

  /** `lddw`: both slots. */
  wide(dst: number, src: number, low: number, high: number): void {
    this.emit(op.OP_LDDW, dst, src, 0, low);
    this.emit(0, 0, 0, 0, high);
  }

  /** A jump whose offset is filled in when the label is placed. */
  jump(label: Label, opcode: number, dst = 0, src = 0, imm = 0): void {
    label.jumps.push(this.length);
    this.emit(opcode, dst, src, 0, imm);
  }

  place(label: Label): void {
    for (const slot of label.jumps) this.#patch(slot, this.length - slot - 1);
  }

  jumpBack(target: number, opcode: number, dst = 0, src = 0, imm = 0): void {
    const slot = this.length;
    this.emit(opcode, dst, src, 0, imm);
    this.#patch(slot, target - slot - 1);
  }

  call(callee: number): void {
    this.references.push({ slot: this.length, callee });
    this.emit(op.OP_CALL, 0, op.BPF_PSEUDO_CALL);
  }

  /** dst := the address of a function, for a helper that calls it. */
  functionPointer(dst: number, callee: number): void {
    this.references.push({ slot: this.length, callee });
    this.wide(dst, op.BPF_PSEUDO_FUNC, 0, 0);
  }

  #patch(slot: number, distance: number): void {
    const insn = this.insns[slot]!;
    const isLong = insn.opcode === (op.BPF_JMP32 | op.BPF_JA);
    this.insns[slot] = isLong ? { ...insn, imm: distance } : { ...insn, off: distance };
  }
}

/** Puts functions behind one another, the first one first, and resolves the calls among them. */
export function linkFunctions(functions: readonly CodeWriter[]): Insn[] {
  const starts: number[] = [];
  let length = 0;
  for (const { insns } of functions) {
    starts.push(length);
    length += insns.length;
  }
  return functions.flatMap(({ insns, references }, index) => {
    const linked = [...insns];
    for (const { slot, callee } of references) {
      linked[slot] = { ...linked[slot]!, imm: starts[callee]! - (starts[index]! + slot) - 1 };
    }
    return linked;
  });
}
