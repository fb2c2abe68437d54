import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ADD,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_CLASS_MASK,
  BPF_DIV,
  BPF_END,
  BPF_JA,
  BPF_JEQ,
  BPF_JGE,
  BPF_JGT,
  BPF_JLE,
  BPF_JLT,
  BPF_JMP32,
  BPF_JNE,
  BPF_JSET,
  BPF_JSGE,
  BPF_JSGT,
  BPF_JSLE,
  BPF_JSLT,
  BPF_LSH,
  BPF_MOD,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OP_MASK,
  BPF_OR,
  BPF_RSH,
  BPF_SRC_MASK,
  BPF_SUB,
  BPF_X,
  BPF_XOR,
} from '../../src/bpf/opcodes.js';

/**
 * What the compiler knows of a 64-bit register or stack cell, and thereby how it is held:
 *
 * - `const`: the value itself; no wasm local holds it.
 * - `word`: the upper 32 bits are zero and the lower lie in [low, high]; an i32 local holds it.
 * - `wide`: nothing; an i64 local holds it.
 *
 * Everything here is exact for any program, verified or not: a `word` is proved, never assumed.
 */
export interface KnownValue {
  readonly form: 'const' | 'word' | 'wide';
  /** For `const`: the value as an unsigned 64-bit number. */
  readonly constant: bigint;
  /** Unsigned bounds, for `word` and for a `const` below 2^32. */
  readonly low: number;
  readonly high: number;
  /** May be, or be made from, a pointer into the stack. */
  readonly stack: boolean;
  /** The program's context: R1 of an XDP program, unchanged. */
  readonly context?: true;
}

export const WORD_MAX = 0xffff_ffff;
const WORD_MASK = 0xffff_ffffn;

const WIDE: KnownValue = { form: 'wide', constant: 0n, low: 0, high: Infinity, stack: false };
const WIDE_STACK: KnownValue = { ...WIDE, stack: true };

export function wide(stack = false): KnownValue {
  return stack ? WIDE_STACK : WIDE;
}

export function word(low = 0, high = WORD_MAX, stack = false): KnownValue {
  if (low === high) return constant(BigInt(low), stack);
  return { form: 'word', constant: 0n, low, high, stack };
}

export function constant(value: bigint, stack = false): KnownValue {
  const unsigned = BigInt.asUintN(64, value);
  if (unsigned > WORD_MASK) return { form: 'const', constant: unsigned, low: 0, high: Infinity, stack };
  const number = Number(unsigned);
  return { form: 'const', constant: unsigned, low: number, high: number, stack };
}

/** The address a constant is, or undefined for what is no constant or lies beyond 32 bits. */
export function constantAddress(value: KnownValue): number | undefined {
  return value.form === 'const' && value.high <= WORD_MAX ? value.low : undefined;
}

/** The lower half of a constant, which is what helpers take of a u32. */
export function constantWord(value: KnownValue): number | undefined {
  return value.form === 'const' ? Number(BigInt.asUintN(32, value.constant)) : undefined;
}

/** What is known of the lower 32 bits, zero-extended. */
export function lowerWord(value: KnownValue): KnownValue {
  if (value.form === 'word') return value;
  if (value.form === 'const') return constant(value.constant & WORD_MASK, value.stack);
  return word(0, WORD_MAX, value.stack);
}

export function sameValue(a: KnownValue, b: KnownValue): boolean {
  return (
    a === b ||
    (a.form === b.form &&
      a.constant === b.constant &&
      a.low === b.low &&
      a.high === b.high &&
      a.stack === b.stack &&
      a.context === b.context)
  );
}

/** What holds on both of two paths. */
export function joinValues(a: KnownValue, b: KnownValue): KnownValue {
  if (sameValue(a, b)) return a;
  const stack = a.stack || b.stack;
  if (a.high > WORD_MAX || b.high > WORD_MAX) return wide(stack);
  if (a.context === true && b.context === true) return a;
  return word(Math.min(a.low, b.low), Math.max(a.high, b.high), stack);
}

/** The join at a place that was visited often: gives up the bound that still moves, so that loops settle. */
export function widenValue(before: KnownValue, after: KnownValue): KnownValue {
  const joined = joinValues(before, after);
  if (joined.form === 'wide' || sameValue(before, joined)) return joined;
  return word(
    joined.low < before.low ? 0 : joined.low,
    joined.high > before.high ? WORD_MAX : joined.high,
    joined.stack,
  );
}

/** Immediates are asked for again and again; programs have few different ones. */
const immediates = new Map<number, KnownValue>();
const MAX_IMMEDIATES = 1024;

export function immediate(value: number): KnownValue {
  let known = immediates.get(value);
  if (known === undefined) {
    if (immediates.size >= MAX_IMMEDIATES) immediates.clear();
    known = constant(BigInt(value));
    immediates.set(value, known);
  }
  return known;
}

/** The source operand of an arithmetic or jump insn: the immediate, sign-extended, or a register. */
export function sourceOperand(insn: Insn, registers: readonly KnownValue[]): KnownValue {
  return (insn.opcode & BPF_SRC_MASK) === BPF_X ? registers[insn.src]! : immediate(insn.imm);
}

/** The result of an arithmetic insn other than BPF_END, by what is known of its operands. */
export function evaluateAlu(insn: Insn, dst: KnownValue, src: KnownValue): KnownValue {
  const wide64 = (insn.opcode & BPF_CLASS_MASK) === BPF_ALU64;
  const operation = insn.opcode & BPF_OP_MASK;
  const stack = (dst.stack && operation !== BPF_MOV) || (src.stack && operation !== BPF_NEG);
  const unary = operation === BPF_MOV || operation === BPF_NEG;
  if ((unary || dst.form === 'const') && (operation === BPF_NEG ? dst : src).form === 'const') {
    const value = constantAlu(insn, dst.constant, src.constant);
    if (operation === BPF_MOV && wide64 && insn.off === 0) return src;
    return constant(value, stack);
  }
  if (operation === BPF_MOV) {
    if (insn.off !== 0) return signExtended(insn.off, wide64, src);
    return wide64 ? src : lowerWord(src);
  }
  const a = wide64 ? dst : lowerWord(dst);
  const b = wide64 ? src : lowerWord(src);
  const unknown = wide64 ? wide(stack) : word(0, WORD_MAX, stack);
  const within = (low: number, high: number): KnownValue =>
    low >= 0 && high <= WORD_MAX ? word(low, high, stack) : unknown;
  const words = a.high <= WORD_MAX && b.high <= WORD_MAX;
  const signed = insn.off === 1;
  switch (operation) {
    case BPF_ADD: {
      if (words) return within(a.low + b.low, a.high + b.high);
      const addend = smallNegative(b, wide64);
      return a.high <= WORD_MAX && addend !== undefined ? within(a.low + addend, a.high + addend) : unknown;
    }
    case BPF_SUB:
      return words ? within(a.low - b.high, a.high - b.low) : unknown;
    case BPF_MUL:
      return words ? within(a.low * b.low, a.high * b.high) : unknown;
    case BPF_DIV:
      if (signed || !words) return unknown;
      return b.low > 0
        ? word(Math.floor(a.low / b.high), Math.floor(a.high / b.low), stack)
        : word(0, a.high, stack);
    case BPF_MOD:
      if (signed || !words) return unknown;
      return word(0, b.low > 0 ? Math.min(a.high, b.high - 1) : a.high, stack);
    case BPF_AND: {
      const high = Math.min(a.high, b.high);
      return high <= WORD_MAX ? word(0, high, stack) : unknown;
    }
    case BPF_OR:
      return words ? word(Math.max(a.low, b.low), allOnes(Math.max(a.high, b.high)), stack) : unknown;
    case BPF_XOR:
      return words ? word(0, allOnes(Math.max(a.high, b.high)), stack) : unknown;
    case BPF_LSH: {
      const shift = shiftAmount(b, wide64);
      return shift !== undefined && words ? within(a.low * 2 ** shift, a.high * 2 ** shift) : unknown;
    }
    case BPF_RSH: {
      const shift = shiftAmount(b, wide64);
      if (a.high <= WORD_MAX) {
        if (shift === undefined) return word(0, a.high, stack);
        return word(Math.floor(a.low / 2 ** shift), Math.floor(a.high / 2 ** shift), stack);
      }
      return shift !== undefined && shift >= 32 ? word(0, 2 ** (64 - shift) - 1, stack) : unknown;
    }
    case BPF_ARSH: {
      // A word is not negative as a 64-bit number; as a 32-bit one it is from 2^31 on.
      const shift = shiftAmount(b, wide64);
      if (a.high > (wide64 ? WORD_MAX : 0x7fff_ffff)) return unknown;
      if (shift === undefined) return word(0, a.high, stack);
      return word(Math.floor(a.low / 2 ** shift), Math.floor(a.high / 2 ** shift), stack);
    }
    default:
      return unknown;
  }
}

/** The result of a byte-order insn: `bits` wide. */
export function evaluateByteOrder(insn: Insn, dst: KnownValue, swap: boolean): KnownValue {
  if (dst.form === 'const') return constant(byteOrder(dst.constant, insn.imm, swap));
  if (insn.imm === 64) return swap ? wide() : dst;
  const value = lowerWord(dst);
  if (insn.imm === 32) return swap ? word() : value;
  return !swap && value.high <= 0xffff ? value : word(0, 0xffff);
}

/** Whether a conditional jump is taken, where that is known. */
export function evaluateJump(insn: Insn, dst: KnownValue, src: KnownValue): boolean | undefined {
  const narrow = (insn.opcode & BPF_CLASS_MASK) === BPF_JMP32;
  const operation = insn.opcode & BPF_OP_MASK;
  if (operation === BPF_JA) return true;
  const a = narrow ? lowerWord(dst) : dst;
  const b = narrow ? lowerWord(src) : src;
  if (a.form === 'const' && b.form === 'const') {
    return constantJump(operation, a.constant, b.constant, narrow ? 32 : 64);
  }
  if (a.high > WORD_MAX || b.high > WORD_MAX) return undefined;
  switch (operation) {
    case BPF_JEQ:
      return a.high < b.low || b.high < a.low ? false : undefined;
    case BPF_JNE:
      return a.high < b.low || b.high < a.low ? true : undefined;
    case BPF_JGT:
      return a.low > b.high ? true : a.high <= b.low ? false : undefined;
    case BPF_JGE:
      return a.low >= b.high ? true : a.high < b.low ? false : undefined;
    case BPF_JLT:
      return a.high < b.low ? true : a.low >= b.high ? false : undefined;
    case BPF_JLE:
      return a.high <= b.low ? true : a.low > b.high ? false : undefined;
    default:
      return undefined;
  }
}

/**
 * What a register is known to hold once a comparison with a constant came out as `taken`; the register as it
 * was where nothing is learnt.
 */
export function refineByJump(insn: Insn, dst: KnownValue, src: KnownValue, taken: boolean): KnownValue {
  if (dst.form !== 'word' || src.high > WORD_MAX) return dst;
  let { low, high } = dst;
  const operation = insn.opcode & BPF_OP_MASK;
  if (operation === (taken ? BPF_JEQ : BPF_JNE)) {
    low = Math.max(low, src.low);
    high = Math.min(high, src.high);
  } else if (operation === (taken ? BPF_JGT : BPF_JLE)) {
    low = Math.max(low, src.low + 1);
  } else if (operation === (taken ? BPF_JGE : BPF_JLT)) {
    low = Math.max(low, src.low);
  } else if (operation === (taken ? BPF_JLT : BPF_JGE)) {
    high = Math.min(high, src.high - 1);
  } else if (operation === (taken ? BPF_JLE : BPF_JGT)) {
    high = Math.min(high, src.high);
  } else if (operation === (taken ? BPF_JNE : BPF_JEQ) && src.form === 'const') {
    if (low === src.low) low++;
    else if (high === src.low) high--;
  }
  // An impossible edge; evaluateJump decides those it can, and a refined value must stay a value.
  return low > high ? dst : word(low, high, dst.stack);
}

/** An added constant that is a small negative number, e.g. `r2 += -4`. */
function smallNegative(value: KnownValue, wide64: boolean): number | undefined {
  if (value.form !== 'const' || !wide64) return undefined;
  const signed = BigInt.asIntN(64, value.constant);
  return signed < 0n && signed >= -0x8000_0000n ? Number(signed) : undefined;
}

function shiftAmount(value: KnownValue, wide64: boolean): number | undefined {
  return value.form === 'const' ? Number(value.constant & (wide64 ? 63n : 31n)) : undefined;
}

/** The smallest 2^n - 1 that is not below `value`. */
function allOnes(value: number): number {
  return value === 0 ? 0 : 2 ** (32 - Math.clz32(value)) - 1;
}

function signExtended(bits: number, wide64: boolean, src: KnownValue): KnownValue {
  const positive = 2 ** (bits - 1);
  if (src.high < positive) return src;
  return wide64 ? wide(src.stack) : word(0, WORD_MAX, src.stack);
}

/** Byte order of a 64-bit constant's lower `bits`. */
function byteOrder(value: bigint, bits: number, swap: boolean): bigint {
  let rest = BigInt.asUintN(bits, value);
  if (!swap) return rest;
  let swapped = 0n;
  for (let i = 0; i < bits; i += 8) {
    swapped = (swapped << 8n) | (rest & 0xffn);
    rest >>= 8n;
  }
  return swapped;
}

/** RFC 9669 section 4.1 on known operands; both unsigned 64-bit. */
function constantAlu(insn: Insn, dst: bigint, src: bigint): bigint {
  const bits = (insn.opcode & BPF_CLASS_MASK) === BPF_ALU64 ? 64 : 32;
  const a = BigInt.asUintN(bits, dst);
  const b = BigInt.asUintN(bits, src);
  const signedA = BigInt.asIntN(bits, a);
  const signedB = BigInt.asIntN(bits, b);
  const shift = b & BigInt(bits - 1);
  const signed = insn.off === 1;
  let result: bigint;
  switch (insn.opcode & BPF_OP_MASK) {
    case BPF_ADD:
      result = a + b;
      break;
    case BPF_SUB:
      result = a - b;
      break;
    case BPF_MUL:
      result = a * b;
      break;
    case BPF_DIV:
      result = b === 0n ? 0n : signed ? signedA / signedB : a / b;
      break;
    case BPF_MOD:
      result = b === 0n ? a : signed ? signedA % signedB : a % b;
      break;
    case BPF_OR:
      result = a | b;
      break;
    case BPF_AND:
      result = a & b;
      break;
    case BPF_XOR:
      result = a ^ b;
      break;
    case BPF_LSH:
      result = a << shift;
      break;
    case BPF_RSH:
      result = a >> shift;
      break;
    case BPF_ARSH:
      result = signedA >> shift;
      break;
    case BPF_NEG:
      result = -a;
      break;
    case BPF_MOV:
      result = insn.off === 0 ? b : BigInt.asIntN(insn.off, b);
      break;
    default:
      throw new RangeError(
        `opcode 0x${insn.opcode.toString(16)} is not arithmetic (${BPF_END.toString(16)})`,
      );
  }
  return BigInt.asUintN(bits, result);
}

function constantJump(operation: number, a: bigint, b: bigint, bits: number): boolean {
  const signedA = BigInt.asIntN(bits, a);
  const signedB = BigInt.asIntN(bits, b);
  switch (operation) {
    case BPF_JEQ:
      return a === b;
    case BPF_JNE:
      return a !== b;
    case BPF_JGT:
      return a > b;
    case BPF_JGE:
      return a >= b;
    case BPF_JLT:
      return a < b;
    case BPF_JLE:
      return a <= b;
    case BPF_JSET:
      return (a & b) !== 0n;
    case BPF_JSGT:
      return signedA > signedB;
    case BPF_JSGE:
      return signedA >= signedB;
    case BPF_JSLT:
      return signedA < signedB;
    case BPF_JSLE:
      return signedA <= signedB;
    default:
      throw new RangeError(`jump operation 0x${operation.toString(16)}`);
  }
}
