import { XdpbedError } from '../../src/core/diagnostic.js';
import type { ExecutionEnvironment } from '../../src/core/contract/executor.js';
import { BPF_FUNC, helperName } from '../../src/bpf/helper-ids.js';
import type { Insn } from '../../src/bpf/insn.js';
import * as opcodes from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import type { AddressSpace } from '../../src/bpf/runtime/address-space.js';
import { isResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import {
  FUNCTION_POINTER_HIGH,
  TAIL_CALL,
  type HelperTable,
} from '../../src/bpf/runtime/helpers/helper-table.js';
import { BlockCoverage } from './block-coverage.js';
import { DecodedProgram } from './decoded-program.js';
import { INSN } from './machine-layout.js';
import { Op } from './op.js';

/**
 * Brings a program into the form that `interpret` runs. Throws `executor-unsupported`, naming the insn, for what
 * this executor cannot run, and `out-of-memory`.
 */
export function decodeProgram(
  space: AddressSpace,
  program: Program,
  environment: ExecutionEnvironment,
  helpers: HelperTable,
): DecodedProgram {
  return new Decoder(space, program, environment, helpers).decode();
}

/** Helpers that have ops of their own, by number. */
const CALLS_OF_MAPS: ReadonlyMap<number, number> = new Map([
  [BPF_FUNC.map_lookup_elem, Op.CALL_LOOKUP],
  [BPF_FUNC.map_update_elem, Op.CALL_UPDATE],
]);

const ALU64: Readonly<Record<number, number>> = {
  [opcodes.BPF_ADD]: Op.ADD64,
  [opcodes.BPF_SUB]: Op.SUB64,
  [opcodes.BPF_MUL]: Op.MUL64,
  [opcodes.BPF_DIV]: Op.DIV64,
  [opcodes.BPF_OR]: Op.OR64,
  [opcodes.BPF_AND]: Op.AND64,
  [opcodes.BPF_LSH]: Op.LSH64,
  [opcodes.BPF_RSH]: Op.RSH64,
  [opcodes.BPF_NEG]: Op.NEG64,
  [opcodes.BPF_MOD]: Op.MOD64,
  [opcodes.BPF_XOR]: Op.XOR64,
  [opcodes.BPF_MOV]: Op.MOV64,
  [opcodes.BPF_ARSH]: Op.ARSH64,
};

const ALU32: Readonly<Record<number, number>> = {
  [opcodes.BPF_ADD]: Op.ADD32,
  [opcodes.BPF_SUB]: Op.SUB32,
  [opcodes.BPF_MUL]: Op.MUL32,
  [opcodes.BPF_DIV]: Op.DIV32,
  [opcodes.BPF_OR]: Op.OR32,
  [opcodes.BPF_AND]: Op.AND32,
  [opcodes.BPF_LSH]: Op.LSH32,
  [opcodes.BPF_RSH]: Op.RSH32,
  [opcodes.BPF_NEG]: Op.NEG32,
  [opcodes.BPF_MOD]: Op.MOD32,
  [opcodes.BPF_XOR]: Op.XOR32,
  [opcodes.BPF_MOV]: Op.MOV32,
  [opcodes.BPF_ARSH]: Op.ARSH32,
};

const JMP64: Readonly<Record<number, number>> = {
  [opcodes.BPF_JEQ]: Op.JEQ64,
  [opcodes.BPF_JNE]: Op.JNE64,
  [opcodes.BPF_JSET]: Op.JSET64,
  [opcodes.BPF_JGT]: Op.JGT64,
  [opcodes.BPF_JGE]: Op.JGE64,
  [opcodes.BPF_JLT]: Op.JLT64,
  [opcodes.BPF_JLE]: Op.JLE64,
  [opcodes.BPF_JSGT]: Op.JSGT64,
  [opcodes.BPF_JSGE]: Op.JSGE64,
  [opcodes.BPF_JSLT]: Op.JSLT64,
  [opcodes.BPF_JSLE]: Op.JSLE64,
};

const JMP32: Readonly<Record<number, number>> = {
  [opcodes.BPF_JEQ]: Op.JEQ32,
  [opcodes.BPF_JNE]: Op.JNE32,
  [opcodes.BPF_JSET]: Op.JSET32,
  [opcodes.BPF_JGT]: Op.JGT32,
  [opcodes.BPF_JGE]: Op.JGE32,
  [opcodes.BPF_JLT]: Op.JLT32,
  [opcodes.BPF_JLE]: Op.JLE32,
  [opcodes.BPF_JSGT]: Op.JSGT32,
  [opcodes.BPF_JSGE]: Op.JSGE32,
  [opcodes.BPF_JSLT]: Op.JSLT32,
  [opcodes.BPF_JSLE]: Op.JSLE32,
};

const MOVSX64: Readonly<Record<number, number>> = { 8: Op.MOVSX64_8, 16: Op.MOVSX64_16, 32: Op.MOVSX64_32 };
const MOVSX32: Readonly<Record<number, number>> = { 8: Op.MOVSX32_8, 16: Op.MOVSX32_16 };

const LDX: Readonly<Record<number, number>> = {
  [opcodes.BPF_B]: Op.LDX8,
  [opcodes.BPF_H]: Op.LDX16,
  [opcodes.BPF_W]: Op.LDX32,
  [opcodes.BPF_DW]: Op.LDX64,
};

const LDXS: Readonly<Record<number, number>> = {
  [opcodes.BPF_B]: Op.LDXS8,
  [opcodes.BPF_H]: Op.LDXS16,
  [opcodes.BPF_W]: Op.LDXS32,
};

const STX: Readonly<Record<number, number>> = {
  [opcodes.BPF_B]: Op.STX8,
  [opcodes.BPF_H]: Op.STX16,
  [opcodes.BPF_W]: Op.STX32,
  [opcodes.BPF_DW]: Op.STX64,
};

/** The same within the stack frame, by R10. */
const IN_FRAME: ReadonlyMap<number, number> = new Map([
  [Op.LDX8, Op.LDX8_STACK],
  [Op.LDX16, Op.LDX16_STACK],
  [Op.LDX32, Op.LDX32_STACK],
  [Op.LDX64, Op.LDX64_STACK],
  [Op.STX8, Op.STX8_STACK],
  [Op.STX16, Op.STX16_STACK],
  [Op.STX32, Op.STX32_STACK],
  [Op.STX64, Op.STX64_STACK],
]);

const SIZE_BYTES: Readonly<Record<number, number>> = {
  [opcodes.BPF_B]: 1,
  [opcodes.BPF_H]: 2,
  [opcodes.BPF_W]: 4,
  [opcodes.BPF_DW]: 8,
};

const ATOMIC32: Readonly<Record<number, number>> = {
  [opcodes.BPF_ADD]: Op.ATOMIC_ADD32,
  [opcodes.BPF_OR]: Op.ATOMIC_OR32,
  [opcodes.BPF_AND]: Op.ATOMIC_AND32,
  [opcodes.BPF_XOR]: Op.ATOMIC_XOR32,
  [opcodes.BPF_ADD | opcodes.BPF_FETCH]: Op.FETCH_ADD32,
  [opcodes.BPF_OR | opcodes.BPF_FETCH]: Op.FETCH_OR32,
  [opcodes.BPF_AND | opcodes.BPF_FETCH]: Op.FETCH_AND32,
  [opcodes.BPF_XOR | opcodes.BPF_FETCH]: Op.FETCH_XOR32,
  [opcodes.BPF_XCHG]: Op.XCHG32,
  [opcodes.BPF_CMPXCHG]: Op.CMPXCHG32,
};

const ATOMIC64: Readonly<Record<number, number>> = {
  [opcodes.BPF_ADD]: Op.ATOMIC_ADD64,
  [opcodes.BPF_OR]: Op.ATOMIC_OR64,
  [opcodes.BPF_AND]: Op.ATOMIC_AND64,
  [opcodes.BPF_XOR]: Op.ATOMIC_XOR64,
  [opcodes.BPF_ADD | opcodes.BPF_FETCH]: Op.FETCH_ADD64,
  [opcodes.BPF_OR | opcodes.BPF_FETCH]: Op.FETCH_OR64,
  [opcodes.BPF_AND | opcodes.BPF_FETCH]: Op.FETCH_AND64,
  [opcodes.BPF_XOR | opcodes.BPF_FETCH]: Op.FETCH_XOR64,
  [opcodes.BPF_XCHG]: Op.XCHG64,
  [opcodes.BPF_CMPXCHG]: Op.CMPXCHG64,
};

class Decoder {
  readonly #insns: readonly Insn[];
  readonly #ops: Uint16Array;
  /** dst, src and operand of each slot. */
  readonly #operands: Int32Array;
  /** Two words each. */
  readonly #constants: number[] = [];
  readonly #constantNumbers = new Map<string, number>();
  readonly #helperFunctions: ((() => void) | undefined)[] = [];
  #stackBytes = 0;

  constructor(
    readonly space: AddressSpace,
    readonly program: Program,
    readonly environment: ExecutionEnvironment,
    readonly helpers: HelperTable,
  ) {
    this.#insns = program.insns;
    // What is behind the last insn stays INVALID, for programs that run off their end.
    this.#ops = new Uint16Array(program.insns.length + 1);
    this.#operands = new Int32Array(3 * this.#ops.length);
  }

  decode(): DecodedProgram {
    for (let slot = 0; slot < this.#insns.length; slot++) {
      const insn = this.#insns[slot]!;
      if (insn.dst > opcodes.FRAME_POINTER || insn.src > opcodes.FRAME_POINTER) {
        this.#unsupported(slot, `register R${Math.max(insn.dst, insn.src)} does not exist`);
      }
      this.#decodeInsn(slot, insn);
      if (insn.opcode === opcodes.OP_LDDW) slot++;
    }
    const { coverage } = this.environment;
    return new DecodedProgram(this.space, {
      program: this.program,
      environment: this.environment,
      ops: this.#ops,
      operands: this.#operands,
      constants: this.#constants,
      coverage: coverage === undefined ? undefined : new BlockCoverage(this.#insns, coverage),
      helpers: this.#helperFunctions,
      stackBytes: this.#stackBytes,
    });
  }

  #decodeInsn(slot: number, insn: Insn): void {
    switch (insn.opcode & opcodes.BPF_CLASS_MASK) {
      case opcodes.BPF_ALU:
      case opcodes.BPF_ALU64:
        this.#arithmetic(slot, insn);
        break;
      case opcodes.BPF_JMP:
      case opcodes.BPF_JMP32:
        this.#jump(slot, insn);
        break;
      case opcodes.BPF_LD:
        this.#loadImmediate(slot, insn);
        break;
      case opcodes.BPF_LDX:
        this.#load(slot, insn);
        break;
      default:
        this.#store(slot, insn);
    }
  }

  /** dst and src are numbers of registers, or of constants. */
  #emit(slot: number, op: number, dst: number, src: number, operand = 0): void {
    this.#ops[slot] = op;
    this.#operands.set([dst, src, operand], 3 * slot);
  }

  #arithmetic(slot: number, insn: Insn): void {
    this.#writable(slot, insn.dst);
    const wide = (insn.opcode & opcodes.BPF_CLASS_MASK) === opcodes.BPF_ALU64;
    const code = insn.opcode & opcodes.BPF_OP_MASK;
    const fromRegister = (insn.opcode & opcodes.BPF_SRC_MASK) === opcodes.BPF_X;
    const { dst } = insn;
    if (code === opcodes.BPF_END) {
      this.#byteSwap(slot, insn, wide, fromRegister);
      return;
    }
    if (code === opcodes.BPF_MOV && insn.off !== 0) {
      if (!fromRegister || ![8, 16, wide ? 32 : 8].includes(insn.off)) this.#unused(slot, insn);
      this.#emit(slot, (wide ? MOVSX64 : MOVSX32)[insn.off]!, dst, insn.src);
      return;
    }
    let op = (wide ? ALU64 : ALU32)[code];
    if (insn.off !== 0) {
      // Signed division and modulo: the one other use of `off`.
      if (insn.off !== 1 || (code !== opcodes.BPF_DIV && code !== opcodes.BPF_MOD)) this.#unused(slot, insn);
      if (code === opcodes.BPF_DIV) op = wide ? Op.SDIV64 : Op.SDIV32;
      else op = wide ? Op.SMOD64 : Op.SMOD32;
    }
    if (op === undefined) this.#unused(slot, insn);
    if (!fromRegister && code === opcodes.BPF_ADD) this.#namesStack(insn.imm);
    this.#emit(slot, op, dst, fromRegister ? insn.src : this.#constant(insn.imm));
  }

  #byteSwap(slot: number, insn: Insn, wide: boolean, big: boolean): void {
    const { dst } = insn;
    const swaps = wide || big;
    if ((wide && big) || insn.off !== 0) this.#unused(slot, insn);
    switch (insn.imm) {
      case 16:
        this.#emit(slot, swaps ? Op.BSWAP16 : Op.TRUNCATE16, dst, dst);
        break;
      case 32:
        this.#emit(slot, swaps ? Op.BSWAP32 : Op.MOV32, dst, dst);
        break;
      case 64:
        this.#emit(slot, swaps ? Op.BSWAP64 : Op.NOP, dst, dst);
        break;
      default:
        this.#unused(slot, insn);
    }
  }

  #jump(slot: number, insn: Insn): void {
    const wide = (insn.opcode & opcodes.BPF_CLASS_MASK) === opcodes.BPF_JMP;
    const code = insn.opcode & opcodes.BPF_OP_MASK;
    const fromRegister = (insn.opcode & opcodes.BPF_SRC_MASK) === opcodes.BPF_X;
    if (code === opcodes.BPF_JA && !fromRegister) {
      this.#emit(slot, Op.JA, 0, 0, this.#distance(slot, wide ? insn.off : insn.imm));
    } else if (insn.opcode === opcodes.OP_CALL) {
      this.#call(slot, insn);
    } else if (insn.opcode === opcodes.OP_EXIT) {
      this.#emit(slot, Op.EXIT, 0, 0);
    } else {
      const op = (wide ? JMP64 : JMP32)[code];
      if (op === undefined) this.#unused(slot, insn);
      const src = fromRegister ? insn.src : this.#constant(insn.imm);
      this.#emit(slot, op, insn.dst, src, this.#distance(slot, insn.off));
    }
  }

  #call(slot: number, insn: Insn): void {
    switch (insn.src) {
      case opcodes.BPF_CALL_HELPER: {
        if (insn.imm === TAIL_CALL) {
          this.#emit(slot, Op.TAIL_CALL, 0, 0);
          break;
        }
        const helper = this.helpers.find(insn.imm);
        if (helper === undefined) this.#unsupported(slot, `${helperName(insn.imm)} is not supported`);
        this.#helperFunctions[insn.imm] = helper;
        const overridden = this.environment.helperOverrides?.has(insn.imm) === true;
        this.#emit(slot, (overridden ? undefined : CALLS_OF_MAPS.get(insn.imm)) ?? Op.CALL_HELPER, 0, 0);
        break;
      }
      case opcodes.BPF_PSEUDO_CALL:
        this.#emit(slot, Op.CALL_LOCAL, 0, 0, this.#distance(slot, insn.imm));
        break;
      case opcodes.BPF_PSEUDO_KFUNC_CALL:
        this.#unsupported(slot, `kfunc ${insn.imm} cannot be called: kfuncs need a kernel`);
        break;
      default:
        this.#unused(slot, insn);
    }
  }

  #loadImmediate(slot: number, insn: Insn): void {
    if (insn.opcode !== opcodes.OP_LDDW) {
      this.#unsupported(slot, 'legacy packet access is not available to XDP programs');
    }
    this.#writable(slot, insn.dst);
    const next = this.#insns[slot + 1];
    if (next === undefined) this.#unsupported(slot, 'an lddw lacks its second slot');
    let [low, high] = [insn.imm, next.imm];
    switch (insn.src) {
      case 0:
        break;
      case opcodes.BPF_PSEUDO_MAP_FD:
        [low, high] = [this.#map(slot, insn).address, 0];
        break;
      case opcodes.BPF_PSEUDO_MAP_VALUE: {
        const map = this.#map(slot, insn);
        [low, high] = [map.directValueAddress(next.imm >>> 0), 0];
        if (low === 0) this.#unsupported(slot, `map ${map.name} has no value at offset ${next.imm >>> 0}`);
        break;
      }
      case opcodes.BPF_PSEUDO_FUNC:
        [low, high] = [this.#target(slot, insn.imm), FUNCTION_POINTER_HIGH];
        break;
      default:
        this.#unsupported(slot, `lddw with source ${insn.src} has not been resolved by a loader`);
    }
    this.#emit(slot, Op.LDDW, insn.dst, this.#constant(low, high));
  }

  #map(slot: number, insn: Insn) {
    const map = this.environment.maps.get(insn.imm);
    if (map === undefined) this.#unsupported(slot, `there is no map with handle ${insn.imm}`);
    if (!isResidentMap(map)) this.#unsupported(slot, `map ${map.name} does not lie in this runtime's memory`);
    return map;
  }

  #load(slot: number, insn: Insn): void {
    this.#writable(slot, insn.dst);
    const size = insn.opcode & opcodes.BPF_SIZE_MASK;
    const mode = insn.opcode & opcodes.BPF_MODE_MASK;
    const op = mode === opcodes.BPF_MEM ? LDX[size] : mode === opcodes.BPF_MEMSX ? LDXS[size] : undefined;
    if (op === undefined) this.#unused(slot, insn);
    const inFrame = insn.src === opcodes.FRAME_POINTER && this.#isInFrame(insn.off, SIZE_BYTES[size]!);
    this.#emit(slot, (inFrame ? IN_FRAME.get(op) : undefined) ?? op, insn.dst, insn.src, insn.off);
    if (insn.src === opcodes.FRAME_POINTER) this.#namesStack(insn.off);
  }

  #store(slot: number, insn: Insn): void {
    const size = insn.opcode & opcodes.BPF_SIZE_MASK;
    const mode = insn.opcode & opcodes.BPF_MODE_MASK;
    const { dst } = insn;
    if (insn.dst === opcodes.FRAME_POINTER) this.#namesStack(insn.off);
    const fromRegister = (insn.opcode & opcodes.BPF_CLASS_MASK) === opcodes.BPF_STX;
    if (mode === opcodes.BPF_ATOMIC && fromRegister) {
      const table = size === opcodes.BPF_DW ? ATOMIC64 : size === opcodes.BPF_W ? ATOMIC32 : {};
      const op = table[insn.imm];
      if (op === undefined) this.#unused(slot, insn);
      if ((insn.imm & opcodes.BPF_FETCH) !== 0 && insn.imm !== opcodes.BPF_CMPXCHG) {
        this.#writable(slot, insn.src);
      }
      this.#emit(slot, op, dst, insn.src, insn.off);
      return;
    }
    if (mode !== opcodes.BPF_MEM) this.#unused(slot, insn);
    const op = STX[size]!;
    const src = fromRegister ? insn.src : this.#constant(insn.imm);
    const inFrame = dst === opcodes.FRAME_POINTER && this.#isInFrame(insn.off, SIZE_BYTES[size]!);
    this.#emit(slot, (inFrame ? IN_FRAME.get(op) : undefined) ?? op, dst, src, insn.off);
  }

  #isInFrame(offset: number, size: number): boolean {
    return offset >= -opcodes.MAX_BPF_STACK && offset + size <= 0;
  }

  /** A negative offset, from R10 or from what may be a copy of it. */
  #namesStack(offset: number): void {
    if (offset < 0 && offset >= -opcodes.MAX_BPF_STACK) {
      this.#stackBytes = Math.max(this.#stackBytes, -offset + (-offset & 7 ? 8 - (-offset & 7) : 0));
    }
  }

  /** Number of a constant, counted on from the registers; `high` by default extends the sign. */
  #constant(low: number, high = low >> 31): number {
    const key = `${low | 0},${high | 0}`;
    let number = this.#constantNumbers.get(key);
    if (number === undefined) {
      number = opcodes.REGISTER_COUNT + this.#constants.length / 2;
      this.#constants.push(low, high);
      this.#constantNumbers.set(key, number);
    }
    return number;
  }

  /** The slot that a jump by `offset` from `slot` leads to. */
  #target(slot: number, offset: number): number {
    const target = slot + 1 + offset;
    if (target < 0 || target >= this.#insns.length) {
      this.#unsupported(slot, `insn ${target} is outside of the program's ${this.#insns.length}`);
    }
    return target;
  }

  /** The operand of a jump. */
  #distance(slot: number, offset: number): number {
    return INSN.size * (this.#target(slot, offset) - slot - 1);
  }

  #writable(slot: number, register: number): void {
    if (register === opcodes.FRAME_POINTER) this.#unsupported(slot, 'the frame pointer R10 is read-only');
  }

  #unused(slot: number, insn: Insn): never {
    const opcode = insn.opcode.toString(16).padStart(2, '0');
    this.#unsupported(slot, `opcode 0x${opcode} with off ${insn.off}, imm ${insn.imm} is not in RFC 9669`);
  }

  #unsupported(slot: number, reason: string): never {
    throw new XdpbedError(
      'executor-unsupported',
      `program ${this.program.name}, insn ${slot}: the interpreter cannot run it: ${reason}`,
      { at: { insn: slot } },
    );
  }
}
