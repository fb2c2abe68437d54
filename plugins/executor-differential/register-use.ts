import { isLddw, type Insn } from '../../src/bpf/insn.js';
import { XDP_HELPER_PROTOTYPES } from '../../src/bpf/helper-prototypes.js';
import * as op from '../../src/bpf/opcodes.js';

/** Sets of registers as bits. */
export interface RegisterUse {
  readonly reads: number;
  readonly writes: number;
  /** Does nothing but write its registers, so that it may go when they are not read. */
  readonly pure: boolean;
}

const ARGUMENTS = [1, 2, 3, 4, 5];
const CALL_CLOBBERS = bits([0, ...ARGUMENTS]);
const FETCHES_INTO_R0 = op.BPF_CMPXCHG;

/** What an insn does to registers. The second slot of an `lddw` does nothing. */
export function registerUse(insn: Insn): RegisterUse {
  const { opcode, dst, src, imm } = insn;
  const fromRegister = (opcode & op.BPF_SRC_MASK) === op.BPF_X;
  const code = opcode & op.BPF_OP_MASK;
  switch (opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
    case op.BPF_ALU64: {
      const readsSource = fromRegister && code !== op.BPF_END && code !== op.BPF_NEG;
      const reads = (readsSource ? 1 << src : 0) | (code === op.BPF_MOV ? 0 : 1 << dst);
      return { reads, writes: 1 << dst, pure: true };
    }
    case op.BPF_JMP:
    case op.BPF_JMP32:
      if (opcode === op.OP_EXIT) return { reads: 1, writes: 0, pure: false };
      if (opcode === op.OP_CALL) {
        const count = src === op.BPF_CALL_HELPER ? (XDP_HELPER_PROTOTYPES.get(imm)?.args.length ?? 5) : 5;
        return { reads: bits(ARGUMENTS.slice(0, count)), writes: CALL_CLOBBERS, pure: false };
      }
      if (code === op.BPF_JA) return { reads: 0, writes: 0, pure: false };
      return { reads: (1 << dst) | (fromRegister ? 1 << src : 0), writes: 0, pure: false };
    case op.BPF_LD:
      return isLddw(insn) ? { reads: 0, writes: 1 << dst, pure: true } : { reads: 0, writes: 0, pure: false };
    case op.BPF_LDX:
      return { reads: 1 << src, writes: 1 << dst, pure: true };
    case op.BPF_ST:
      return { reads: 1 << dst, writes: 0, pure: false };
    default: {
      const atomic = (opcode & op.BPF_MODE_MASK) === op.BPF_ATOMIC;
      const exchange = atomic && imm === FETCHES_INTO_R0;
      const fetch = atomic && !exchange && (imm & op.BPF_FETCH) !== 0;
      return {
        reads: (1 << dst) | (1 << src) | (exchange ? 1 : 0),
        writes: exchange ? 1 : fetch ? 1 << src : 0,
        pure: false,
      };
    }
  }
}

/** The slots that control may reach after the insn at `slot`, within its function. */
export function successors(insns: readonly Insn[], slot: number): number[] {
  const insn = insns[slot]!;
  if (insn.opcode === op.OP_EXIT) return [];
  const next = slot + (isLddw(insn) ? 2 : 1);
  const target = jumpTarget(insn, slot);
  if (target === undefined) return [next];
  const unconditional = (insn.opcode & op.BPF_OP_MASK) === op.BPF_JA;
  return unconditional ? [target] : [next, target];
}

/** Where the jump at `slot` leads; undefined for what is no jump. */
export function jumpTarget(insn: Insn, slot: number): number | undefined {
  const insnClass = insn.opcode & op.BPF_CLASS_MASK;
  const code = insn.opcode & op.BPF_OP_MASK;
  if (insnClass !== op.BPF_JMP && insnClass !== op.BPF_JMP32) return undefined;
  if (insn.opcode === op.OP_CALL || insn.opcode === op.OP_EXIT) return undefined;
  return slot + 1 + (insnClass === op.BPF_JMP32 && code === op.BPF_JA ? insn.imm : insn.off);
}

/** The slot of the function that a local call or an `lddw` of a function names. */
export function functionTarget(insn: Insn, slot: number): number | undefined {
  const names =
    (insn.opcode === op.OP_CALL && insn.src === op.BPF_PSEUDO_CALL) ||
    (isLddw(insn) && insn.src === op.BPF_PSEUDO_FUNC);
  return names ? slot + 1 + insn.imm : undefined;
}

/** Slots that can be reached from the start, functions that are called included. */
export function reachableSlots(insns: readonly Insn[]): Set<number> {
  const reached = new Set<number>();
  const pending = [0];
  while (pending.length > 0) {
    const slot = pending.pop()!;
    const insn = insns[slot];
    if (insn === undefined || reached.has(slot)) continue;
    reached.add(slot);
    if (isLddw(insn)) reached.add(slot + 1);
    pending.push(...successors(insns, slot));
    const called = functionTarget(insn, slot);
    if (called !== undefined) pending.push(called);
  }
  return reached;
}

/** The registers whose values are read after each slot. */
export function liveAfter(insns: readonly Insn[]): Int32Array {
  const before = new Int32Array(insns.length + 1);
  const after = new Int32Array(insns.length);
  for (let changed = true; changed;) {
    changed = false;
    for (let slot = insns.length - 1; slot >= 0; slot--) {
      let live = 0;
      for (const next of successors(insns, slot)) live |= before[next] ?? 0;
      const { reads, writes } = registerUse(insns[slot]!);
      after[slot] = live;
      const needed = (live & ~writes) | reads;
      if (needed !== before[slot]) {
        before[slot] = needed;
        changed = true;
      }
    }
  }
  return after;
}

function bits(registers: readonly number[]): number {
  return registers.reduce((set, register) => set | (1 << register), 0);
}
