import * as op from '../../src/bpf/opcodes.js';
import type { VerifyRequest } from '../../src/core/contract/verifier.js';
import type { AbstractVerifierConfig } from '../../plugins/verifier-abstract/config.js';
import { Kind } from '../../plugins/verifier-abstract/value.js';
import { inEveryState } from './every-state.js';

/** What a pointer may be moved by at most (kernel BPF_MAX_VAR_OFF). */
const LIMIT = 1n << 29n;

/**
 * Whether an insn that moves a pointer by a number does so by one that `abstract` knows bounds of, in every state that is explored
 * there: by what a copy of it was compared with, say, which the kernel follows less far.
 */
export async function movesByBoundedNumber(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  at: number,
): Promise<boolean> {
  const { opcode, dst, src } = request.program.insns[at]!;
  const isSum =
    opcode === (op.BPF_ALU64 | op.BPF_ADD | op.BPF_X) || opcode === (op.BPF_ALU64 | op.BPF_SUB | op.BPF_X);
  if (!isSum) return false;
  return inEveryState(config, request, at, (registers) => {
    const [a, b] = [registers[dst]!, registers[src]!];
    if (a.isPointer === b.isPointer) return false;
    const number = a.isPointer ? b : a;
    return number.kind === Kind.Scalar && number.scalar.smin > -LIMIT && number.scalar.smax < LIMIT;
  });
}
