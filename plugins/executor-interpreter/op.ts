/**
 * Operations of the predecoded form. Immediates lie in constant registers behind R10, so that most operations
 * have one form for both source operands. Names: the RFC's mnemonic, then the width.
 *
 * The switch in run-loop.ts repeats the numbers, because it becomes a jump table only if its labels are literals;
 * `satisfies` proves there that they are the right ones.
 */
export const Op = {
  /** Not an insn: the second slot of an `lddw`, or behind the last insn. */
  INVALID: 0,
  /** Hands control to a debugger before the insn. */
  PAUSE: 1,
  EXIT: 2,
  CALL_HELPER: 3,
  CALL_LOCAL: 4,
  TAIL_CALL: 5,
  /** dst := a constant, and on past the second slot. */
  LDDW: 6,
  JA: 7,

  ADD64: 8,
  SUB64: 9,
  MUL64: 10,
  DIV64: 11,
  SDIV64: 12,
  MOD64: 13,
  SMOD64: 14,
  OR64: 15,
  AND64: 16,
  XOR64: 17,
  MOV64: 18,
  NEG64: 19,
  LSH64: 20,
  RSH64: 21,
  ARSH64: 22,
  /** Shifts by a constant in x: 0 … 31, and by 32 + x. */
  LSH64_SHORT: 23,
  LSH64_LONG: 24,
  RSH64_SHORT: 25,
  RSH64_LONG: 26,
  ARSH64_SHORT: 27,
  ARSH64_LONG: 28,
  /** Sign extension of the lower 32 - x bits, x in {0, 16, 24}. */
  MOVSX64: 29,
  BSWAP64: 30,

  ADD32: 31,
  SUB32: 32,
  MUL32: 33,
  DIV32: 34,
  SDIV32: 35,
  MOD32: 36,
  SMOD32: 37,
  OR32: 38,
  AND32: 39,
  XOR32: 40,
  MOV32: 41,
  NEG32: 42,
  LSH32: 43,
  RSH32: 44,
  ARSH32: 45,
  MOVSX32: 46,
  BSWAP32: 47,
  BSWAP16: 48,
  /** dst := its lower 16 bits (le16 on a little-endian machine). */
  TRUNCATE16: 49,
  NOP: 50,

  JEQ64: 51,
  JNE64: 52,
  JSET64: 53,
  JGT64: 54,
  JGE64: 55,
  JLT64: 56,
  JLE64: 57,
  JSGT64: 58,
  JSGE64: 59,
  JSLT64: 60,
  JSLE64: 61,
  JEQ32: 62,
  JNE32: 63,
  JSET32: 64,
  JGT32: 65,
  JGE32: 66,
  JLT32: 67,
  JLE32: 68,
  JSGT32: 69,
  JSGE32: 70,
  JSLT32: 71,
  JSLE32: 72,

  LDX8: 73,
  LDX16: 74,
  LDX32: 75,
  LDX64: 76,
  LDXS8: 77,
  LDXS16: 78,
  LDXS32: 79,
  STX8: 80,
  STX16: 81,
  STX32: 82,
  STX64: 83,
  /** Aligned accesses relative to R10 whose offset lies within the frame: proved when decoding, so unchecked. */
  LDX32_STACK: 84,
  LDX64_STACK: 85,
  STX32_STACK: 86,
  STX64_STACK: 87,
  ATOMIC_ADD32: 88,
  ATOMIC_ADD64: 89,
  /** Every other atomic: its size and kind are read from the insn. */
  ATOMIC: 90,
  /** bpf_map_lookup_elem. */
  CALL_LOOKUP: 91,

  /** Insns at once (fuse-insns.ts): MOV64 and ADD64 to the same register, the same and JGT64, ADD64 and JGT64. */
  SUM64: 92,
  SUM64_JGT64: 93,
  ADD64_JGT64: 94,
} as const;
export type Op = (typeof Op)[keyof typeof Op];
