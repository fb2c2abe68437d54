import { functionStarts } from '../../bpf/function-starts.js';
import { isLddw, type Insn } from '../../bpf/insn.js';
import {
  BPF_CALL_HELPER,
  BPF_PSEUDO_KFUNC_CALL,
  BPF_PSEUDO_MAP_FD,
  BPF_PSEUDO_MAP_VALUE,
  OP_CALL,
  OP_EXIT,
} from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import { jumpTo, type Label, type Piece, type ProgramEditor } from '../../bpf/rewrite/program-editor.js';
import { BPF_FUNC } from '../../bpf/helper-ids.js';
import { refuse, type RewritingRefusal } from './rewriting.js';

/** Slots of the main function: from 0 up to this one, where the first of the others begins. */
export function mainFunctionEnd(program: Program): number {
  return functionStarts(program.insns)[1] ?? program.insns.length;
}

/** Each insn with its slot; second slots of `lddw` are passed over. */
export function* insnsBySlot(insns: readonly Insn[]): Generator<readonly [number, Insn]> {
  for (let slot = 0; slot < insns.length; slot++) {
    yield [slot, insns[slot]!];
    if (isLddw(insns[slot])) slot++;
  }
}

/**
 * Why a map cannot be given to the code that is put into a program: the program names it itself, and could change what is
 * counted there, or what it goes on to.
 */
export function whyNotOurs(
  { insns }: Program,
  handles: readonly (number | undefined)[],
): RewritingRefusal | undefined {
  for (const [slot, insn] of insnsBySlot(insns)) {
    const namesMap = insn.src === BPF_PSEUDO_MAP_FD || insn.src === BPF_PSEUDO_MAP_VALUE;
    if (isLddw(insn) && namesMap && handles.includes(insn.imm)) {
      return refuse(`the program itself names map ${insn.imm}, which is to be the hook's`, slot);
    }
  }
  return undefined;
}

/** The helper that an insn calls. */
export function calledHelper(insn: Insn): number | undefined {
  return insn.opcode === OP_CALL && insn.src === BPF_CALL_HELPER ? insn.imm : undefined;
}

/**
 * Can a run end otherwise than by an `exit` of the main function? By a tail call there that succeeds, or by a kfunc such
 * as bpf_throw. A tail call in another function does not: what it calls returns to that function's caller.
 */
export function mayLeaveOtherwise(program: Program): boolean {
  const end = mainFunctionEnd(program);
  for (const [slot, insn] of insnsBySlot(program.insns)) {
    if (slot < end && calledHelper(insn) === BPF_FUNC.tail_call) return true;
    if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_KFUNC_CALL) return true;
  }
  return false;
}

/**
 * Puts code in the place of the main function's exits: it stands in that of the last one, and the others jump there. It
 * finds the verdict in R0, its lower 32 bits (a program with privileges may return a pointer), may use R1 to R9 and the
 * stack but for what is kept there, and has to end with `exit` itself. Exits that are `unreachable` are passed over.
 *
 * Returns where the code is; undefined if there is no exit: a main function may end in a loop that only a tail call leaves.
 */
export function replaceExits(
  editor: ProgramEditor,
  program: Program,
  code: Piece,
  unreachable: ReadonlySet<number> = NONE,
): Label | undefined {
  const exits: number[] = [];
  const end = mainFunctionEnd(program);
  for (const [slot, { opcode }] of insnsBySlot(program.insns)) {
    if (slot < end && opcode === OP_EXIT && !unreachable.has(slot)) exits.push(slot);
  }
  const last = exits.pop();
  if (last === undefined) return undefined;
  const label = editor.replace(last, code);
  for (const exit of exits) editor.replace(exit, jumpTo(label));
  return label;
}

const NONE: ReadonlySet<number> = new Set();
