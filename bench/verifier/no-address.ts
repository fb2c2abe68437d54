import * as op from '../../src/bpf/opcodes.js';
import type { VerifyRequest } from '../../src/core/contract/verifier.js';
import type { AbstractVerifierConfig } from '../../plugins/verifier-abstract/config.js';
import { isNeverNull, isPacketFamily, sameMemory } from '../../plugins/verifier-abstract/pointer-kinds.js';
import { constantValue, type Value } from '../../plugins/verifier-abstract/value.js';
import { inEveryState } from './every-state.js';

const UNSIGNED: ReadonlySet<number> = new Set([op.BPF_JGT, op.BPF_JGE, op.BPF_JLT, op.BPF_JLE]);

/**
 * Whether an insn at which the kernel sees an address become visible shows none, in any state that is explored there: a
 * comparison for equality with 0 (the kernel knows only the constant, and only of what may be NULL), a comparison of
 * pointers into the same memory, or the low half of a pointer of the packet's, which is only good for distances.
 */
export async function tellsNoAddress(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  at: number,
): Promise<boolean> {
  const { opcode, dst, src, imm } = request.program.insns[at]!;
  const insnClass = opcode & op.BPF_CLASS_MASK;
  const code = opcode & op.BPF_OP_MASK;
  const isJump = insnClass === op.BPF_JMP || insnClass === op.BPF_JMP32;
  const isEquality = isJump && (code === op.BPF_JEQ || code === op.BPF_JNE);
  const isHalf = insnClass === op.BPF_ALU && code === op.BPF_MOV;
  const hasRegister = (opcode & op.BPF_X) !== 0;
  if (!(isJump || (isHalf && hasRegister))) return false;
  const isHarmless = (a: Value, b: Value): boolean => {
    if (isHalf) return !b.isPointer || isPacketFamily(b);
    if (a.isPointer && b.isPointer) return sameMemory(a, b) && (isEquality || UNSIGNED.has(code));
    if (!a.isPointer && !b.isPointer) return true;
    const subject = a.isPointer ? a : b;
    const other = a.isPointer ? b : a;
    return isEquality && other.isZero && (subject.maybeNull || isNeverNull(subject));
  };
  return inEveryState(config, request, at, (registers) =>
    isHarmless(registers[dst]!, hasRegister ? registers[src]! : constantValue(imm)),
  );
}
