import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import type { GeneratedCase } from '../../src/conformance/program-generator/index.js';
import type { ProgramFacts, Verifier, VerifyRequest } from '../../src/core/contract/verifier.js';
import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import { readKernelLog } from '../../plugins/verifier-kernel/kernel-log.js';
import { movesByBoundedNumber, withBoundsTold } from './bounded-move.js';
import { isDeadWay } from './dead-way.js';
import { judge, requestOf, type Judgement, type Judges, type Mode } from './judges.js';
import { tellsNoAddress } from './no-address.js';
import { withConstantNull } from './null-checks.js';
import { classOf, isKernelBug, type RejectionClass } from './tally.js';
import { isLeftByTailCall, withoutTailCalls, type Stead } from './without-tail-calls.js';

/** What both verifiers say of a case in one mode. */
export interface Opinions {
  readonly abstract: Judgement;
  readonly kernel: Judgement | undefined;
}

/** What the kernel can be told of what abstract knows. */
type Telling = 'bounds' | 'NULL';

/** What it means that the kernel rejects what abstract accepts; undefined if it is not so. */
export async function meaningOf(
  judges: Readonly<Record<Mode, Judges>>,
  mode: Mode,
  generated: GeneratedCase,
  { abstract, kernel }: Opinions,
  /** What the kernel has been told already. */
  told: ReadonlySet<Telling> = new Set(),
): Promise<RejectionClass | undefined> {
  const theirs = kernel!.verification;
  if (theirs.accepted || !abstract.verification.accepted) return undefined;
  const { insn } = theirs;
  const verifier = judges[mode].abstract;
  const request = requestOf(generated.programs[kernel!.program]!, generated);
  const stead = steadOf(request);
  const place = insn === undefined ? undefined : stead.placeOf(insn);
  const ours = await verifier.verify(stead.request);
  const facts = ours.accepted ? ours.facts : undefined;
  const isDead = async (): Promise<boolean> =>
    (place !== undefined && facts?.unreachable.has(place) === true) ||
    (await isDeadWay(verifier, stead.request, stead.pathOf(await kernelPath(judges[mode], request))));
  /** Whether the kernel finds nothing in a program of the same meaning, in which it is told something. */
  const suffices = async (what: Telling, twin: VerifyRequest): Promise<boolean> => {
    const programs = generated.programs.map((program, index) =>
      index === kernel!.program ? twin.program : program,
    );
    const telling = { ...generated, programs };
    const again = {
      abstract: await judge(verifier, telling),
      kernel: await judge(judges[mode].kernel!, telling),
    };
    return (
      again.abstract.verification.accepted &&
      (await meaningOf(judges, mode, telling, again, new Set([...told, what]))) !== 'safety'
    );
  };
  const boundsSuffice = async (): Promise<boolean> => {
    if (told.has('bounds') || !(verifier instanceof AbstractVerifier)) return false;
    const path = await kernelPath(judges[mode], request);
    const twin = await withBoundsTold(verifier.config, request, path);
    if (twin === undefined || !(await isReachedByNone(verifier, twin.request, twin.corrections)))
      return false;
    return suffices('bounds', twin.request);
  };
  const constantNullSuffices = async (): Promise<boolean> => {
    if (told.has('NULL') || !(verifier instanceof AbstractVerifier)) return false;
    const twin = await withConstantNull(verifier.config, request, stead);
    return twin !== undefined && suffices('NULL', twin);
  };
  const forRoot = mode === 'guest' ? (await judge(judges.root.kernel!, generated)).verification : undefined;
  const asked = async (question: typeof tellsNoAddress): Promise<boolean> =>
    place !== undefined &&
    verifier instanceof AbstractVerifier &&
    (await question(verifier.config, stead.request, place));
  return classOf(theirs, {
    isDead,
    tellsNoAddress: () => asked(tellsNoAddress),
    movesByBoundedNumber: () => asked(movesByBoundedNumber),
    boundsSuffice,
    constantNullSuffices,
    isCopy: insn !== undefined && isCopy(request.program.insns[insn]),
    isExact: facts !== undefined && isExactAt(facts, place),
    acceptedForRoot: forRoot !== undefined && (forRoot.accepted || isKernelBug(forRoot.reason)),
  });
}

/** What abstract proves of a program that is left in the middle of a function was wrong once: it is asked about another. */
function steadOf(request: VerifyRequest): Stead {
  return isLeftByTailCall(request.program.insns) ? withoutTailCalls(request) : itself(request);
}

/** Whether a verifier has proved that nobody comes to any of some insns. */
async function isReachedByNone(
  verifier: Verifier,
  request: VerifyRequest,
  insns: readonly number[],
): Promise<boolean> {
  const stead = steadOf(request);
  const verification = await verifier.verify(stead.request);
  const unreachable = verification.accepted ? verification.facts?.unreachable : undefined;
  return unreachable !== undefined && insns.every((insn) => unreachable.has(stead.placeOf(insn)));
}

function itself(request: VerifyRequest): Stead {
  return { request, placeOf: (insn) => insn, pathOf: (path) => [...path] };
}

/** The insns of the path that the kernel rejects. */
async function kernelPath({ kernel }: Judges, request: VerifyRequest): Promise<number[]> {
  const { log } = await kernel!.verify({ ...request, log: true });
  return log === undefined ? [] : readKernelLog(log).path.map(({ insn }) => insn);
}

function isCopy(insn: Insn | undefined): boolean {
  const opcode = insn?.opcode;
  return (
    opcode === (op.BPF_ALU64 | op.BPF_MOV | op.BPF_X) || opcode === (op.BPF_STX | op.BPF_MEM | op.BPF_DW)
  );
}

/** Whether abstract knows exactly, on every path, where the access at an insn goes or what a call there is given. */
function isExactAt({ accesses, calls }: ProgramFacts, insn: number | undefined): boolean {
  if (insn === undefined) return false;
  const access = accesses.get(insn);
  return access === undefined
    ? (calls.get(insn)?.constants.size ?? 0) > 0
    : access.minOffset === access.maxOffset;
}
