import type { Insn } from '../../src/bpf/insn.js';
import { isLddw } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import type { Verifier, VerifyRequest } from '../../src/core/contract/verifier.js';
import { isConditional, isUnconditional, replaceInsns } from './replace-insns.js';

/**
 * Whether the way that the kernel took to what it rejects, insn by insn from the first, is one that `verifier` has
 * proved nobody takes. Without local calls the way is made a program of its own, which ends where the way is left,
 * and its last insn is reached or not. With local calls each of its branches is looked at by itself.
 */
export async function isDeadWay(
  verifier: Verifier,
  request: VerifyRequest,
  path: readonly number[],
): Promise<boolean> {
  const { program } = request;
  if (path[0] !== 0 || path.length > MAX_WAY) return false;
  const calls = program.insns.some(({ opcode, src }) => opcode === op.OP_CALL && src === op.BPF_PSEUDO_CALL);
  if (calls) return takesDeadBranch(verifier, request, path);
  const { insns, last } = straightened(program.insns, path);
  const verification = await verifier.verify({
    ...request,
    program: { ...program, insns, debug: undefined },
  });
  return verification.accepted && verification.facts?.unreachable.has(last) === true;
}

/** Jumps out of it have to fit 16 bits. */
const MAX_WAY = 10_000;

/** The insns of a path in a row; every branch that leaves it leads to an exit behind them. */
function straightened(insns: readonly Insn[], path: readonly number[]): { insns: Insn[]; last: number } {
  const row: Insn[] = [];
  const leaving: number[] = [];
  let last = 0;
  path.forEach((slot, index) => {
    const insn = insns[slot]!;
    const next = path[index + 1];
    last = row.length;
    if (next === undefined) row.push(isConditional(insn) ? { ...insn, off: 0 } : insn);
    else if (isConditional(insn) && next !== slot + 1) {
      leaving.push(row.length + 1);
      row.push({ ...insn, off: 1 }, JUMP);
    } else if (isConditional(insn)) {
      leaving.push(row.length);
      row.push(insn);
    } else if (!isUnconditional(insn)) row.push(insn);
    if (isLddw(insn)) row.push(insns[slot + 1]!);
  });
  for (const slot of leaving) row[slot] = { ...row[slot]!, off: row.length - slot - 1 };
  const zero = { opcode: op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, dst: 0, src: 0, off: 0, imm: 0 };
  return { insns: [...row, zero, { ...zero, opcode: op.OP_EXIT }], last };
}

const JUMP: Insn = { opcode: op.BPF_JMP | op.BPF_JA, dst: 0, src: 0, off: 1, imm: 0 };

/**
 * Whether one of the branches of a way goes where, by what is known of the values, it never goes on any way. Asked by
 * putting a jump on either side of each branch and looking whether it is reached.
 */
async function takesDeadBranch(
  verifier: Verifier,
  request: VerifyRequest,
  path: readonly number[],
): Promise<boolean> {
  const { program } = request;
  const branches = new Map<number, Set<boolean>>();
  path.forEach((slot, index) => {
    const next = path[index + 1];
    if (next === undefined || !isConditional(program.insns[slot]!)) return;
    if (!branches.has(slot)) branches.set(slot, new Set());
    branches.get(slot)!.add(next !== slot + 1);
  });
  if (branches.size === 0) return false;
  const { insns, markers } = withMarkers(program.insns, new Set(branches.keys()));
  const verification = await verifier.verify({
    ...request,
    program: { ...program, insns, debug: undefined },
  });
  const unreachable = verification.accepted ? verification.facts?.unreachable : undefined;
  if (unreachable === undefined) return false;
  return [...branches].some(([slot, directions]) => {
    const { taken, notTaken } = markers.get(slot)!;
    return [...directions].some((direction) => unreachable.has(direction ? taken : notTaken));
  });
}

/** `if … goto L` becomes `if … goto +1; goto +1; goto L`: the second insn is reached if the branch is not taken. */
function withMarkers(
  insns: readonly Insn[],
  branches: ReadonlySet<number>,
): { insns: Insn[]; markers: Map<number, { taken: number; notTaken: number }> } {
  const rows = new Map(
    [...branches].map((slot) => [slot, [{ ...insns[slot]!, off: 1 }, JUMP, JUMP]] as const),
  );
  const { insns: marked, places } = replaceInsns(insns, rows);
  const markers = new Map(
    [...branches].map((slot) => [slot, { notTaken: places[slot]! + 1, taken: places[slot]! + 2 }] as const),
  );
  return { insns: marked, markers };
}
