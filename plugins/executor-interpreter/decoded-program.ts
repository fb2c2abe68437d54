import { REGISTER_COUNT } from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import type { ExecutionEnvironment } from '../../src/core/contract/executor.js';
import type { BlockCoverage } from './block-coverage.js';
import { fastOps } from './fast-ops.js';
import { INSN } from './machine-layout.js';
import { Op } from './op.js';

/** What `decodeProgram` makes of a program. */
export interface DecodedParts {
  readonly program: Program;
  readonly environment: ExecutionEnvironment;
  /** The op of each slot, and INVALID for the one behind the last. */
  readonly ops: Uint16Array;
  /** dst, src and operand of each slot; registers and constants are numbered on. */
  readonly operands: Int32Array;
  /** Two words each, the lower first. */
  readonly constants: readonly number[];
  /** What is counted of it, where its coverage is. */
  readonly coverage: BlockCoverage | undefined;
  /** Helpers by number; those that the program calls are there. */
  readonly helpers: readonly ((() => void) | undefined)[];
  /** Bytes below R10 that insns name, a multiple of 8: as much of a frame is cleared when it is entered. */
  readonly stackBytes: number;
}

/**
 * A program in the form that the run loop runs. It lies in the address space, as an object that no program may access:
 *
 * ```
 *   R0 … R10, then the constants, 8 bytes each
 *   the code, INSN.size bytes for each slot
 *   the same with each insn replaced by PAUSE, for a debugger
 *   where coverage is counted, the same with a PAUSE where a block begins
 * ```
 * A program keeps its own registers, so that the code can name them and constants alike by their address; calls copy
 * what the RFC says is passed. Jumps are relative, so that the code is the same wherever it lies.
 */
export class DecodedProgram {
  readonly program: Program;
  readonly environment: ExecutionEnvironment;
  /** As `DecodedParts` has it: what `code` does by insns that are not taken together. */
  readonly ops: Uint16Array;
  readonly coverage: BlockCoverage | undefined;
  readonly helpers: readonly ((() => void) | undefined)[];
  readonly stackBytes: number;
  /** Address of R0: what the run loop knows a program by. */
  readonly registersAt: number;
  /** R0 … R10 and the constants as pairs of int32, the lower half first. */
  readonly registers: Int32Array;
  /** Addresses of the copies of the code; of the one for coverage, where there is none, that of the code. */
  readonly code: number;
  readonly debugCode: number;
  readonly coverageCode: number;
  readonly #region: Region;
  readonly #codeBytes: number;

  constructor(
    readonly space: AddressSpace,
    parts: DecodedParts,
  ) {
    const { constants, ops, operands, coverage } = parts;
    this.program = parts.program;
    this.environment = parts.environment;
    this.ops = ops;
    this.coverage = coverage;
    this.helpers = parts.helpers;
    this.stackBytes = parts.stackBytes;
    const words = 2 * REGISTER_COUNT + constants.length;
    this.#codeBytes = INSN.size * ops.length;
    const copies = coverage === undefined ? 2 : 3;
    this.#region = space.allocate(4 * words + copies * this.#codeBytes, {
      kind: 'scratch',
      label: 'a program of executor interpreter',
      access: 'none',
    });
    const { start } = this.#region;
    this.registersAt = start;
    this.registers = new Int32Array(space.memory.buffer, start, words);
    this.registers.set(constants, 2 * REGISTER_COUNT);
    this.code = start + 4 * words;
    this.debugCode = this.code + this.#codeBytes;
    this.coverageCode = coverage === undefined ? this.code : this.debugCode + this.#codeBytes;

    const insns = space.i32.subarray(this.code >> 2, (this.code + this.#codeBytes) >> 2);
    const fast = fastOps(ops, operands);
    for (let slot = 0, at = 0; slot < ops.length; slot++, at += INSN.size / 4) {
      insns[at] = Op.PAUSE;
      insns[at + 1] = start + 8 * operands[3 * slot]!;
      insns[at + 2] = start + 8 * operands[3 * slot + 1]!;
      insns[at + 3] = operands[3 * slot + 2]!;
    }
    space.i32.set(insns, this.debugCode >> 2);
    if (coverage !== undefined) space.i32.set(insns, this.coverageCode >> 2);
    for (let slot = 0; slot < ops.length; slot++) {
      this.setOp(this.code, slot, fast[slot]!);
      if (coverage?.isStart(slot) === false) this.setOp(this.coverageCode, slot, ops[slot]!);
    }
  }

  /** What register `n` holds, unsigned. */
  register(n: number): bigint {
    return this.space.view.getBigUint64(this.registersAt + 8 * n, true);
  }

  /** The slot of an insn by its address in one of the copies of the code. */
  slotOf(pc: number): number {
    return ((pc - this.code) % this.#codeBytes) / INSN.size;
  }

  /** Puts an op in a slot of a copy of the code. */
  setOp(copy: number, slot: number, op: number): void {
    this.space.i32[(copy + INSN.size * slot) >> 2] = op;
  }

  /** Indices in `registers` of what a slot's insn has as dst and src. */
  operandsOf(slot: number): readonly [dst: number, src: number] {
    const at = (this.code + INSN.size * slot) >> 2;
    const { i32 } = this.space;
    const index = (address: number): number => (address - this.registersAt) >> 2;
    return [index(i32[at + 1]!), index(i32[at + 2]!)];
  }

  close(): void {
    this.space.free(this.#region);
  }
}

/** Index of R10's lower half in `DecodedProgram.registers`. */
export const FP = 20;
