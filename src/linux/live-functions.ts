import { assemble } from '../bpf/assembler.js';
import { isLddw, type Insn } from '../bpf/insn.js';
import { BPF_PSEUDO_FUNC, BPF_PSEUDO_KFUNC_CALL, OP_CALL, OP_EXIT } from '../bpf/opcodes.js';
import type { Program } from '../bpf/program.js';
import {
  callFunction,
  ProgramEditor,
  type EditedProgram,
  type Label,
  type Piece,
} from '../bpf/rewrite/program-editor.js';
import { insnsBySlot, mainFunctionEnd } from './hook-programs/main-function.js';

/** A program that may be given to the kernel, or why there is none. */
export type LiveFunctions =
  | {
      readonly ok: true;
      readonly program: Program;
      /** The kernel's log by the slots of the program that was given; undefined if they are the same. */
      readonly translateLog?: ((log: string) => string) | undefined;
    }
  | { readonly ok: false; readonly reason: string };

/**
 * Keeps the kernel from a bug of its own: "verifier bug: No program to jit" (6.18, jit_subprogs in kernel/bpf/verifier.c).
 *
 * The kernel removes code that no path reaches, by its own lights: it may know a branch to go one way where no other
 * verifier does, all the more in a program whose context fields have become constants. If all paths that would call a
 * function lie there, it goes as well, though an `lddw` that takes its address may stay. That is then made to name
 * what comes behind the function, if the function was removed by itself; if it was the last one, or was removed together with dead
 * code in front of it, it names nothing, or the middle of something.
 *
 * So in front of each function whose address is taken, and behind all, there is put one that does nothing and is called
 * wherever the main function ends. At an `exit`, R6 to R9 are free. A program that takes no addresses stays as it is.
 */
export function withLiveFunctions(program: Program): LiveFunctions {
  const { insns } = program;
  const targets = new Set<number>();
  let callsKernel = false;
  for (const [slot, insn] of insnsBySlot(insns)) {
    if (isLddw(insn) && insn.src === BPF_PSEUDO_FUNC) targets.add(slot + 1 + insn.imm);
    if (insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_KFUNC_CALL) callsKernel = true;
  }
  if (targets.size === 0) return { ok: true, program };
  // The main function is always there.
  targets.delete(0);
  if (callsKernel) {
    return {
      ok: false,
      reason:
        'the program takes addresses of functions and calls functions of the kernel, of which one may end it',
    };
  }
  const end = mainFunctionEnd(program);
  const exits: number[] = [];
  for (const [slot, { opcode }] of insnsBySlot(insns)) if (slot < end && opcode === OP_EXIT) exits.push(slot);
  if (exits.length === 0) {
    return {
      ok: false,
      reason: 'the program takes addresses of functions, and its main function has no exit',
    };
  }

  const editor = new ProgramEditor(program);
  const guards: Label[] = [];
  for (const target of targets) guards.push(editor.insertFunction('live', { insns: NOTHING }, target));
  const all = editor.appendFunction('live', callsOf(guards, NOTHING));
  for (const exit of exits) editor.insertBefore(exit, keepingVerdict(all));
  const edited = editor.finish();
  return {
    ok: true,
    program: edited.program,
    translateLog: translatorOf(insns, edited),
  };
}

const NOTHING = assemble('r0 = 0\nexit');

function callsOf(functions: readonly Label[], behind: readonly Insn[]): Piece {
  return {
    insns: [...functions.map(callFunction), ...behind],
    targets: new Map(functions.map((label, index) => [index, label])),
  };
}

function keepingVerdict(called: Label): Piece {
  return {
    insns: [...assemble('r6 = r0'), callFunction(), ...assemble('r0 = r6')],
    targets: new Map([[1, called]]),
  };
}

/** Inserted insns go by the number of the one that they stand in front of. */
function translatorOf(insns: readonly Insn[], edited: EditedProgram): (log: string) => string {
  const old = new Array<number>(edited.program.insns.length);
  let from = 0;
  for (const [slot, insn] of insnsBySlot(insns)) {
    const now = edited.slotOf(slot)!;
    old.fill(slot, from, now + 1);
    from = now + 1;
    if (!isLddw(insn)) continue;
    old[from] = slot + 1;
    from++;
  }
  old.fill(insns.length - 1, from);
  const translate = (number: string): string => String(old[Number(number)] ?? number);
  return (log) => log.replaceAll(SLOTS, translate);
}

/** `12: (85) …`, `from 3 to 12: …`, `12: R0=…`, `… insn 12 …`, `from insn 3 to 12`. */
const SLOTS = /^\d+(?=: )|(?<=^from )\d+|(?<=^from \d+ to )\d+|(?<=\binsn )\d+|(?<=\bfrom insn \d+ to )\d+/gm;
