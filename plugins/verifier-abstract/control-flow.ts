import { XDP_HELPER_PROTOTYPES } from '../../src/bpf/helper-prototypes.js';
import { checkInsn } from '../../src/bpf/insn-validity.js';
import { isLddw, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { type Finding, RejectSignal } from './reject-signal.js';

/** What is known of the program as a graph, before any value is looked at. */
export interface ControlFlow {
  /** Slots where functions start, the main program (0) first. */
  readonly functions: readonly number[];
  /** By slot: the start of its function. */
  readonly functionOf: Int32Array;
  /** By slot: whether paths meet here, so that states are worth comparing. */
  readonly prunePoints: Uint8Array;
  /** By slot: whether a jump leads here from further down. */
  readonly loopHeads: Uint8Array;
  /** By slot: bit n is set when Rn may be read before it is written from here on. */
  readonly liveRegisters: Uint16Array;
}

/** Whether `insn` is a jump with two ways to go on. */
export function isConditional(insn: Insn): boolean {
  const cls = insn.opcode & op.BPF_CLASS_MASK;
  if (cls !== op.BPF_JMP && cls !== op.BPF_JMP32) return false;
  const code = insn.opcode & op.BPF_OP_MASK;
  return code !== op.BPF_JA && code !== op.BPF_CALL && code !== op.BPF_EXIT;
}

/** Jumps of any kind, calls and exits included: what complexity is measured by. */
export function isJump(insn: Insn): boolean {
  const cls = insn.opcode & op.BPF_CLASS_MASK;
  return cls === op.BPF_JMP || cls === op.BPF_JMP32;
}

function isExit(insn: Insn): boolean {
  return insn.opcode === op.OP_EXIT;
}

export function isUnconditional(insn: Insn): boolean {
  const cls = insn.opcode & op.BPF_CLASS_MASK;
  return (cls === op.BPF_JMP || cls === op.BPF_JMP32) && (insn.opcode & op.BPF_OP_MASK) === op.BPF_JA;
}

/** Where a jump at `index` leads; for `gotol` the offset is in imm. */
export function jumpTarget(insn: Insn, index: number): number {
  const long = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_JMP32 && isUnconditional(insn);
  return index + 1 + (long ? insn.imm : insn.off);
}

export function isLocalCall(insn: Insn): boolean {
  return (insn.opcode & ~op.BPF_SRC_MASK) === op.OP_CALL && insn.src === op.BPF_PSEUDO_CALL;
}

function isFunctionPointer(insn: Insn): boolean {
  return isLddw(insn) && insn.src === op.BPF_PSEUDO_FUNC;
}

function fail(finding: Finding): never {
  throw new RejectSignal(finding);
}

/** Throws RejectSignal on what is wrong whatever the values are. */
export function analyseControlFlow(insns: readonly Insn[]): ControlFlow {
  checkEncodings(insns);
  const functions = findFunctions(insns);
  const functionOf = assignFunctions(insns, functions);
  checkJumps(insns, functions, functionOf);
  checkReachable(insns);
  return {
    functions,
    functionOf,
    ...findPrunePoints(insns, functions),
    liveRegisters: findLiveRegisters(insns, functionOf),
  };
}

function checkEncodings(insns: readonly Insn[]): void {
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    const cls = insn.opcode & op.BPF_CLASS_MASK;
    const code = insn.opcode & op.BPF_OP_MASK;
    const isAlu = cls === op.BPF_ALU || cls === op.BPF_ALU64;
    const isK = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_K;
    if (isAlu && isK && (code === op.BPF_DIV || code === op.BPF_MOD) && insn.imm === 0) {
      fail({
        code: 'division-by-zero',
        insn: index,
        reason: 'division by the constant 0',
        suggestion:
          'divide by a register if the divisor is only known at run time: a divisor of 0 gives 0 then',
      });
    }
    const isShift = code === op.BPF_LSH || code === op.BPF_RSH || code === op.BPF_ARSH;
    const width = cls === op.BPF_ALU64 ? 64 : 32;
    if (isAlu && isK && isShift && (insn.imm < 0 || insn.imm >= width)) {
      fail({
        code: 'shift-too-far',
        insn: index,
        reason: `a shift by ${insn.imm} does not fit a register of ${width} bits`,
        suggestion: `shift by 0 to ${width - 1}`,
      });
    }
    const writesFramePointer =
      insn.dst === op.FRAME_POINTER && (isAlu || cls === op.BPF_LDX || isLddw(insn)) && insn.opcode !== 0;
    if (writesFramePointer) {
      fail({
        code: 'frame-pointer-write',
        insn: index,
        registers: [op.FRAME_POINTER],
        reason: 'the frame pointer R10 is read-only',
        suggestion: 'copy R10 to another register and change that one',
      });
    }
    if (insn.opcode === op.OP_CALL && insn.src === op.BPF_PSEUDO_KFUNC_CALL) {
      fail({
        code: 'insn-unsupported',
        insn: index,
        reason: `kernel function ${insn.imm} is called, and kernel functions are not modelled`,
        suggestion: 'use helpers only, or verify with the kernel verifier on a host that has the function',
      });
    }
    const problem = checkInsn(insns, index);
    if (problem !== undefined) fail({ code: 'insn-invalid', insn: index, reason: problem });
    if (isLddw(insn)) {
      checkLoadImmediate(insn, index);
      index++;
    }
  }
}

function checkLoadImmediate(insn: Insn, index: number): void {
  const unsupported =
    insn.src === op.BPF_PSEUDO_BTF_ID
      ? 'a variable of the kernel'
      : insn.src === op.BPF_PSEUDO_MAP_IDX || insn.src === op.BPF_PSEUDO_MAP_IDX_VALUE
        ? 'a map by its index in the fd array'
        : undefined;
  if (unsupported === undefined) return;
  fail({
    code: 'insn-unsupported',
    insn: index,
    reason: `the lddw loads ${unsupported}, which is not modelled`,
  });
}

function findFunctions(insns: readonly Insn[]): number[] {
  const starts = new Set([0]);
  insns.forEach((insn, index) => {
    if (insn.opcode === 0) return;
    const target = isLocalCall(insn) || isFunctionPointer(insn) ? index + 1 + insn.imm : undefined;
    if (target === undefined) return;
    if (target < 0 || target >= insns.length) {
      fail({
        code: 'jump-out-of-range',
        insn: index,
        reason: `the call leads to insn ${target}, outside the program of ${insns.length} insns`,
      });
    }
    if (isLddw(insns[target - 1]) && insns[target]!.opcode === 0) {
      fail({
        code: 'jump-into-lddw',
        insn: index,
        reason: `the call leads into the lddw at insn ${target - 1}`,
      });
    }
    starts.add(target);
  });
  return [...starts].sort((a, b) => a - b);
}

function assignFunctions(insns: readonly Insn[], functions: readonly number[]): Int32Array {
  const functionOf = new Int32Array(insns.length);
  for (let i = 0; i < functions.length; i++) {
    functionOf.fill(functions[i]!, functions[i], functions[i + 1] ?? insns.length);
  }
  return functionOf;
}

function checkJumps(insns: readonly Insn[], functions: readonly number[], functionOf: Int32Array): void {
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    if (isConditional(insn) || isUnconditional(insn)) {
      const target = jumpTarget(insn, index);
      if (target < 0 || target >= insns.length || functionOf[target] !== functionOf[index]) {
        fail({
          code: 'jump-out-of-range',
          insn: index,
          reason: `the jump leads to insn ${target}, outside ${functions.length > 1 ? 'its function' : 'the program'}`,
        });
      }
      if (insns[target]!.opcode === 0 && isLddw(insns[target - 1])) {
        fail({
          code: 'jump-into-lddw',
          insn: index,
          reason: `the jump leads into the second half of the lddw at insn ${target - 1}`,
        });
      }
    }
    if (isLddw(insn)) index++;
  }
  for (let i = 0; i < functions.length; i++) {
    const end = (functions[i + 1] ?? insns.length) - 1;
    const last = insns[end]!;
    if (!isExit(last) && !isUnconditional(last)) {
      fail({
        code: 'falls-through',
        insn: end,
        reason: 'control can run past the end: the last insn of a function is neither an exit nor a jump',
        suggestion: 'end the function with exit',
      });
    }
  }
}

/** Slots that control can go to after `index` within its function. */
function successors(insns: readonly Insn[], index: number): number[] {
  const insn = insns[index]!;
  if (isExit(insn)) return [];
  if (isUnconditional(insn)) return [jumpTarget(insn, index)];
  if (isConditional(insn)) return [index + 1, jumpTarget(insn, index)];
  return [index + (isLddw(insn) ? 2 : 1)];
}

function checkReachable(insns: readonly Insn[]): void {
  const seen = new Uint8Array(insns.length);
  const work = [0];
  seen[0] = 1;
  const visit = (index: number): void => {
    if (seen[index] !== 0) return;
    seen[index] = 1;
    work.push(index);
  };
  while (work.length > 0) {
    const index = work.pop()!;
    const insn = insns[index]!;
    if (isLddw(insn)) seen[index + 1] = 1;
    if (isLocalCall(insn) || isFunctionPointer(insn)) visit(index + 1 + insn.imm);
    for (const next of successors(insns, index)) visit(next);
  }
  const unreachable = seen.indexOf(0);
  if (unreachable < 0) return;
  fail({
    code: 'unreachable-insn',
    insn: unreachable,
    reason: `no path leads to insn ${unreachable}`,
    suggestion: 'remove it, or the jump that skips it',
  });
}

function findPrunePoints(
  insns: readonly Insn[],
  functions: readonly number[],
): Pick<ControlFlow, 'prunePoints' | 'loopHeads'> {
  const prunePoints = new Uint8Array(insns.length);
  const loopHeads = new Uint8Array(insns.length);
  insns.forEach((insn, index) => {
    if (isConditional(insn) || isUnconditional(insn)) {
      const target = jumpTarget(insn, index);
      prunePoints[target] = 1;
      if (target <= index) loopHeads[target] = 1;
      if (isConditional(insn)) prunePoints[index] = 1;
    } else if (insn.opcode === op.OP_CALL) {
      // Behind a helper, R1 to R5 are gone, so that states are alike that were not before.
      prunePoints[index + 1] = 1;
      if (isLocalCall(insn) || callsBack(insn.imm)) prunePoints[index] = 1;
    }
  });
  for (const start of functions) if (start !== 0) prunePoints[start] = 1;
  return { prunePoints, loopHeads };
}

/** Whether a helper runs a function of the program. */
export function callsBack(helper: number): boolean {
  return XDP_HELPER_PROTOTYPES.get(helper)?.args.some((arg) => arg.kind === 'callback') === true;
}

/** What an insn reads and writes, as register masks. */
function uses(
  insn: Insn,
  entryLive: (target: number) => number,
  index: number,
): [reads: number, writes: number] {
  const dst = 1 << insn.dst;
  const src = 1 << insn.src;
  const isX = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  switch (insn.opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
    case op.BPF_ALU64: {
      const code = insn.opcode & op.BPF_OP_MASK;
      if (code === op.BPF_MOV) return [isX ? src : 0, dst];
      if (code === op.BPF_NEG || code === op.BPF_END) return [dst, dst];
      return [dst | (isX ? src : 0), dst];
    }
    case op.BPF_LD:
      return [0, dst];
    case op.BPF_LDX:
      return [src, dst];
    case op.BPF_ST:
      return [dst, 0];
    case op.BPF_STX: {
      if ((insn.opcode & op.BPF_MODE_MASK) !== op.BPF_ATOMIC) return [dst | src, 0];
      if (insn.imm === op.BPF_CMPXCHG) return [dst | src | 1, 1];
      return [dst | src, (insn.imm & op.BPF_FETCH) !== 0 ? src : 0];
    }
    default:
      break;
  }
  if (isExit(insn)) return [1, 0];
  if (insn.opcode === op.OP_CALL) {
    const clobbered = 0x3f;
    if (insn.src === op.BPF_PSEUDO_CALL) return [entryLive(index + 1 + insn.imm) & 0x3e, clobbered];
    const count = XDP_HELPER_PROTOTYPES.get(insn.imm)?.args.length ?? 5;
    return [((1 << (count + 1)) - 1) & ~1, clobbered];
  }
  if (isConditional(insn)) return [dst | (isX ? src : 0), 0];
  return [0, 0];
}

/** Classic backward data flow; arguments of a local call live where the callee reads them. */
function findLiveRegisters(insns: readonly Insn[], functionOf: Int32Array): Uint16Array {
  const count = insns.length;
  const live = new Uint16Array(count);
  const entryLive = (target: number): number => live[target]!;
  const edges = new Edges(count, 2 * count);
  const callers = new Edges(count, count);
  const work = new Int32Array(count);
  const queued = new Uint8Array(count);
  let waiting = 0;
  for (let index = 0; index < count; index++) {
    const insn = insns[index]!;
    for (const next of successors(insns, index)) edges.add(next, index);
    if (isLocalCall(insn)) callers.add(functionOf[index + 1 + insn.imm]!, index);
    work[waiting++] = index;
    queued[index] = 1;
    if (isLddw(insn)) index++;
  }
  const enqueue = (index: number): void => {
    if (queued[index] !== 0) return;
    queued[index] = 1;
    work[waiting++] = index;
  };
  while (waiting > 0) {
    const index = work[--waiting]!;
    queued[index] = 0;
    const insn = insns[index]!;
    let out = 0;
    for (const next of successors(insns, index)) out |= live[next]!;
    const [reads, writes] = uses(insn, entryLive, index);
    const before = ((out & ~writes) | reads) & 0x3ff;
    if (before === live[index]) continue;
    live[index] = before;
    edges.forEach(index, enqueue);
    callers.forEach(index, enqueue);
  }
  return live;
}

/** Lists of numbers by slot, in typed arrays: a program may have a million slots. */
class Edges {
  readonly #first: Int32Array;
  readonly #next: Int32Array;
  readonly #value: Int32Array;
  #used = 0;

  constructor(slots: number, edges: number) {
    this.#first = new Int32Array(slots).fill(-1);
    this.#next = new Int32Array(edges);
    this.#value = new Int32Array(edges);
  }

  add(slot: number, value: number): void {
    this.#value[this.#used] = value;
    this.#next[this.#used] = this.#first[slot]!;
    this.#first[slot] = this.#used++;
  }

  forEach(slot: number, visit: (value: number) => void): void {
    for (let at = this.#first[slot]!; at >= 0; at = this.#next[at]!) visit(this.#value[at]!);
  }
}
