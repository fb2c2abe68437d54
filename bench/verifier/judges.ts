import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../plugins/verifier-abstract/config.js';
import type { GeneratedCase } from '../../src/conformance/program-generator/index.js';
import type { Program } from '../../src/bpf/program.js';
import type { Verification, Verifier, VerifierMap, VerifyRequest } from '../../src/core/contract/verifier.js';
import { openKernelVerifier } from './kernel-oracle.js';

/**
 * `guest`: no address may become visible, which is what `abstract` does by default and the kernel for programs
 * that are loaded without CAP_PERFMON. `root`: it may, as for programs that root loads.
 */
export type Mode = 'guest' | 'root';
export const MODES: readonly Mode[] = ['guest', 'root'];

export interface Judges {
  readonly abstract: Verifier;
  readonly kernel: Verifier | undefined;
}

/** Long enough that a slow machine does not decide what is accepted. */
const MAX_MILLISECONDS = 300_000;

/** `withKernel`: throws if this process may not load programs. */
export async function openJudges(mode: Mode, withKernel: boolean): Promise<Judges> {
  const allowPointerLeaks = mode === 'root';
  const abstract = new AbstractVerifier({
    ...DEFAULT_CONFIG,
    allowPointerLeaks,
    maxMilliseconds: MAX_MILLISECONDS,
  });
  if (!withKernel) return { abstract, kernel: undefined };
  const kernel = await openKernelVerifier(allowPointerLeaks);
  if (typeof kernel === 'string') throw new Error(`--kernel: ${kernel}`);
  return { abstract, kernel };
}

export function requestOf(program: Program, { maps }: GeneratedCase): VerifyRequest {
  const known = new Map<number, VerifierMap>();
  for (const { handle, name, attributes, initial, frozen } of maps) {
    known.set(handle, { ...attributes, name, frozenValue: frozen === true ? initial[0]!.value : undefined });
  }
  return { program, maps: known };
}

/** The same program with other insns. */
export function withInsns(generated: GeneratedCase, insns: Program['insns']): GeneratedCase {
  const [first, ...others] = generated.programs;
  return { ...generated, programs: [{ ...first!, insns }, ...others] };
}

/** What one verifier says of a case. */
export interface Judgement {
  /** Of its first program, or of the one that is rejected. */
  readonly verification: Verification;
  /** Which of its programs. */
  readonly program: number;
}

/** A case is accepted if all of its programs are. */
export async function judge(verifier: Verifier, generated: GeneratedCase): Promise<Judgement> {
  let first: Verification | undefined;
  for (const [index, program] of generated.programs.entries()) {
    const verification = await verifier.verify(requestOf(program, generated));
    if (!verification.accepted) return { verification, program: index };
    first ??= verification;
  }
  return { verification: first!, program: 0 };
}
