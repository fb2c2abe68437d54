import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import type { VerifyRequest } from '../../src/core/contract/verifier.js';
import { replaceInsns } from './replace-insns.js';

/** A program that may do whatever another may, and where that one's insns are in it. */
export interface Stead {
  readonly request: VerifyRequest;
  readonly placeOf: (insn: number) => number;
  readonly pathOf: (path: readonly number[]) => number[];
}

/** What each tail call of `withoutTailCalls` becomes; R1 is the context. */
const EITHER: readonly Insn[] = [
  insn({ opcode: op.BPF_LDX | op.BPF_MEM | op.BPF_W, dst: 2, src: 1, off: 16 }),
  insn({ opcode: op.BPF_JMP | op.BPF_JEQ | op.BPF_K, dst: 2, off: 4 }),
  insn({ opcode: op.BPF_ALU64 | op.BPF_MOV | op.BPF_K, dst: 2 }),
  helper(BPF_FUNC.xdp_adjust_head),
  helper(BPF_FUNC.ktime_get_ns),
  insn({ opcode: op.OP_EXIT }),
  helper(BPF_FUNC.ktime_get_ns),
];
/** Those of a tail call that fails. */
const FAILED: readonly number[] = [0, 1, 6];

/**
 * The same with local calls and exits only: where a tail call was, the packet is moved and any number returned, or else it
 * goes on with any number in R0, by a field of the context that a verifier takes for another number at each read. What is proved of
 * that holds for the program with tail calls, whatever a verifier believes of these.
 */
export function withoutTailCalls(request: VerifyRequest): Stead {
  const { program } = request;
  const rows = new Map(
    program.insns.flatMap((each, slot) => (isTailCall(each) ? [[slot, EITHER] as const] : [])),
  );
  const { insns, places } = replaceInsns(program.insns, rows);
  return {
    request: { ...request, program: { ...program, insns, debug: undefined } },
    placeOf: (slot) => places[slot]!,
    pathOf: (path) =>
      path.flatMap((slot, index) => {
        const isPassed = rows.has(slot) && index < path.length - 1;
        return (isPassed ? FAILED : [0]).map((step) => places[slot]! + step);
      }),
  };
}

/** Tail calls beside local calls: what a local function returns may then be another program's. */
export function isLeftByTailCall(insns: readonly Insn[]): boolean {
  return insns.some(isTailCall) && insns.some(isLocalCall);
}

function isLocalCall({ opcode, src }: Insn): boolean {
  return opcode === op.OP_CALL && src === op.BPF_PSEUDO_CALL;
}

function isTailCall({ opcode, src, imm }: Insn): boolean {
  return opcode === op.OP_CALL && src === op.BPF_CALL_HELPER && imm === BPF_FUNC.tail_call;
}

function insn(fields: Partial<Insn> & Pick<Insn, 'opcode'>): Insn {
  return { dst: 0, src: 0, off: 0, imm: 0, ...fields };
}

function helper(id: number): Insn {
  return insn({ opcode: op.OP_CALL, imm: id });
}
