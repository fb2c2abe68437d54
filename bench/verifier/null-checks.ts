import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import type { VerifyRequest } from '../../src/core/contract/verifier.js';
import type { AbstractVerifierConfig } from '../../plugins/verifier-abstract/config.js';
import type { Value } from '../../plugins/verifier-abstract/value.js';
import { inEveryState } from './every-state.js';

/**
 * The same program, in which each register that is compared with one of 0, in every state that is explored there, is compared with the
 * constant: only that is a check for NULL to the kernel, the other tells it nothing of the pointer. Undefined if there is none.
 *
 * @param asked the program that the states are those of, and where an insn is in it
 */
export async function withConstantNull(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  asked: { readonly request: VerifyRequest; placeOf(insn: number): number },
): Promise<VerifyRequest | undefined> {
  const { program } = request;
  let found = 0;
  const insns: Insn[] = [];
  for (const [at, insn] of program.insns.entries()) {
    const checked = isEquality(insn)
      ? await checkedFor0(config, asked.request, asked.placeOf(at), insn)
      : undefined;
    if (checked === undefined) insns.push(insn);
    else {
      found++;
      insns.push({ ...insn, opcode: insn.opcode & ~op.BPF_X, dst: checked, src: 0, imm: 0 });
    }
  }
  return found === 0 ? undefined : { ...request, program: { ...program, insns, debug: undefined } };
}

/** Of registers in 64 bits. */
function isEquality({ opcode }: Insn): boolean {
  return opcode === (op.BPF_JMP | op.BPF_JEQ | op.BPF_X) || opcode === (op.BPF_JMP | op.BPF_JNE | op.BPF_X);
}

/** Which of the two registers is compared, if the other is 0 in every state. */
async function checkedFor0(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  at: number,
  { dst, src }: Insn,
): Promise<number | undefined> {
  const isZero = (register: number): Promise<boolean> =>
    inEveryState(config, request, at, (registers: readonly Value[]) => registers[register]!.isZero);
  if (await isZero(src)) return dst;
  return (await isZero(dst)) ? src : undefined;
}
