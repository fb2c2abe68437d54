import { isLddw, lddwImmediate, type Insn } from '../../bpf/insn.js';
import { isConditionalJump } from '../../bpf/jumps.js';
import * as op from '../../bpf/opcodes.js';

/** What a program compares packets with, as far as its insns say it: what random bytes would hardly ever hit. */
export interface ProgramConstants {
  /** As they could lie in a packet: 1, 2, 4 or 8 bytes, in both orders. */
  readonly words: readonly Uint8Array[];
  /** Lengths of packets about which something may change, in bytes, ascending. */
  readonly lengths: readonly number[];
}

/** Offsets above this are of no packet. */
const LONGEST = 16_384;
/** Numbers, so that a program full of tables does not crowd out everything else. */
const MOST_NUMBERS = 2048;

/**
 * The constants of a program: immediates that jumps, moves and logic name with their neighbours, and of what is added to
 * pointers (`data + 34 > data_end`) the lengths just below, at and above it.
 */
export function programConstants(insns: readonly Insn[]): ProgramConstants {
  const numbers = new Set<bigint>();
  const lengths = new Set<number>();
  const take = (value: bigint): void => {
    if (numbers.size < MOST_NUMBERS) numbers.add(BigInt.asUintN(64, value));
  };
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    if (isLddw(insn)) {
      if (insn.src === 0) take(lddwImmediate(insns, slot));
      slot++;
      continue;
    }
    const kind = insn.opcode & op.BPF_CLASS_MASK;
    const isImmediate = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_K;
    if (!isImmediate) continue;
    const imm = BigInt(insn.imm);
    if (isConditionalJump(insn)) {
      for (const value of [imm, imm - 1n, imm + 1n]) take(value);
    } else if (kind === op.BPF_ALU || kind === op.BPF_ALU64) {
      const operation = insn.opcode & op.BPF_OP_MASK;
      if (operation === op.BPF_ADD && kind === op.BPF_ALU64) {
        if (insn.imm > 0 && insn.imm < LONGEST)
          for (const length of [insn.imm - 1, insn.imm, insn.imm + 1]) lengths.add(length);
        // `x - 6 < 12` is how compilers write `6 <= x && x < 18`.
        take(-imm);
      } else if (operation === op.BPF_MOV || operation === op.BPF_AND || operation === op.BPF_XOR) {
        take(imm);
      } else if (operation === op.BPF_ADD) {
        take(-imm);
      }
    }
  }
  return {
    words: [...numbers].flatMap(wordsOf),
    lengths: [...lengths].sort((a, b) => a - b),
  };
}

/** A number as it may lie in a packet: in each width that holds it, in the order of memory and of the network. */
function wordsOf(value: bigint): Uint8Array[] {
  const words: Uint8Array[] = [];
  const signed = BigInt.asIntN(64, value);
  for (const [bytes, bits] of [
    [1, 8],
    [2, 16],
    [4, 32],
    [8, 64],
  ] as const) {
    const fits = value < 1n << BigInt(bits) || (signed < 0n && signed >= -(1n << BigInt(bits - 1)));
    if (!fits) continue;
    // Of a small number, 4 and 8 bytes are mostly zeros, which is what packets are full of.
    if (bytes === 8 && value < 1n << 32n) continue;
    const little = new Uint8Array(bytes);
    for (let i = 0; i < bytes; i++) little[i] = Number((value >> BigInt(8 * i)) & 0xffn);
    words.push(little);
    if (bytes > 1) words.push(little.slice().reverse());
  }
  return words;
}
