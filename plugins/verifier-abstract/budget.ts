import { RejectSignal } from './reject-signal.js';
import type { RejectionCode } from './rejection-codes.js';

/** What one verification may use. The defaults of insns and branches are the kernel's. */
export interface Limits {
  readonly maxProgramInsns: number;
  /** Insns simulated in all (kernel BPF_COMPLEXITY_LIMIT_INSNS). */
  readonly maxProcessedInsns: number;
  /** Branches waiting to be explored (kernel BPF_COMPLEXITY_LIMIT_JMP_SEQ). */
  readonly maxPendingBranches: number;
  readonly maxMilliseconds: number;
  readonly maxMemoryMiB: number;
}

/**
 * Rough heap bytes of what an exploration keeps; measured on programs made to use much (see README). A state whose paths
 * have ended keeps its demands, of which others may have the same one, and the rest of it is let go.
 */
export const BYTES_OF = {
  state: 700,
  slot: 150,
  frame: 900,
  /** A branch that waits: a state, with the running frame and its stack slots. */
  branch: 900,
  branchSlot: 16,
  /** Where it is named: lists of them are rarely shared. */
  reference: 8,
  settled: 1100,
  place: 16,
  demand: 450,
  step: 170,
  change: 450,
} as const;

/** Counts what an exploration uses and ends it when it is too much. */
export class Budget {
  processedInsns = 0;
  storedBytes = 0;
  readonly #started: number;

  /** @param clock milliseconds, of which `maxMilliseconds` may pass */
  constructor(
    readonly limits: Limits,
    readonly clock: () => number = () => performance.now(),
  ) {
    this.#started = clock();
  }

  get milliseconds(): number {
    return this.clock() - this.#started;
  }

  /** Nothing that is of service only may go on. */
  get timeIsUp(): boolean {
    return this.milliseconds > this.limits.maxMilliseconds;
  }

  get memoryLimit(): number {
    return this.limits.maxMemoryMiB * 1024 * 1024;
  }

  countInsn(pc: number): void {
    if (++this.processedInsns <= this.limits.maxProcessedInsns) return;
    exceed(
      'too-many-insns',
      pc,
      `${this.processedInsns} insns were simulated, more than the limit of ${this.limits.maxProcessedInsns}`,
      'a loop may run too often, or not have a bound that the verifier can see; or branches multiply: see the hotspots of the complexity report',
    );
  }

  /**
   * Asked now and then: time and memory change slowly. `path` is the one that runs, of which those that wait are branches.
   * Returns the milliseconds so far.
   */
  check(pc: number, path: { readonly steps: number; readonly changes: number }): number {
    const { limits } = this;
    const milliseconds = this.milliseconds;
    if (milliseconds > limits.maxMilliseconds) {
      exceed(
        'out-of-time',
        pc,
        `the exploration took ${Math.round(milliseconds)} ms after ${this.processedInsns} insns, more than the limit of ${limits.maxMilliseconds} ms`,
        'simplify the hotspots of the complexity report, or raise maxMilliseconds',
      );
    }
    const bytes = this.storedBytes + path.steps * BYTES_OF.step + path.changes * BYTES_OF.change;
    if (bytes > this.memoryLimit) {
      exceed(
        'out-of-memory',
        pc,
        `the exploration keeps about ${Math.round(bytes / 1024 / 1024)} MiB of states, more than the limit of ${limits.maxMemoryMiB} MiB`,
        'simplify the hotspots of the complexity report, or raise maxMemoryMiB',
      );
    }
    return milliseconds;
  }

  checkPending(pc: number, pending: number): void {
    if (pending <= this.limits.maxPendingBranches) return;
    exceed(
      'too-many-branches',
      pc,
      `${pending} branches are waiting to be explored, more than the limit of ${this.limits.maxPendingBranches}`,
      'a loop with a branch in it runs too often: bound it lower, or move its body to a callback of bpf_loop',
    );
  }
}

function exceed(code: RejectionCode, insn: number, reason: string, suggestion: string): never {
  throw new RejectSignal({ code, insn, reason, suggestion });
}
