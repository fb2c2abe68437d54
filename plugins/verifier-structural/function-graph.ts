import { isLddw, type Insn } from '../../src/bpf/insn.js';
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
  MAX_CALL_FRAMES,
  OP_CALL,
} from '../../src/bpf/opcodes.js';
import type { StructuralCode } from './rejection-codes.js';

/** What is wrong, and with which insn. */
export interface Problem {
  readonly code: StructuralCode;
  readonly reason: string;
  readonly insn?: number | undefined;
}

/** The kernel's BPF_MAX_SUBPROGS. */
const MAX_FUNCTIONS = 256;

/** How an insn passes control on; targets are slots and not checked. */
interface Flow {
  /** The next insn in memory may come next. */
  readonly falls: boolean;
  readonly jump?: number | undefined;
  /** A function is called or its address taken. */
  readonly callee?: number | undefined;
}

function flowOf(insns: readonly Insn[], index: number): Flow {
  const insn = insns[index]!;
  if (isLddw(insn)) {
    return insn.src === BPF_PSEUDO_FUNC ? { falls: true, callee: index + 1 + insn.imm } : { falls: true };
  }
  const insnClass = insn.opcode & BPF_CLASS_MASK;
  if (insnClass !== BPF_JMP && insnClass !== BPF_JMP32) return { falls: true };
  switch (insn.opcode & BPF_OP_MASK) {
    case BPF_EXIT:
      return { falls: false };
    case BPF_CALL:
      return insn.opcode === OP_CALL && insn.src === BPF_PSEUDO_CALL
        ? { falls: true, callee: index + 1 + insn.imm }
        : { falls: true };
    case BPF_JA:
      // `gotol` has its offset in imm.
      return { falls: false, jump: index + 1 + (insnClass === BPF_JMP32 ? insn.imm : insn.off) };
    default:
      return { falls: true, jump: index + 1 + insn.off };
  }
}

/**
 * Checks how control passes between the insns of a program that are all well-formed: where jumps and calls
 * lead, that no path falls off the end of a function, that every insn is reached, that nothing recurses, and,
 * unless `loopsAllowed`, that no path leads back.
 *
 * Functions are what local calls and BPF_PSEUDO_FUNC lead to, each up to the next one, as in the kernel.
 * Iterative throughout: a program may be a million insns long.
 */
export function checkControlFlow(insns: readonly Insn[], loopsAllowed: boolean): Problem | undefined {
  // One longer than the program, so that the slot after the last one can be asked about.
  const second = new Uint8Array(insns.length + 1);
  for (let index = 0; index < insns.length; index++) {
    if (isLddw(insns[index])) second[++index] = 1;
  }

  const starts = new Set([0]);
  for (let index = 0; index < insns.length; index++) {
    if (second[index] === 1) continue;
    const { callee } = flowOf(insns, index);
    if (callee === undefined) continue;
    if (callee < 0 || callee >= insns.length) {
      return {
        code: 'call-target',
        reason: `call of insn ${callee}, the program has ${insns.length}`,
        insn: index,
      };
    }
    if (second[callee] === 1) {
      return { code: 'jump-into-lddw', reason: `call into the lddw at insn ${callee - 1}`, insn: index };
    }
    starts.add(callee);
    if (starts.size > MAX_FUNCTIONS) {
      return { code: 'too-many-functions', reason: `more than ${MAX_FUNCTIONS} functions`, insn: index };
    }
  }
  const functions = [...starts].sort((a, b) => a - b);
  const calls = new Map<number, Set<number>>();
  const reached = new Uint8Array(insns.length);
  const taken = new Uint8Array(insns.length);
  const queue = [0];
  for (let start = queue.pop(); start !== undefined; start = queue.pop()) {
    if (calls.has(start)) continue;
    const end = functions[functions.indexOf(start) + 1] ?? insns.length;
    const callees = new Set<number>();
    calls.set(start, callees);
    const problem = walkFunction(insns, { start, end, second, reached, taken, callees, loopsAllowed });
    if (problem !== undefined) return problem;
    queue.push(...callees);
  }
  for (let index = 0; index < insns.length; index++) {
    if (reached[index] === 0 && second[index] === 0) {
      return { code: 'unreachable-insn', reason: `no path leads to insn ${index}`, insn: index };
    }
  }
  return checkCalls(calls);
}

interface FunctionWalk {
  readonly start: number;
  /** One past its last slot. */
  readonly end: number;
  readonly second: Uint8Array;
  readonly reached: Uint8Array;
  /** Successors of each slot that have been followed. */
  readonly taken: Uint8Array;
  readonly callees: Set<number>;
  readonly loopsAllowed: boolean;
}

/** What has become of a slot so far: it lies on the path being walked, or all that follows it has been walked. */
const ON_PATH = 1;
const DONE = 2;

/** Depth first, with the path on a stack: at each insn first the jump, then the insn that follows in memory. */
function walkFunction(insns: readonly Insn[], walk: FunctionWalk): Problem | undefined {
  const { start, end, second, reached, taken } = walk;
  const path = [start];
  reached[start] = ON_PATH;
  while (path.length > 0) {
    const index = path[path.length - 1]!;
    if (taken[index] === 2) {
      reached[index] = DONE;
      path.pop();
      continue;
    }
    const flow = flowOf(insns, index);
    let successor: number | undefined;
    if (taken[index] === 0) {
      taken[index] = 1;
      if (flow.callee !== undefined) walk.callees.add(flow.callee);
      successor = flow.jump;
      const problem = successor === undefined ? undefined : checkJump(insns, index, successor, walk);
      if (problem !== undefined) return problem;
    }
    if (successor === undefined && taken[index] === 1) {
      taken[index] = 2;
      if (flow.falls) {
        successor = index + 1 + second[index + 1]!;
        if (!(successor < end)) {
          const reason = `execution runs past insn ${index}, the last of its function`;
          return { code: 'falls-off', reason, insn: index };
        }
      }
    }
    if (successor === undefined) {
      reached[index] = DONE;
      path.pop();
    } else if (reached[successor] === 0) {
      reached[successor] = ON_PATH;
      path.push(successor);
    } else if (reached[successor] === ON_PATH && !walk.loopsAllowed) {
      const reason = `control passes from insn ${index} back to ${successor}`;
      return { code: 'back-edge', reason, insn: index };
    }
  }
  return undefined;
}

function checkJump(
  insns: readonly Insn[],
  index: number,
  target: number,
  { start, end, second }: FunctionWalk,
): Problem | undefined {
  if (target < 0 || target >= insns.length) {
    return {
      code: 'jump-range',
      reason: `jump to insn ${target}, the program has ${insns.length}`,
      insn: index,
    };
  }
  if (second[target] === 1) {
    return { code: 'jump-into-lddw', reason: `jump into the lddw at insn ${target - 1}`, insn: index };
  }
  if (target >= start && target < end) return undefined;
  const reason = `jump to insn ${target}, the function has insns ${start} to ${end - 1}`;
  return { code: 'jump-across-functions', reason, insn: index };
}

/** No function calls itself, and calls nest no deeper than the kernel allows. */
function checkCalls(calls: ReadonlyMap<number, ReadonlySet<number>>): Problem | undefined {
  const depths = new Map<number, number | 'on-path'>();
  // Recursive, but there are no more than MAX_FUNCTIONS.
  const depthOf = (start: number): number | Problem => {
    const known = depths.get(start);
    if (known === 'on-path') {
      return { code: 'recursion', reason: `the function at insn ${start} calls itself`, insn: start };
    }
    if (known !== undefined) return known;
    depths.set(start, 'on-path');
    let deepest = 0;
    for (const callee of calls.get(start) ?? []) {
      const depth = depthOf(callee);
      if (typeof depth !== 'number') return depth;
      deepest = Math.max(deepest, depth);
    }
    depths.set(start, deepest + 1);
    return deepest + 1;
  };
  const depth = depthOf(0);
  if (typeof depth !== 'number') return depth;
  return depth > MAX_CALL_FRAMES
    ? { code: 'call-depth', reason: `calls nest ${depth} frames deep, the limit is ${MAX_CALL_FRAMES}` }
    : undefined;
}
