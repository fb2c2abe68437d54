import { isLddw, type Insn } from './insn.js';
import * as op from './opcodes.js';

/**
 * Conformance groups (RFC 9669 section 2.4). xdpbed implements all of them but `packet`, the legacy access to
 * socket buffers, which no XDP program can use.
 *
 * | group      | adds                                                              |
 * |------------|-------------------------------------------------------------------|
 * | `base32`   | 32-bit arithmetic, JMP32, JA, CALL, EXIT, loads and stores up to W, byte swaps of 16 and 32 bits |
 * | `base64`   | ALU64, the conditional jumps of JMP, DW, `lddw`, byte swaps of 64 bits |
 * | `divmul32` | MUL, DIV, MOD and their signed forms in class ALU                 |
 * | `divmul64` | the same in class ALU64                                           |
 * | `atomic32` | atomic operations on W                                            |
 * | `atomic64` | atomic operations on DW                                           |
 * | `packet`   | class LD with modes ABS and IND                                   |
 */
export type ConformanceGroup =
  'base32' | 'base64' | 'divmul32' | 'divmul64' | 'atomic32' | 'atomic64' | 'packet';

/** The group of a valid insn. */
export function conformanceGroup(insn: Insn): ConformanceGroup {
  const code = insn.opcode & op.BPF_OP_MASK;
  const isDoubleWord = (insn.opcode & op.BPF_SIZE_MASK) === op.BPF_DW;
  const isDivMul = code === op.BPF_MUL || code === op.BPF_DIV || code === op.BPF_MOD;
  switch (insn.opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
      if (isDivMul) return 'divmul32';
      return code === op.BPF_END && insn.imm === 64 ? 'base64' : 'base32';
    case op.BPF_ALU64:
      if (isDivMul) return 'divmul64';
      return code === op.BPF_END && insn.imm !== 64 ? 'base32' : 'base64';
    case op.BPF_JMP:
      return code === op.BPF_JA || code === op.BPF_CALL || code === op.BPF_EXIT ? 'base32' : 'base64';
    case op.BPF_JMP32:
      return 'base32';
    case op.BPF_LD:
      return isLddw(insn) ? 'base64' : 'packet';
    case op.BPF_STX:
      if ((insn.opcode & op.BPF_MODE_MASK) === op.BPF_ATOMIC) return isDoubleWord ? 'atomic64' : 'atomic32';
      return isDoubleWord ? 'base64' : 'base32';
    default:
      return isDoubleWord ? 'base64' : 'base32';
  }
}

/**
 * Why the insn at slot `index` is not a valid encoding, in lower case; undefined when it is. Rejects what RFC
 * 9669 leaves unused: unknown opcodes, fields that have to be zero, registers past R10, writes to the frame
 * pointer, widths and modifiers that an operation does not have; and the group `packet`. It looks at one insn
 * only, the second slot of an `lddw` included: jump targets and the like are the verifier's business. The second
 * slot itself is valid exactly where it follows a first one.
 */
export function checkInsn(insns: readonly Insn[], index: number): string | undefined {
  const insn = insns[index];
  if (insn === undefined) return `slot ${index} is past the end of the program`;
  if (insn.opcode === 0 && isLddw(insns[index - 1])) return checkSecondSlot(insn);
  switch (insn.opcode & op.BPF_CLASS_MASK) {
    case op.BPF_ALU:
    case op.BPF_ALU64:
      return checkArithmetic(insn);
    case op.BPF_JMP:
    case op.BPF_JMP32:
      return checkJump(insn);
    case op.BPF_LD:
      return checkLoadImmediate(insns, index, insn);
    case op.BPF_LDX:
      return checkLoad(insn);
    default:
      return checkStore(insn);
  }
}

/** The first insn of a program that is not valid. */
export function findInvalidInsn(
  insns: readonly Insn[],
): { readonly insn: number; readonly reason: string } | undefined {
  for (let insn = 0; insn < insns.length; insn++) {
    const reason = checkInsn(insns, insn);
    if (reason !== undefined) return { insn, reason };
  }
  return undefined;
}

const DEFINED_ATOMICS = new Set([
  ...[op.BPF_ADD, op.BPF_OR, op.BPF_AND, op.BPF_XOR].flatMap((code) => [code, code | op.BPF_FETCH]),
  op.BPF_XCHG,
  op.BPF_CMPXCHG,
]);

function checkArithmetic(insn: Insn): string | undefined {
  const code = insn.opcode & op.BPF_OP_MASK;
  const is64 = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_ALU64;
  const fromRegister = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  if (code > op.BPF_END) return unknownOpcode(insn);
  if (code === op.BPF_END) {
    if (is64 && fromRegister) return unknownOpcode(insn);
    if (insn.imm !== 16 && insn.imm !== 32 && insn.imm !== 64) return `byte swap of ${insn.imm} bits`;
    return destination(insn) ?? zero(insn, 'byte swap', 'src', 'off');
  }
  if (code === op.BPF_NEG) {
    if (fromRegister) return unknownOpcode(insn);
    return destination(insn) ?? zero(insn, 'negation', 'src', 'off', 'imm');
  }
  const offset = checkArithmeticOffset(insn, code, is64, fromRegister);
  if (offset !== undefined) return offset;
  return (
    destination(insn) ??
    (fromRegister
      ? (source(insn) ?? zero(insn, 'register operand', 'imm'))
      : zero(insn, 'immediate operand', 'src'))
  );
}

function checkArithmeticOffset(
  insn: Insn,
  code: number,
  is64: boolean,
  fromRegister: boolean,
): string | undefined {
  if (insn.off === 0) return undefined;
  if ((code === op.BPF_DIV || code === op.BPF_MOD) && insn.off === 1) return undefined;
  if (code === op.BPF_MOV && fromRegister) {
    if (insn.off === 8 || insn.off === 16 || (insn.off === 32 && is64)) return undefined;
    return `sign extension of ${insn.off} bits to ${is64 ? 64 : 32}`;
  }
  return `off ${insn.off} in an arithmetic insn that has none`;
}

function checkJump(insn: Insn): string | undefined {
  const code = insn.opcode & op.BPF_OP_MASK;
  const is32 = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_JMP32;
  const fromRegister = (insn.opcode & op.BPF_SRC_MASK) === op.BPF_X;
  switch (code) {
    case op.BPF_JA:
      if (fromRegister) return unknownOpcode(insn);
      return zero(insn, is32 ? 'gotol' : 'goto', 'dst', 'src', is32 ? 'off' : 'imm');
    case op.BPF_CALL:
      if (fromRegister || is32) return unknownOpcode(insn);
      if (insn.src > op.BPF_PSEUDO_KFUNC_CALL) return `call of unknown kind (src ${insn.src})`;
      return zero(insn, 'call', 'dst', 'off');
    case op.BPF_EXIT:
      if (fromRegister || is32) return unknownOpcode(insn);
      return zero(insn, 'exit', 'dst', 'src', 'off', 'imm');
    case 0xe0:
    case 0xf0:
      return unknownOpcode(insn);
    default:
      if (insn.dst > op.FRAME_POINTER) return `register r${insn.dst} does not exist`;
      return fromRegister
        ? (source(insn) ?? zero(insn, 'comparison of registers', 'imm'))
        : zero(insn, 'comparison with an immediate', 'src');
  }
}

function checkLoadImmediate(insns: readonly Insn[], index: number, insn: Insn): string | undefined {
  const mode = insn.opcode & op.BPF_MODE_MASK;
  if (mode === op.BPF_ABS || mode === op.BPF_IND) {
    return (insn.opcode & op.BPF_SIZE_MASK) === op.BPF_DW
      ? unknownOpcode(insn)
      : 'legacy packet access, which is deprecated and not for XDP';
  }
  if (!isLddw(insn)) {
    return insn.opcode === 0 ? 'second slot of an lddw without a first' : unknownOpcode(insn);
  }
  const next = insns[index + 1];
  if (next === undefined) return 'lddw lacks its second slot';
  if (next.opcode !== 0) return 'second slot of lddw has an opcode';
  if (insn.src > op.BPF_PSEUDO_MAP_IDX_VALUE) return `lddw of unknown kind (src ${insn.src})`;
  const hasSecondValue =
    insn.src === 0 || insn.src === op.BPF_PSEUDO_MAP_VALUE || insn.src === op.BPF_PSEUDO_MAP_IDX_VALUE;
  if (!hasSecondValue && next.imm !== 0) {
    return `second slot of lddw has imm ${next.imm}, which has to be 0 for src ${insn.src}`;
  }
  return destination(insn) ?? zero(insn, 'lddw', 'off') ?? checkSecondSlot(next);
}

function checkSecondSlot(insn: Insn): string | undefined {
  return zero(insn, 'second slot of lddw', 'dst', 'src', 'off');
}

function checkLoad(insn: Insn): string | undefined {
  const mode = insn.opcode & op.BPF_MODE_MASK;
  const isDoubleWord = (insn.opcode & op.BPF_SIZE_MASK) === op.BPF_DW;
  if (mode !== op.BPF_MEM && (mode !== op.BPF_MEMSX || isDoubleWord)) return unknownOpcode(insn);
  return destination(insn) ?? source(insn) ?? zero(insn, 'load', 'imm');
}

function checkStore(insn: Insn): string | undefined {
  const mode = insn.opcode & op.BPF_MODE_MASK;
  const size = insn.opcode & op.BPF_SIZE_MASK;
  const fromRegister = (insn.opcode & op.BPF_CLASS_MASK) === op.BPF_STX;
  // The address is read, so that the frame pointer may stand here.
  if (insn.dst > op.FRAME_POINTER) return `register r${insn.dst} does not exist`;
  if (mode === op.BPF_MEM) {
    return fromRegister
      ? (source(insn) ?? zero(insn, 'store', 'imm'))
      : zero(insn, 'store of an immediate', 'src');
  }
  if (mode !== op.BPF_ATOMIC || !fromRegister) return unknownOpcode(insn);
  if (size !== op.BPF_W && size !== op.BPF_DW) return 'atomic operation on less than 4 bytes';
  if (!DEFINED_ATOMICS.has(insn.imm)) return `unknown atomic operation 0x${(insn.imm >>> 0).toString(16)}`;
  const writesSource = (insn.imm & op.BPF_FETCH) !== 0 && insn.imm !== op.BPF_CMPXCHG;
  if (writesSource && insn.src === op.FRAME_POINTER) return 'r10 is read-only';
  return source(insn) ?? zero(insn, 'atomic operation');
}

function unknownOpcode(insn: Insn): string {
  return `unknown opcode 0x${insn.opcode.toString(16).padStart(2, '0')}`;
}

function destination(insn: Insn): string | undefined {
  if (insn.dst > op.FRAME_POINTER) return `register r${insn.dst} does not exist`;
  return insn.dst === op.FRAME_POINTER ? 'r10 is read-only' : undefined;
}

function source(insn: Insn): string | undefined {
  return insn.src > op.FRAME_POINTER ? `register r${insn.src} does not exist` : undefined;
}

/** "Unused fields SHALL be cleared to zero" (section 3.1). */
function zero(insn: Insn, what: string, ...fields: ('dst' | 'src' | 'off' | 'imm')[]): string | undefined {
  for (const field of fields) {
    if (insn[field] !== 0) return `${what} has ${field} ${insn[field]}, which has to be 0`;
  }
  return undefined;
}
