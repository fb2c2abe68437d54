import type { Program } from '../../src/bpf/program.js';
import type { BlockCoverage } from './block-coverage.js';
import type { ExecutionEnvironment } from '../../src/core/contract/executor.js';

/** A program in the form that `interpret` runs; made by `decodeProgram`. */
export interface DecodedProgram {
  readonly program: Program;
  readonly environment: ExecutionEnvironment;
  /** Two words per slot: `op | dst << 8 | src << 16` and an operand; one more pair behind the last insn. */
  readonly code: Int32Array;
  /** The same with some insns taken together, where nobody looks at single ones. */
  readonly fused: Int32Array;
  /** `code` with every op replaced by PAUSE; a debugger puts one back at a time. */
  readonly debugCode: Int32Array;
  /** What is counted of it, where its coverage is. */
  readonly coverage?: BlockCoverage | undefined;
  /**
   * R0 … R10 as pairs of int32 (low half first), then the program's constants likewise. A program keeps its own
   * registers, so that its constants stay where they are; calls copy what the RFC says is passed.
   */
  readonly registers: Int32Array;
  /** Helpers by number; those that the program calls are there. */
  readonly helpers: readonly ((() => void) | undefined)[];
  /** Bytes below R10 that insns name: as much of a frame is cleared when it is entered. */
  readonly stackBytes: number;
}

/** Index of R10's lower half in `DecodedProgram.registers`. */
export const FP = 20;
/** Index of the first constant. */
export const CONSTANTS = 22;
