import * as op from '../../src/bpf/opcodes.js';
import type { Insn } from '../../src/bpf/insn.js';
import type { VerifyRequest } from '../../src/core/contract/verifier.js';
import type { AbstractVerifierConfig } from '../../plugins/verifier-abstract/config.js';
import { Kind, type Value } from '../../plugins/verifier-abstract/value.js';
import { inEveryState } from './every-state.js';
import { replaceInsns } from './replace-insns.js';

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
  const insn = request.program.insns[at]!;
  const { dst, src } = insn;
  if (!isSum(insn)) return false;
  return inEveryState(config, request, at, (registers) => {
    const [a, b] = [registers[dst]!, registers[src]!];
    if (a.isPointer === b.isPointer) return false;
    const number = a.isPointer ? b : a;
    return number.kind === Kind.Scalar && number.scalar.smin > -LIMIT && number.scalar.smax < LIMIT;
  });
}

function isSum({ opcode }: Insn): boolean {
  return (
    opcode === (op.BPF_ALU64 | op.BPF_ADD | op.BPF_X) || opcode === (op.BPF_ALU64 | op.BPF_SUB | op.BPF_X)
  );
}

export interface Told {
  readonly request: VerifyRequest;
  /** Insns that nobody comes to if the bounds are right. */
  readonly corrections: readonly number[];
}

/**
 * The same program, in which each number that moves a pointer on a path, or is what a function returns, is compared with the bounds
 * that `abstract` has of it, and corrected if it were outside: what else a verifier knows, it knows these then. It does the same if no correction is
 * reached. Undefined if there is none to tell.
 */
export async function withBoundsTold(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  path: readonly number[],
): Promise<Told | undefined> {
  const { program } = request;
  const rows = new Map<number, readonly Insn[]>();
  for (const at of new Set(path)) {
    const insn = program.insns[at]!;
    const bounds = await boundsAt(config, request, at, numberAt(insn));
    if (bounds === undefined) continue;
    const { register, min, max } = bounds;
    rows.set(at, [...withinOr(op.BPF_JGE, register, min), ...withinOr(op.BPF_JLE, register, max), insn]);
  }
  if (rows.size === 0) return undefined;
  const { insns, places } = replaceInsns(program.insns, rows);
  return {
    request: { ...request, program: { ...program, insns, debug: undefined } },
    corrections: [...rows.keys()].flatMap((at) => [places[at]! + 1, places[at]! + 3]),
  };
}

/** `if rN … bound goto +1; rN = bound`. */
function withinOr(comparison: number, register: number, bound: number): Insn[] {
  return [
    { opcode: op.BPF_JMP | comparison | op.BPF_K, dst: register, src: 0, off: 1, imm: bound },
    { opcode: op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, dst: register, src: 0, off: 0, imm: bound },
  ];
}

type NumberAt = (registers: readonly Value[]) => number | undefined;

/** Which register's number is of interest before an insn, in a state. */
function numberAt(insn: Insn): NumberAt | undefined {
  const { opcode, dst, src } = insn;
  if (opcode === op.OP_EXIT) return () => 0;
  if (!isSum(insn)) return undefined;
  return (values) => {
    const { isPointer } = values[dst]!;
    return isPointer === values[src]!.isPointer ? undefined : isPointer ? src : dst;
  };
}

/** The register of a number before an insn, and its bounds over all states there, if they fit an immediate. */
async function boundsAt(
  config: AbstractVerifierConfig,
  request: VerifyRequest,
  at: number,
  numberIn: NumberAt | undefined,
): Promise<{ readonly register: number; readonly min: number; readonly max: number } | undefined> {
  if (numberIn === undefined) return undefined;
  const registers = new Set<number>();
  let min = BigInt(MOST);
  let max = 0n;
  const isKnown = await inEveryState(config, request, at, (values) => {
    const register = numberIn(values);
    const number = register === undefined ? undefined : values[register]!;
    if (number?.kind !== Kind.Scalar) return false;
    registers.add(register!);
    if (number.scalar.umin < min) min = number.scalar.umin;
    if (number.scalar.umax > max) max = number.scalar.umax;
    return max <= BigInt(MOST);
  });
  const [register] = registers;
  return isKnown && registers.size === 1
    ? { register: register!, min: Number(min), max: Number(max) }
    : undefined;
}

/** Immediates are extended by their sign. */
const MOST = 2 ** 31 - 1;
