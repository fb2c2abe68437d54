import type { AccessPlaces } from './access-check.js';
import { OP, type FunctionWriter } from '../../src/bpf/wasm-encoder.js';

/** Fixed addresses and function indices that translated code refers to. */
export interface CodeEnvironment {
  /** Address of the run state. */
  readonly runState: number;
  /** Addresses of the executor's own cells: see program-table.ts. */
  readonly tailCalls: number;
  readonly dynamicFrame: number;
  readonly firstDynamicFrame: number;
  readonly directory: { readonly address: number; readonly mask: number };
  /** Index of the imported function of a helper. */
  helper(id: number): number;
  /**
   * Index of the function `() → i32` that does a helper's work with the arguments in the run state, or returns 0 where the
   * helper has to; undefined for a helper that is always called.
   */
  triedBefore(id: number): number | undefined;
  /** Told that a call may be charged for (`mayCharge` in call-plan.ts), so that runs begin with a full budget. */
  mayCharge(): void;
  /** Index of the wasm function for the BPF function at a slot. */
  localFunction(slot: number): number;
  /** `(id: i32) → i32`: table index of a program that is not in its own place of the directory, or 0. */
  readonly findProgram: number;
  /** `() → i32`: table index of what a tail call through a map that is not known in advance selects, or 0. */
  readonly resolveTailCall: number;
  /** Type index of a program's main function, for the table. */
  readonly mainType: number;
  /** What checks need, in a checked build. */
  readonly access: AccessPlaces | undefined;
  /** Index of the i32 global with the insns that the run has left. */
  readonly budget: number;
  /** Address of the counters of work (work-counters.ts); undefined when it is not counted. */
  readonly workCounters: number | undefined;
  /** `(insn)`: throws because the insn limit is used up. */
  readonly limitReached: number;
  /** `()`: told that a tail call led to none of the programs that stand in its place; -1 where there are none. */
  readonly linkMissed: number;
}

/** How a function hands back its result. */
export type FunctionExit =
  /** Returns R0 as an i64. */
  | { readonly kind: 'return' }
  /** Hands the verdict to whoever inlined the function; control must leave. */
  | { readonly kind: 'inlined'; verdict(pushVerdict: () => void): void };

/** Takes `insns` off the run's budget; ends the run at `slot` when that uses it up and `check` is set. */
export function emitCharge(
  out: FunctionWriter,
  { budget, limitReached }: CodeEnvironment,
  insns: number,
  check: { readonly slot: number } | undefined,
): void {
  if (insns > 0) out.globalGet(budget).i32(insns).op(OP.i32_sub).globalSet(budget);
  if (check === undefined) return;
  out.globalGet(budget).i32(0).op(OP.i32_lt_s).if();
  out.i32(check.slot).call(limitReached).op(OP.unreachable);
  out.end();
}
