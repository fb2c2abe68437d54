import { isLddw, type Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { isLocalCall, type ControlFlow } from './control-flow.js';
import { RejectSignal } from './rejection-codes.js';

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
    const own = Math.ceil(Math.max(1, used.get(start) ?? 0) / ROUNDING) * ROUNDING;
    const result = { bytes: own + bytes, frames: frames + 1 };
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
  return measure(0, 1).bytes;
}

function rejectDepth(insn: number, frames: number): never {
  throw new RejectSignal({
    code: 'call-depth',
    insn,
    reason: `calls nest ${frames} deep here; ${op.MAX_CALL_FRAMES} frames are the limit`,
    suggestion: 'flatten the calls, or inline functions (__always_inline)',
  });
}
