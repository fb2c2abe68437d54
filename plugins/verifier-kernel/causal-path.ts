import type { LineInfo } from '../../src/bpf/btf/btf-ext.js';
import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_ATOMIC,
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_CMPXCHG,
  BPF_EXIT,
  BPF_FETCH,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_LD,
  BPF_LDX,
  BPF_MODE_MASK,
  BPF_MOV,
  BPF_OP_MASK,
  BPF_PSEUDO_CALL,
  BPF_SRC_MASK,
  BPF_ST,
  BPF_STX,
  BPF_X,
  FRAME_POINTER,
  OP_CALL,
} from '../../src/bpf/opcodes.js';
import type { PathStep } from '../../src/core/contract/verifier.js';
import type { LogStep } from './kernel-log.js';

/** Steps that an explanation holds at most: the nearest to the failure. */
const MAX_STEPS = 24;
/** Branches that are told although they do not test what failed: the last ones taken. */
const MAX_OTHER_BRANCHES = 4;

export interface PathDescription {
  readonly insns: readonly Insn[];
  readonly format: (insn: number) => string;
  readonly lineOf: (insn: number) => LineInfo | undefined;
}

/**
 * How the registers at fault came to hold what they do: the path from its end backwards, keeping the insns that made
 * the values (through copies, arithmetic, the stack, arguments and results of local calls), the branches that test
 * them, and the last few other branches. `registers` are those of the last step, which itself is left out;
 * `acquired` is where something was acquired that is not given back. Of an insn that the path passes several times
 * the last time is told.
 */
export function causalPath(
  path: readonly LogStep[],
  registers: readonly number[],
  acquired: number | undefined,
  { insns, format, lineOf }: PathDescription,
): PathStep[] {
  const last = path.at(-1);
  if (last === undefined) return [];
  const wanted = new Set(registers.map((register) => place(last.frame, register)));
  const steps: PathStep[] = [];
  const rounds = new Map<string, number>();
  for (const step of path) rounds.set(placeOf(step), (rounds.get(placeOf(step)) ?? 0) + 1);
  const told = new Set<string>();
  let otherBranches = 0;
  for (let at = path.length - 2; at >= 0 && steps.length < MAX_STEPS; at--) {
    const step = path[at]!;
    const insn = insns[step.insn];
    if (insn === undefined) continue;
    const known = told.has(placeOf(step));
    const relevant = isBranch(insn)
      ? sources(insn).some((register) => wanted.has(place(step.frame, register))) ||
        (!known && otherBranches++ < MAX_OTHER_BRANCHES)
      : traceBack(insn, step.frame, wanted, path[at + 1]!) || step.insn === acquired;
    if (!relevant || known) continue;
    told.add(placeOf(step));
    const count = rounds.get(placeOf(step))!;
    const repeated = count > 1 ? ` (the last of ${count} times in the log)` : '';
    const taken = isBranch(insn)
      ? path[at + 1]!.insn === step.insn + 1
        ? ': not taken'
        : `: taken, to ${path[at + 1]!.insn}`
      : '';
    const values = [...step.changes].map(([name, value]) => `${name}=${value}`).join(' ');
    const text = `${format(step.insn)}${taken}${repeated}${values === '' ? '' : ` ; ${values}`}`;
    const line = lineOf(step.insn);
    steps.push({ insn: step.insn, text, ...(line === undefined ? {} : { line }) });
  }
  return steps.reverse();
}

/** Registers that an insn reads as far as they can be at fault for its rejection: of a store, where to. */
export function operands(insn: Insn): number[] {
  const isStore = (insn.opcode & BPF_CLASS_MASK) === BPF_STX;
  const read = isStore ? [insn.dst] : sources(insn);
  // R10 is the same everywhere.
  return read.filter((register, index) => register !== FRAME_POINTER && read.indexOf(register) === index);
}

function placeOf({ frame, insn }: LogStep): string {
  return `${frame}:${insn}`;
}

function place(frame: number, register: number): string {
  return `${frame}:R${register}`;
}

function stackPlace(frame: number, offset: number): string {
  return `${frame}:fp${Math.floor(offset / 8) * 8}`;
}

/**
 * Whether the insn made one of the wanted values; if so, what it made them of is wanted in its place.
 */
function traceBack(insn: Insn, frame: number, wanted: Set<string>, next: LogStep): boolean {
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  const replace = (made: string, by: readonly string[]): boolean => {
    if (!wanted.delete(made)) return false;
    for (const source of by) wanted.add(source);
    return true;
  };
  switch (insnClass) {
    case BPF_LD:
      return replace(place(frame, insn.dst), []);
    case BPF_ALU:
    case BPF_ALU64:
      return replace(
        place(frame, insn.dst),
        sources(insn).map((register) => place(frame, register)),
      );
    case BPF_LDX:
      return replace(
        place(frame, insn.dst),
        insn.src === FRAME_POINTER ? [stackPlace(frame, insn.off)] : [place(frame, insn.src)],
      );
    case BPF_ST:
      return insn.dst === FRAME_POINTER && replace(stackPlace(frame, insn.off), []);
    case BPF_STX: {
      const isAtomic = (insn.opcode & BPF_MODE_MASK) === BPF_ATOMIC;
      if (isAtomic && (insn.imm & BPF_FETCH) !== 0) {
        return replace(place(frame, insn.imm === BPF_CMPXCHG ? 0 : insn.src), [place(frame, insn.dst)]);
      }
      return insn.dst === FRAME_POINTER && replace(stackPlace(frame, insn.off), [place(frame, insn.src)]);
    }
    case BPF_JMP:
      return traceBackCall(insn, frame, wanted, next, replace);
    default:
      return false;
  }
}

function traceBackCall(
  insn: Insn,
  frame: number,
  wanted: Set<string>,
  next: LogStep,
  replace: (made: string, by: readonly string[]) => boolean,
): boolean {
  if ((insn.opcode & BPF_OP_MASK) === BPF_EXIT) {
    if (frame === 0) return false;
    // Back in a caller: its R0 is this function's, and R1 to R5 are lost.
    const lost = ARGUMENTS.filter((register) => replace(place(frame - 1, register), []));
    return replace(place(frame - 1, 0), [place(frame, 0)]) || lost.length > 0;
  }
  if (insn.opcode !== OP_CALL) return false;
  if (insn.src === BPF_PSEUDO_CALL && next.frame === frame + 1) {
    const passed = ARGUMENTS.filter((register) =>
      replace(place(frame + 1, register), [place(frame, register)]),
    );
    return passed.length > 0;
  }
  // R1 to R5 end here; R0 begins.
  const lost = ARGUMENTS.filter((register) => replace(place(frame, register), []));
  const movesPacket = PACKET_MOVERS.has(insn.imm) && wanted.size > 0;
  return replace(place(frame, 0), [place(frame, 1)]) || lost.length > 0 || movesPacket;
}

const ARGUMENTS = [1, 2, 3, 4, 5];

/** bpf_xdp_adjust_head, adjust_meta, adjust_tail: pointers into the packet end there. */
export const PACKET_MOVERS: ReadonlySet<number> = new Set([44, 54, 65]);

function isBranch(insn: Insn): boolean {
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  if (insnClass !== BPF_JMP && insnClass !== BPF_JMP32) return false;
  const operation = insn.opcode & BPF_OP_MASK;
  return operation !== BPF_JA && operation !== BPF_CALL && operation !== BPF_EXIT;
}

function sources(insn: Insn): number[] {
  const fromRegister = (insn.opcode & BPF_SRC_MASK) === BPF_X;
  switch (insn.opcode & BPF_CLASS_MASK) {
    case BPF_LDX:
      return [insn.src];
    case BPF_ST:
      return [insn.dst];
    case BPF_STX:
      return [insn.dst, insn.src];
    case BPF_ALU:
    case BPF_ALU64:
      if ((insn.opcode & BPF_OP_MASK) === BPF_MOV) return fromRegister ? [insn.src] : [];
      return fromRegister ? [insn.dst, insn.src] : [insn.dst];
    case BPF_JMP:
    case BPF_JMP32:
      return isBranch(insn) ? (fromRegister ? [insn.dst, insn.src] : [insn.dst]) : [];
    default:
      return [];
  }
}
