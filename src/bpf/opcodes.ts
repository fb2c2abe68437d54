/**
 * Opcode fields of the BPF instruction set, RFC 9669 section 3 onwards. Constants keep the RFC's spelling.
 *
 * ```
 *   opcode byte, arithmetic and jump classes      opcode byte, load and store classes
 *   +----------------+--------+-------+           +--------+-------+-------+
 *   | code (4 bits)  | source | class |           |  mode  |  size | class |
 *   +----------------+--------+-------+           +--------+-------+-------+
 *    7             4     3     2     0             7     5   4   3   2     0
 * ```
 */

/** Instruction classes (RFC 9669 section 3.1). */
export const BPF_LD = 0x00;
export const BPF_LDX = 0x01;
export const BPF_ST = 0x02;
export const BPF_STX = 0x03;
export const BPF_ALU = 0x04;
export const BPF_JMP = 0x05;
export const BPF_JMP32 = 0x06;
export const BPF_ALU64 = 0x07;
export const BPF_CLASS_MASK = 0x07;

/** Source operand: K = the 32-bit immediate, X = the source register (section 3.3). */
export const BPF_K = 0x00;
export const BPF_X = 0x08;
export const BPF_SRC_MASK = 0x08;

/** Arithmetic codes (section 4.1). */
export const BPF_ADD = 0x00;
export const BPF_SUB = 0x10;
export const BPF_MUL = 0x20;
/** Signed division when `off` is 1. */
export const BPF_DIV = 0x30;
export const BPF_OR = 0x40;
export const BPF_AND = 0x50;
export const BPF_LSH = 0x60;
export const BPF_RSH = 0x70;
export const BPF_NEG = 0x80;
/** Signed modulo when `off` is 1. */
export const BPF_MOD = 0x90;
export const BPF_XOR = 0xa0;
/** MOVSX when `off` is 8, 16 or 32. */
export const BPF_MOV = 0xb0;
export const BPF_ARSH = 0xc0;
/** Byte swaps (section 4.2); in class ALU64 with source K: unconditional BSWAP. */
export const BPF_END = 0xd0;
export const BPF_OP_MASK = 0xf0;

/** Byte order conversions, in the source bit of BPF_END in class ALU. */
export const BPF_TO_LE = 0x00;
export const BPF_TO_BE = 0x08;

/** Jump codes (section 4.3). JA in class JMP32 is `gotol`, its offset in imm. */
export const BPF_JA = 0x00;
export const BPF_JEQ = 0x10;
export const BPF_JGT = 0x20;
export const BPF_JGE = 0x30;
export const BPF_JSET = 0x40;
export const BPF_JNE = 0x50;
export const BPF_JSGT = 0x60;
export const BPF_JSGE = 0x70;
export const BPF_CALL = 0x80;
export const BPF_EXIT = 0x90;
export const BPF_JLT = 0xa0;
export const BPF_JLE = 0xb0;
export const BPF_JSLT = 0xc0;
export const BPF_JSLE = 0xd0;

/** Sizes (section 5). */
export const BPF_W = 0x00;
export const BPF_H = 0x08;
export const BPF_B = 0x10;
export const BPF_DW = 0x18;
export const BPF_SIZE_MASK = 0x18;

/** Modes (section 5). ABS and IND are the legacy packet access of section 5.5, which XDP does not allow. */
export const BPF_IMM = 0x00;
export const BPF_ABS = 0x20;
export const BPF_IND = 0x40;
export const BPF_MEM = 0x60;
export const BPF_MEMSX = 0x80;
export const BPF_ATOMIC = 0xc0;
export const BPF_MODE_MASK = 0xe0;

/** Atomic operations, in imm (section 5.3). FETCH is a modifier; XCHG and CMPXCHG always carry it. */
export const BPF_FETCH = 0x01;
export const BPF_XCHG = 0xe0 | BPF_FETCH;
export const BPF_CMPXCHG = 0xf0 | BPF_FETCH;

/** Source register of `lddw` (section 5.4, table 11): what the 64-bit immediate means. */
export const BPF_PSEUDO_MAP_FD = 1;
export const BPF_PSEUDO_MAP_VALUE = 2;
export const BPF_PSEUDO_BTF_ID = 3;
export const BPF_PSEUDO_FUNC = 4;
export const BPF_PSEUDO_MAP_IDX = 5;
export const BPF_PSEUDO_MAP_IDX_VALUE = 6;

/** Source register of CALL (section 4.3.1, table 9): what imm means. */
export const BPF_CALL_HELPER = 0;
export const BPF_PSEUDO_CALL = 1;
export const BPF_PSEUDO_KFUNC_CALL = 2;

/** The opcode of `lddw`, the one instruction of two slots. */
export const OP_LDDW = BPF_LD | BPF_IMM | BPF_DW;
export const OP_CALL = BPF_JMP | BPF_CALL;
export const OP_EXIT = BPF_JMP | BPF_EXIT;

/** R0 … R9 general purpose, R10 the read-only frame pointer. */
export const REGISTER_COUNT = 11;
export const FRAME_POINTER = 10;

/** Bytes of stack one frame may use (kernel `MAX_BPF_STACK`). */
export const MAX_BPF_STACK = 512;
/** Depth of nested local calls, the main program included (kernel `MAX_CALL_FRAMES`). */
export const MAX_CALL_FRAMES = 8;
/** Tail calls in one run (kernel `MAX_TAIL_CALL_CNT`). */
export const MAX_TAIL_CALL_CNT = 33;
