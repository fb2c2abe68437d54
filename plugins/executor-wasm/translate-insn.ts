import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ADD,
  BPF_ALU64,
  BPF_AND,
  BPF_ARSH,
  BPF_B,
  BPF_CLASS_MASK,
  BPF_CMPXCHG,
  BPF_DIV,
  BPF_DW,
  BPF_END,
  BPF_FETCH,
  BPF_H,
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
  BPF_MEMSX,
  BPF_MOD,
  BPF_MODE_MASK,
  BPF_MOV,
  BPF_MUL,
  BPF_NEG,
  BPF_OP_MASK,
  BPF_OR,
  BPF_RSH,
  BPF_SIZE_MASK,
  BPF_SRC_MASK,
  BPF_SUB,
  BPF_W,
  BPF_X,
  BPF_XCHG,
  BPF_XOR,
} from '../../src/bpf/opcodes.js';
import { sourceOperand, WORD_MAX, type KnownValue } from './known-value.js';
import { accessSize, swapsBytes } from './value-analysis.js';
import { I32, I64, OP, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';

/** Single BPF insns in wasm: arithmetic, conditions and atomics (RFC 9669 sections 4 and 5). */

/** Where an insn's operands are. */
export interface Operands {
  readonly out: FunctionWriter;
  known(register: number): KnownValue;
  /** Pushes the lower 32 bits. */
  pushWord(register: number): void;
  /** Pushes all 64 bits. */
  pushWide(register: number): void;
  pushConstantOrRegister(register: number | undefined, value: KnownValue, wide: boolean): void;
  /** Pops into a register that from now on is held as `value` says. */
  set(register: number, value: KnownValue): void;
  scratch(type: number, purpose: string): number;
  pushAddress(register: number, off: number, size: number, write: boolean, slot: number): number;
}

interface BinaryOpcodes {
  readonly word: number;
  readonly wide: number;
}

const BINARY: Readonly<Record<number, BinaryOpcodes>> = {
  [BPF_ADD]: { word: OP.i32_add, wide: OP.i64_add },
  [BPF_SUB]: { word: OP.i32_sub, wide: OP.i64_sub },
  [BPF_MUL]: { word: OP.i32_mul, wide: OP.i64_mul },
  [BPF_OR]: { word: OP.i32_or, wide: OP.i64_or },
  [BPF_AND]: { word: OP.i32_and, wide: OP.i64_and },
  [BPF_XOR]: { word: OP.i32_xor, wide: OP.i64_xor },
  // WebAssembly masks shift amounts as BPF does.
  [BPF_LSH]: { word: OP.i32_shl, wide: OP.i64_shl },
  [BPF_RSH]: { word: OP.i32_shr_u, wide: OP.i64_shr_u },
  [BPF_ARSH]: { word: OP.i32_shr_s, wide: OP.i64_shr_s },
};

/** An arithmetic insn whose result is known to be `result`. */
export function emitAlu(operands: Operands, insn: Insn, result: KnownValue): void {
  // A constant is held nowhere.
  if (result.form === 'const') return;
  const wide64 = (insn.opcode & BPF_CLASS_MASK) === BPF_ALU64;
  const operation = insn.opcode & BPF_OP_MASK;
  switch (operation) {
    case BPF_MOV:
      emitMove(operands, insn, wide64, result);
      return;
    case BPF_NEG:
      emitNegation(operands, insn, wide64, result);
      return;
    case BPF_END:
      emitByteOrder(operands, insn, result);
      return;
    case BPF_DIV:
    case BPF_MOD:
      emitDivision(operands, insn, wide64, result);
      return;
    default: {
      const src = operandOf(operands, insn);
      const shifts = operation === BPF_RSH || operation === BPF_ARSH;
      // The lower half of a sum, product or left shift depends on the operands' lower halves only; that of a
      // right shift does not.
      const narrow =
        !wide64 || (result.form === 'word' && (!shifts || isPlainWordShift(operands.known(insn.dst), src)));
      operands.pushConstantOrRegister(insn.dst, operands.known(insn.dst), !narrow);
      operands.pushConstantOrRegister(insn.src, src, !narrow);
      const opcodes = BINARY[operation]!;
      if (narrow) {
        // A 64-bit arithmetic shift of a word shifts in zeroes.
        const opcode = wide64 && operation === BPF_ARSH ? OP.i32_shr_u : opcodes.word;
        operands.out.op(opcode);
      } else {
        operands.out.op(opcodes.wide);
        if (result.form === 'word') operands.out.op(OP.i32_wrap_i64);
      }
      operands.set(insn.dst, result);
    }
  }
}

function operandOf(operands: Operands, insn: Insn): KnownValue {
  if ((insn.opcode & BPF_SRC_MASK) === BPF_X) return operands.known(insn.src);
  return sourceOperand(insn, []);
}

/** Whether a 64-bit right shift can be done on 32 bits: of a word, by a known amount below 32. */
function isPlainWordShift(dst: KnownValue, src: KnownValue): boolean {
  return dst.high <= WORD_MAX && src.form === 'const' && (src.constant & 63n) < 32n;
}

function emitMove(operands: Operands, insn: Insn, wide64: boolean, result: KnownValue): void {
  const { out } = operands;
  const src = operandOf(operands, insn);
  if (insn.off === 0 || (src.form === 'word' && src.high < 2 ** (insn.off - 1))) {
    operands.pushConstantOrRegister(insn.src, src, result.form === 'wide');
  } else if (wide64) {
    operands.pushConstantOrRegister(insn.src, src, true);
    out.op(insn.off === 8 ? OP.i64_extend8_s : insn.off === 16 ? OP.i64_extend16_s : OP.i64_extend32_s);
  } else {
    operands.pushConstantOrRegister(insn.src, src, false);
    out.op(insn.off === 8 ? OP.i32_extend8_s : OP.i32_extend16_s);
  }
  operands.set(insn.dst, result);
}

function emitNegation(operands: Operands, insn: Insn, wide64: boolean, result: KnownValue): void {
  if (wide64) operands.out.i64(0n);
  else operands.out.i32(0);
  operands.pushConstantOrRegister(insn.dst, operands.known(insn.dst), wide64);
  operands.out.op(wide64 ? OP.i64_sub : OP.i32_sub);
  operands.set(insn.dst, result);
}

/** Division by zero gives 0, modulo by zero leaves dst; MIN / -1 gives MIN, where wasm would trap. */
function emitDivision(operands: Operands, insn: Insn, wide64: boolean, result: KnownValue): void {
  const { out } = operands;
  const signed = insn.off === 1;
  const modulo = (insn.opcode & BPF_OP_MASK) === BPF_MOD;
  const dst = operands.known(insn.dst);
  const src = operandOf(operands, insn);
  // Unsigned division of words gives the same in 32 bits and in 64.
  const wide = wide64 && result.form === 'wide';
  const narrowed = wide64 && !wide && (dst.high > WORD_MAX || src.high > WORD_MAX);
  const compute64 = wide || narrowed;
  const pushDst = (): void => operands.pushConstantOrRegister(insn.dst, dst, compute64);
  const pushSrc = (): void => operands.pushConstantOrRegister(insn.src, src, compute64);
  const pick = (word: number, wideOpcode: number): number => (compute64 ? wideOpcode : word);
  const divide = signed
    ? modulo
      ? pick(OP.i32_rem_s, OP.i64_rem_s)
      : pick(OP.i32_div_s, OP.i64_div_s)
    : modulo
      ? pick(OP.i32_rem_u, OP.i64_rem_u)
      : pick(OP.i32_div_u, OP.i64_div_u);
  const finish = (): void => {
    if (narrowed) out.op(OP.i32_wrap_i64);
    operands.set(insn.dst, result);
  };
  const bits = wide64 ? 64 : 32;
  const divisor = src.form === 'const' ? BigInt.asIntN(bits, src.constant) : undefined;
  const special = (value: bigint): boolean => value === 0n || (signed && !modulo && value === -1n);
  if (divisor === undefined ? src.low > 0 && src.form === 'word' && !signed : !special(divisor)) {
    pushDst();
    pushSrc();
    out.op(divide);
    finish();
    return;
  }
  const zero = (): void => {
    if (compute64) out.i64(0n);
    else out.i32(0);
  };
  pushSrc();
  if (signed && !modulo) {
    // Divisors 0 and -1 are those that 1 lifts to at most 1; dst times either is what BPF asks for.
    if (compute64) out.i64(1n).op(OP.i64_add).i64(1n).op(OP.i64_le_u);
    else out.i32(1).op(OP.i32_add).i32(1).op(OP.i32_le_u);
  } else {
    out.op(compute64 ? OP.i64_eqz : OP.i32_eqz);
  }
  out.if();
  if (modulo) {
    pushDst();
  } else if (signed) {
    pushDst();
    pushSrc();
    out.op(compute64 ? OP.i64_mul : OP.i32_mul);
  } else {
    zero();
  }
  finish();
  out.else();
  pushDst();
  pushSrc();
  out.op(divide);
  finish();
  out.end();
}

function emitByteOrder(operands: Operands, insn: Insn, result: KnownValue): void {
  const { out } = operands;
  const swap = swapsBytes(insn);
  if (insn.imm === 64) {
    if (!swap) return;
    const value = operands.scratch(I64, 'swap');
    operands.pushWide(insn.dst);
    out.set(value);
    // Bytes within 16 bits, then 16 within 32, then the halves.
    out.get(value).i64(8n).op(OP.i64_shl).i64(0xff00_ff00_ff00_ff00n).op(OP.i64_and);
    out.get(value).i64(8n).op(OP.i64_shr_u).i64(0x00ff_00ff_00ff_00ffn).op(OP.i64_and);
    out.op(OP.i64_or).set(value);
    out.get(value).i64(16n).op(OP.i64_shl).i64(0xffff_0000_ffff_0000n).op(OP.i64_and);
    out.get(value).i64(16n).op(OP.i64_shr_u).i64(0x0000_ffff_0000_ffffn).op(OP.i64_and);
    out.op(OP.i64_or).i64(32n).op(OP.i64_rotl);
    operands.set(insn.dst, result);
    return;
  }
  operands.pushWord(insn.dst);
  if (insn.imm === 32) {
    if (swap) {
      const value = operands.scratch(I32, 'swap');
      out.set(value);
      out.get(value).i32(8).op(OP.i32_rotl).i32(0x00ff_00ff).op(OP.i32_and);
      out
        .get(value)
        .i32(24)
        .op(OP.i32_rotl)
        .i32(0xff00_ff00 | 0)
        .op(OP.i32_and)
        .op(OP.i32_or);
    }
  } else if (swap) {
    const value = operands.scratch(I32, 'swap');
    out.set(value);
    out.get(value).i32(0xff).op(OP.i32_and).i32(8).op(OP.i32_shl);
    out.get(value).i32(8).op(OP.i32_shr_u).i32(0xff).op(OP.i32_and).op(OP.i32_or);
  } else {
    out.i32(0xffff).op(OP.i32_and);
  }
  operands.set(insn.dst, result);
}

interface Comparison {
  readonly word: number;
  readonly wide: number;
  /** The comparison of words that are known to be 64-bit numbers below 2^32: none of them is negative. */
  readonly unsigned: number;
}

const COMPARISONS: Readonly<Record<number, Comparison>> = {
  [BPF_JEQ]: { word: OP.i32_eq, wide: OP.i64_eq, unsigned: OP.i32_eq },
  [BPF_JNE]: { word: OP.i32_ne, wide: OP.i64_ne, unsigned: OP.i32_ne },
  [BPF_JGT]: { word: OP.i32_gt_u, wide: OP.i64_gt_u, unsigned: OP.i32_gt_u },
  [BPF_JGE]: { word: OP.i32_ge_u, wide: OP.i64_ge_u, unsigned: OP.i32_ge_u },
  [BPF_JLT]: { word: OP.i32_lt_u, wide: OP.i64_lt_u, unsigned: OP.i32_lt_u },
  [BPF_JLE]: { word: OP.i32_le_u, wide: OP.i64_le_u, unsigned: OP.i32_le_u },
  [BPF_JSGT]: { word: OP.i32_gt_s, wide: OP.i64_gt_s, unsigned: OP.i32_gt_u },
  [BPF_JSGE]: { word: OP.i32_ge_s, wide: OP.i64_ge_s, unsigned: OP.i32_ge_u },
  [BPF_JSLT]: { word: OP.i32_lt_s, wide: OP.i64_lt_s, unsigned: OP.i32_lt_u },
  [BPF_JSLE]: { word: OP.i32_le_s, wide: OP.i64_le_s, unsigned: OP.i32_le_u },
};

/** Pushes an i32 that is not zero if a conditional jump is taken. */
export function emitCondition(operands: Operands, insn: Insn): void {
  const { out } = operands;
  const operation = insn.opcode & BPF_OP_MASK;
  const narrow = (insn.opcode & BPF_CLASS_MASK) === BPF_JMP32;
  const dst = operands.known(insn.dst);
  const src = operandOf(operands, insn);
  const words = dst.high <= WORD_MAX && src.high <= WORD_MAX;
  if (operation === BPF_JSET) {
    // One operand without upper bits is enough to look at the lower ones only.
    const lower = narrow || dst.high <= WORD_MAX || src.high <= WORD_MAX;
    operands.pushConstantOrRegister(insn.dst, dst, !lower);
    operands.pushConstantOrRegister(insn.src, src, !lower);
    if (lower) out.op(OP.i32_and);
    else out.op(OP.i64_and).i64(0n).op(OP.i64_ne);
    return;
  }
  const wide = !narrow && !words;
  const comparison = COMPARISONS[operation]!;
  operands.pushConstantOrRegister(insn.dst, dst, wide);
  const zero = src.form === 'const' && (narrow ? BigInt.asUintN(32, src.constant) : src.constant) === 0n;
  if (zero && operation === BPF_JEQ) {
    out.op(wide ? OP.i64_eqz : OP.i32_eqz);
    return;
  }
  if (zero && operation === BPF_JNE && !wide) return;
  operands.pushConstantOrRegister(insn.src, src, wide);
  out.op(wide ? comparison.wide : narrow ? comparison.word : comparison.unsigned);
}

/** The load that fits an LDX insn: to an i32 unless it is 8 bytes wide or sign-extends. */
export function loadOpcode(insn: Insn): { readonly opcode: number; readonly signed: boolean } {
  const signed = (insn.opcode & BPF_MODE_MASK) === BPF_MEMSX;
  switch (insn.opcode & BPF_SIZE_MASK) {
    case BPF_B:
      return { opcode: signed ? OP.i64_load8_s : OP.i32_load8_u, signed };
    case BPF_H:
      return { opcode: signed ? OP.i64_load16_s : OP.i32_load16_u, signed };
    case BPF_W:
      return { opcode: signed ? OP.i64_load32_s : OP.i32_load, signed };
    default:
      return { opcode: OP.i64_load, signed };
  }
}

export function storeOpcode(insn: Insn): number {
  switch (insn.opcode & BPF_SIZE_MASK) {
    case BPF_B:
      return OP.i32_store8;
    case BPF_H:
      return OP.i32_store16;
    case BPF_W:
      return OP.i32_store;
    default:
      return OP.i64_store;
  }
}

/**
 * Atomic operations as plain ones: one thread runs a runtime's programs, and wasm's atomic instructions would
 * trap on addresses that are not aligned.
 */
export function emitAtomic(operands: Operands, insn: Insn, slot: number): void {
  const { out } = operands;
  const wide = (insn.opcode & BPF_SIZE_MASK) === BPF_DW;
  const type = wide ? I64 : I32;
  const load = wide ? OP.i64_load : OP.i32_load;
  const store = wide ? OP.i64_store : OP.i32_store;
  const address = operands.scratch(I32, 'atomic address');
  const old = operands.scratch(type, 'atomic old');
  const offset = operands.pushAddress(insn.dst, insn.off, accessSize(insn), true, slot);
  out.tee(address);
  const pushSource = (): void => {
    if (wide) operands.pushWide(insn.src);
    else operands.pushWord(insn.src);
  };
  const oldValue: KnownValue = wide
    ? { form: 'wide', constant: 0n, low: 0, high: Infinity, stack: true }
    : { form: 'word', constant: 0n, low: 0, high: WORD_MAX, stack: false };

  if (insn.imm === BPF_CMPXCHG) {
    out.get(address).memory(load, offset).set(old);
    pushSource();
    out.get(old).get(old);
    if (wide) operands.pushWide(0);
    else operands.pushWord(0);
    out
      .op(wide ? OP.i64_eq : OP.i32_eq)
      .op(OP.select)
      .memory(store, offset);
    out.get(old);
    operands.set(0, oldValue);
    return;
  }
  if (insn.imm === BPF_XCHG) {
    out.get(address).memory(load, offset).set(old);
    pushSource();
  } else {
    out.get(address).memory(load, offset);
    const fetches = (insn.imm & BPF_FETCH) !== 0;
    if (fetches) out.tee(old);
    pushSource();
    const opcodes = BINARY[insn.imm & BPF_OP_MASK]!;
    out.op(wide ? opcodes.wide : opcodes.word);
    if (!fetches) {
      out.memory(store, offset);
      return;
    }
  }
  out.memory(store, offset).get(old);
  operands.set(insn.src, oldValue);
}
