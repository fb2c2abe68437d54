import { isLddw, type Insn } from '../../bpf/insn.js';
import { checkInsn } from '../../bpf/insn-validity.js';
import { XDP_HELPER_PROTOTYPES } from '../../bpf/helper-prototypes.js';
import { formatInsn } from '../../bpf/disassembler.js';
import * as op from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import type { SeededRandom } from '../verifier/seeded-random.js';

/** What a careless or hostile author would get wrong. Each gives a changed insn, or undefined if it does not fit. */
type Mutation = (insn: Insn, random: SeededRandom) => Insn | undefined;

const MUTATIONS: readonly Mutation[] = [
  // A check that is always passed, or never.
  (insn, random) =>
    isConditional(insn)
      ? { opcode: op.BPF_JMP | op.BPF_JA, dst: 0, src: 0, off: random.chance(80) ? 0 : insn.off, imm: 0 }
      : undefined,
  // Off by one: < for <=.
  (insn) => (isConditional(insn) ? swapStrictness(insn) : undefined),
  // Signed for unsigned, and 32 bits for 64.
  (insn) =>
    isConditional(insn) ? { ...insn, opcode: insn.opcode ^ (op.BPF_JMP ^ op.BPF_JMP32) } : undefined,
  (insn) => (isConditional(insn) ? swapSignedness(insn) : undefined),
  // Another place.
  (insn, random) =>
    isAccess(insn)
      ? { ...insn, off: clamp16(insn.off + random.pick([1, -1, 2, 4, 8, -8, 64, -64, 512, -512, 4096])) }
      : undefined,
  // Another size.
  (insn, random) => {
    if (!isAccess(insn)) return undefined;
    const size = random.pick([op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW]);
    return { ...insn, opcode: (insn.opcode & ~op.BPF_SIZE_MASK) | size };
  },
  // Another register.
  (insn, random) => (insn.opcode === op.OP_CALL ? undefined : { ...insn, src: random.below(11) }),
  (insn, random) => ({ ...insn, dst: random.below(11) }),
  // Another constant, e.g. a mask or the number of bytes that a check asks for.
  (insn, random) => {
    const constant = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_ALU64 && (insn.opcode & op.BPF_X) === 0;
    const imm = random.pick([insn.imm + 1, insn.imm - 1, insn.imm * 2, -insn.imm, 0x7fffffff, 0xff, 0xffff]);
    return constant ? { ...insn, imm: imm | 0 } : undefined;
  },
  // 32-bit arithmetic for 64-bit, and another operation.
  (insn) => (isArithmetic(insn) ? { ...insn, opcode: insn.opcode ^ (op.BPF_ALU ^ op.BPF_ALU64) } : undefined),
  (insn, random) =>
    isArithmetic(insn)
      ? { ...insn, opcode: (insn.opcode & ~op.BPF_OP_MASK) | (random.below(13) << 4), off: 0 }
      : undefined,
  // A value that is missing.
  (insn) =>
    isConditional(insn) || insn.opcode === op.OP_EXIT
      ? undefined
      : { opcode: op.BPF_JMP | op.BPF_JA, dst: 0, src: 0, off: 0, imm: 0 },
];

/**
 * Changes one to three insns so that the program may be unsafe: whether it is, is for others to say. Every insn
 * stays a valid encoding, and jumps and calls stay where they are.
 */
export function mutateProgram(program: Program, random: SeededRandom): MutatedProgram {
  return mutate(program, random, MUTATIONS);
}

export interface MutatedProgram {
  readonly program: Program;
  /** What was changed, in words. */
  readonly changes: readonly string[];
}

/**
 * As `mutateProgram`, and it may call other helpers, name other maps, of handles from 1 to `maps` and beyond, and jump and
 * call elsewhere, out of the program even.
 */
export function mutateObjectProgram(program: Program, random: SeededRandom, maps: number): MutatedProgram {
  const references: Mutation = (insn) =>
    isLddw(insn) ? { ...insn, imm: random.below(maps + 2), src: otherSource(insn, random) } : undefined;
  const elsewhere = [references, references, ...ELSEWHERE];
  return mutate(program, random, random.chance(50) ? elsewhere : MUTATIONS);
}

/** Another helper, and another place to go on. */
const ELSEWHERE: readonly Mutation[] = [
  (insn, random) =>
    isHelperCall(insn)
      ? { ...insn, imm: random.pick([...XDP_HELPER_PROTOTYPES.keys()]) + (random.chance(3) ? 300 : 0) }
      : undefined,
  (insn, random) => (isHelperCall(insn) && random.chance(10) ? { ...insn, src: 2 } : undefined),
  (insn, random) => (isLocalCall(insn) ? { ...insn, imm: insn.imm + random.pick(DISTANCES) } : undefined),
  (insn, random) =>
    isConditional(insn) || insn.opcode === (op.BPF_JMP | op.BPF_JA)
      ? { ...insn, off: clamp16(insn.off + random.pick(DISTANCES)) }
      : undefined,
  (insn) => (insn.opcode === op.OP_EXIT ? { opcode: NOP, dst: 0, src: 0, off: 0, imm: 0 } : undefined),
  (insn, random) => (isArithmetic(insn) ? { ...insn, imm: 0, dst: random.pick([insn.dst, 10]) } : undefined),
];
const NOP = op.BPF_JMP | op.BPF_JA;
const DISTANCES = [1, -1, 2, -2, 5, -9, -40, 40, 1000, -1000];

/** What an lddw loads: a map, a map's value, mostly what it was. */
function otherSource({ src }: Insn, random: SeededRandom): number {
  return random.chance(70) ? src : random.below(7);
}

function isHelperCall({ opcode, src }: Insn): boolean {
  return opcode === op.OP_CALL && src === op.BPF_CALL_HELPER;
}

function isLocalCall({ opcode, src }: Insn): boolean {
  return opcode === op.OP_CALL && src === op.BPF_PSEUDO_CALL;
}

function mutate(program: Program, random: SeededRandom, mutations: readonly Mutation[]): MutatedProgram {
  const insns = [...program.insns];
  const changes: string[] = [];
  for (let left = 1 + random.below(3), attempts = 0; left > 0 && attempts < 100; attempts++) {
    const slot = random.below(insns.length);
    const insn = insns[slot]!;
    // An lddw is two slots that only make sense together.
    if ((isLddw(insn) && mutations === MUTATIONS) || insn.opcode === 0) continue;
    const changed = random.pick(mutations)(insn, random);
    if (changed === undefined || sameInsn(insn, changed)) continue;
    const before = formatInsn(insns, slot);
    insns[slot] = changed;
    // A hostile guest does not keep to valid encodings.
    const mayBeInvalid = mutations !== MUTATIONS && random.chance(5);
    if (!mayBeInvalid && checkInsn(insns, slot) !== undefined) {
      insns[slot] = insn;
      continue;
    }
    changes.push(`insn ${slot}: ${before} became ${formatInsn(insns, slot)}`);
    left--;
  }
  return { program: { ...program, insns }, changes };
}

const SWAPPED_STRICTNESS: Readonly<Record<number, number>> = {
  [op.BPF_JGT]: op.BPF_JGE,
  [op.BPF_JGE]: op.BPF_JGT,
  [op.BPF_JLT]: op.BPF_JLE,
  [op.BPF_JLE]: op.BPF_JLT,
  [op.BPF_JSGT]: op.BPF_JSGE,
  [op.BPF_JSGE]: op.BPF_JSGT,
  [op.BPF_JSLT]: op.BPF_JSLE,
  [op.BPF_JSLE]: op.BPF_JSLT,
  [op.BPF_JEQ]: op.BPF_JNE,
  [op.BPF_JNE]: op.BPF_JEQ,
};

const SWAPPED_SIGNEDNESS: Readonly<Record<number, number>> = {
  [op.BPF_JGT]: op.BPF_JSGT,
  [op.BPF_JGE]: op.BPF_JSGE,
  [op.BPF_JLT]: op.BPF_JSLT,
  [op.BPF_JLE]: op.BPF_JSLE,
};

function swapStrictness(insn: Insn): Insn | undefined {
  return withOperation(insn, SWAPPED_STRICTNESS[insn.opcode & op.BPF_OP_MASK]);
}

function swapSignedness(insn: Insn): Insn | undefined {
  return withOperation(insn, SWAPPED_SIGNEDNESS[insn.opcode & op.BPF_OP_MASK]);
}

function withOperation(insn: Insn, code: number | undefined): Insn | undefined {
  return code === undefined ? undefined : { ...insn, opcode: (insn.opcode & ~op.BPF_OP_MASK) | code };
}

function isConditional({ opcode }: Insn): boolean {
  const insnClass = opcode & op.BPF_CLASS_MASK;
  if (insnClass !== op.BPF_JMP && insnClass !== op.BPF_JMP32) return false;
  const code = opcode & op.BPF_OP_MASK;
  return code !== op.BPF_JA && code !== op.BPF_CALL && code !== op.BPF_EXIT;
}

function isAccess({ opcode }: Insn): boolean {
  const insnClass = opcode & op.BPF_CLASS_MASK;
  return insnClass === op.BPF_LDX || insnClass === op.BPF_ST || insnClass === op.BPF_STX;
}

function isArithmetic({ opcode }: Insn): boolean {
  const insnClass = opcode & op.BPF_CLASS_MASK;
  return insnClass === op.BPF_ALU || insnClass === op.BPF_ALU64;
}

function sameInsn(a: Insn, b: Insn): boolean {
  return a.opcode === b.opcode && a.dst === b.dst && a.src === b.src && a.off === b.off && a.imm === b.imm;
}

function clamp16(value: number): number {
  return Math.max(-0x8000, Math.min(0x7fff, value));
}
