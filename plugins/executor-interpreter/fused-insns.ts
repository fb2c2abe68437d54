import type { OpName } from './handlers.js';

/**
 * An insn by its op. One that begins with `=` has as dst what the insn before has as dst, one that begins with `<` has it as
 * src: then the value need not be read from memory, where it is written all the same.
 */
export type FusedInsn = OpName | `=${OpName}` | `<${OpName}`;

type Step = FusedInsn | readonly FusedInsn[];

/** One sequence for each choice of an op in each step. */
function sequences(...steps: readonly Step[]): FusedInsn[][] {
  return steps.reduce<FusedInsn[][]>(
    (before, step) => before.flatMap((start) => [step].flat().map((op) => [...start, op])),
    [[]],
  );
}

const LOADS = ['LDX8', 'LDX16', 'LDX32'] as const;
const LESS_OFTEN = ['LDX64', 'LDX32_STACK', 'LDX64_STACK'] as const;
const IS_EQUAL = ['=JEQ32', '=JNE32'] as const;
const COMPARE = ['=JEQ32', '=JNE32', '=JGT32', '=JLT32'] as const;
const BOUNDS_CHECK = ['MOV64', '=ADD64', '=JGT64'] as const;
const NETWORK_ORDER = ['LDX8', 'LDX8', '=LSH32', '=OR32'] as const;
const KEY = ['MOV64', '=ADD64', 'LDDW'] as const;
const COUNT = ['MOV64', '<ATOMIC_ADD64'] as const;

/**
 * Insns that the run loop executes at once, because they often follow one another in what clang makes of XDP programs: one
 * dispatch for all of them. Nothing else changes: each does what it does alone, and a jump may lead to any of them. Only the
 * last may be one behind which control does not come (EXIT, JA, LOOKUP).
 */
export const FUSED_INSNS: readonly (readonly FusedInsn[])[] = [
  // The bounds check of a packet, what leads to it, and what it lets pass.
  ...sequences('LDX32', 'LDX32', ...BOUNDS_CHECK),
  ...sequences('LDX32', ...BOUNDS_CHECK),
  ...sequences(...BOUNDS_CHECK),
  ...sequences(...BOUNDS_CHECK, LOADS),
  ...sequences(...BOUNDS_CHECK, 'LDX8', 'JA'),
  ...sequences(...BOUNDS_CHECK, ...NETWORK_ORDER),
  ...sequences(...BOUNDS_CHECK, ...NETWORK_ORDER, '=JEQ32', '=JNE32'),
  ...sequences(...BOUNDS_CHECK, 'LDX8', '=AND32', COMPARE),
  ...sequences('MOV64', '=ADD64', ...BOUNDS_CHECK),
  ...sequences('MOV64', '=ADD64'),
  ...sequences('ADD64', '=JGT64'),
  // Fields of headers: of two bytes, one by one, and what they are compared with.
  ...sequences(...NETWORK_ORDER),
  ...sequences(...NETWORK_ORDER, IS_EQUAL),
  ...sequences(...NETWORK_ORDER, '=JEQ32', '=JNE32'),
  ...sequences('LSH32', '=OR32'),
  ...sequences(LOADS, LOADS),
  ...sequences([...LOADS, ...LESS_OFTEN], COMPARE),
  ...sequences(LOADS, '=JEQ32', '=JNE32'),
  ...sequences([...LOADS, ...LESS_OFTEN], '=AND32'),
  ...sequences(LOADS, '=AND32', COMPARE),
  ...sequences('AND32', COMPARE),
  ...sequences('AND32', '=JEQ32', 'MOV32', 'JNE32'),
  ...sequences('MOV32', ['JEQ32', 'JNE32', 'JEQ64']),
  ...sequences(['JEQ32', 'JNE32'], [...IS_EQUAL, ...LOADS]),
  ...sequences(['JEQ64', 'JNE64'], ['MOV64', 'MOV32', 'LDX8', 'LDX32', 'LDX64']),
  ...sequences(LOADS, ['MOV32', '=LSH32', 'JA', '<ADD64']),
  ...sequences('LDX8', '=LSH32', 'AND64', '<ADD64'),
  ...sequences('LDX8', '=LSH32', '=AND64', '<ADD64'),
  // Copies, within the packet and into a key.
  ...sequences('LDX8', ['<STX8', '<STX8_STACK', '<STX32_STACK']),
  ...sequences('LDX16', ['<STX16', '<STX16_STACK', '<STX32_STACK']),
  ...sequences('LDX32', ['<STX32', '<STX32_STACK']),
  ...sequences('LDX64', ['<STX64', '<STX64_STACK']),
  ...sequences('LDX32', '<STX32_STACK', 'LDX32', '<STX32_STACK'),
  ...sequences('LDX32', '<STX32_STACK', 'LDX32', '<STX32_STACK', 'LDX8', '<STX32_STACK'),
  ...sequences('LDX16', '<STX16_STACK', 'LDX16', '<STX16_STACK'),
  ...sequences('LDX16', 'LDX16', '<STX16'),
  ...sequences('LDX16', 'LDX16', '<STX16', 'STX16'),
  ...sequences('LDX16', 'LDX16', '<STX16', 'STX16', 'STX16'),
  ...sequences('STX16', 'STX16'),
  ...sequences('STX8', 'STX8'),
  ...sequences('AND32', ['<STX8_STACK', '<STX32_STACK']),
  ...sequences(['MOV32', 'MOV64'], ['<STX32_STACK', '<STX64_STACK', '<STX8', '<STX32']),
  // A lookup by a key on the stack, and the counter that it finds.
  ...sequences(...KEY, 'LOOKUP'),
  ...sequences(['MOV32', 'AND32'], '<STX32_STACK', ...KEY, 'LOOKUP'),
  ...sequences(...KEY),
  ...sequences('MOV64', '=ADD64', ...KEY),
  ...sequences(['STX32_STACK', 'STX64_STACK'], ['STX32_STACK', 'STX64_STACK']),
  ...sequences(...KEY, 'MOV64', '=ADD64', ['MOV32', 'MOV64'], 'UPDATE'),
  ...sequences('MOV64', '=ADD64', ...KEY, ['MOV32', 'MOV64'], 'UPDATE'),
  ...sequences(['MOV32', 'MOV64'], 'UPDATE'),
  ...sequences(...COUNT),
  ...sequences('JEQ64', ...COUNT),
  ...sequences('JEQ64', ...COUNT, 'MOV32', 'EXIT'),
  ...sequences(...COUNT, 'MOV32', 'EXIT'),
  ...sequences('MOV32', 'EXIT'),
  // Sums, and loops over a packet.
  ...sequences('LDX16', '<ADD64', 'ADD64', 'JEQ32', 'JA'),
  ...sequences('MOV64', '=ADD64', ...BOUNDS_CHECK, 'LDX16', '<ADD64', 'ADD64', '=JEQ32', 'JA'),
  ...sequences('ADD64', ['JA', '=JLT64', '=JNE64', '=JEQ32', '=JNE32', 'ADD64']),
  ...sequences('MOV32', ['MOV32', 'MOV64', '=RSH32', '=AND32', '=ADD32', '=XOR32']),
  ...sequences('MOV64', ['MOV32', 'MOV64', '=RSH64', '=LSH64', '=AND64']),
  ...sequences(['RSH32', 'LSH32'], ['<ADD32', '<XOR32', '<OR32', '=AND32']),
  ...sequences(['ADD32', 'XOR32', 'OR32', 'AND32', 'MUL32'], ['MOV32', '=ADD32', '=XOR32']),
  ...sequences('LSH64', ['=OR64', '<OR64', '=RSH64', '=ARSH64']),
];
