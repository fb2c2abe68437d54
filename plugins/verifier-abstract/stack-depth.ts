import { isLddw, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { type ControlFlow, isLocalCall } from './control-flow.js';
import { RejectSignal } from './reject-signal.js';

/** The kernel's JIT rounds each frame up to this. */
const ROUNDING = 16;

/**
 * The deepest stack that nested functions need together. Throws RejectSignal when that is more than one stack, or
 * when calls nest too deep; recursion nests without end.
 */
export function checkStackDepth(
  insns: readonly Insn[],
  flow: ControlFlow,
  used: ReadonlyMap<number, number>,
): number {
  const callees = new Map<number, { target: number; insn: number }[]>();
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    const isFunctionPointer = isLddw(insn) && insn.src === op.BPF_PSEUDO_FUNC;
    if (isLocalCall(insn) || isFunctionPointer) {
      const from = flow.functionOf[index]!;
      const list = callees.get(from) ?? [];
      list.push({ target: index + 1 + insn.imm, insn: index });
      callees.set(from, list);
    }
    if (isLddw(insn)) index++;
  }
  const known = new Map<number, { bytes: number; frames: number }>();
  const open = new Set<number>();
  const measure = (start: number, depth: number): { bytes: number; frames: number } => {
    const done = known.get(start);
    if (done !== undefined) return done;
    open.add(start);
    let bytes = 0;
    let frames = 0;
    for (const { target, insn } of callees.get(start) ?? []) {
      if (open.has(target)) {
        throw new RejectSignal({
          code: 'call-depth',
          insn,
          reason: `the function at insn ${target} calls itself`,
          suggestion: 'recursion is not possible; use a loop',
        });
      }
      if (depth >= op.MAX_CALL_FRAMES) rejectDepth(insn, depth + 1);
      const inner = measure(target, depth + 1);
      bytes = Math.max(bytes, inner.bytes);
      frames = Math.max(frames, inner.frames);
      // Seen from another caller it may not have been too deep.
      if (depth + inner.frames > op.MAX_CALL_FRAMES) rejectDepth(insn, depth + inner.frames);
    }
    open.delete(start);
    const result = { bytes: frameBytes(used, start) + bytes, frames: frames + 1 };
    if (result.bytes > op.MAX_BPF_STACK && (callees.get(start)?.length ?? 0) > 0) {
      throw new RejectSignal({
        code: 'stack-depth',
        insn: start,
        reason: `this function and what it calls need ${result.bytes} bytes of stack together, more than ${op.MAX_BPF_STACK}`,
        suggestion:
          'move large buffers to a per-CPU array map, or inline functions so that they share the stack',
      });
    }
    known.set(start, result);
    return result;
  };
  const { bytes } = measure(0, 1);
  checkTailCalls(insns, flow, callees, used, [...known.keys()].reverse());
  return bytes;
}

/** A tail call keeps the frames of its callers, so the kernel allows it only while these are small. */
const MAX_STACK_BEFORE_TAIL_CALL = 256;
const BPF_FUNC_TAIL_CALL = 12;

/** `order`: the functions, callers before callees. */
function checkTailCalls(
  insns: readonly Insn[],
  flow: ControlFlow,
  callees: ReadonlyMap<number, readonly { target: number; insn: number }[]>,
  used: ReadonlyMap<number, number>,
  order: readonly number[],
): void {
  const above = new Map<number, number>([[0, 0]]);
  for (const start of order) {
    const here = (above.get(start) ?? 0) + frameBytes(used, start);
    for (const { target } of callees.get(start) ?? []) {
      above.set(target, Math.max(above.get(target) ?? 0, here));
    }
  }
  for (let index = 0; index < insns.length; index++) {
    const insn = insns[index]!;
    const isTailCall =
      insn.opcode === op.OP_CALL && insn.src === op.BPF_CALL_HELPER && insn.imm === BPF_FUNC_TAIL_CALL;
    const bytes = above.get(flow.functionOf[index]!) ?? 0;
    if (isTailCall && bytes >= MAX_STACK_BEFORE_TAIL_CALL) {
      throw new RejectSignal({
        code: 'stack-depth',
        insn: index,
        reason: `a tail call from a function whose callers hold ${bytes} bytes of stack; ${MAX_STACK_BEFORE_TAIL_CALL} is too much`,
        suggestion: 'make the tail call in the main program, or use less stack in the callers',
      });
    }
    if (isLddw(insn)) index++;
  }
}

function frameBytes(used: ReadonlyMap<number, number>, start: number): number {
  return Math.ceil(Math.max(1, used.get(start) ?? 0) / ROUNDING) * ROUNDING;
}

function rejectDepth(insn: number, frames: number): never {
  throw new RejectSignal({
    code: 'call-depth',
    insn,
    reason: `calls nest ${frames} deep here; ${op.MAX_CALL_FRAMES} frames are the limit`,
    suggestion: 'flatten the calls, or inline functions (__always_inline)',
  });
}
