import type { Program } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import type { HelperHost } from '../../bpf/runtime/helper-host.js';
import type { RunState } from '../../bpf/runtime/run-state.js';
import type { FrameRing } from '../../bpf/runtime/xdp-frame.js';
import type { ProgramFacts } from './verifier.js';
import type { DebuggerObserver, ProgramDebugging } from './program-debugging.js';
import { token } from './injection.js';

/** Role `executor`: runs a verified program on packets. */
export interface Executor {
  readonly name: string;
  /**
   * Prepares a program. Throws `executor-unsupported` when this executor cannot run it, naming the insn and
   * the reason. The program must have been verified: an executor may rely on it.
   */
  load(program: Program, environment: ExecutionEnvironment): Promise<LoadedProgram>;
  /** As `load`, for callers that cannot wait. Absent where loading takes waiting. */
  loadNow?(program: Program, environment: ExecutionEnvironment): LoadedProgram;
}

export interface ExecutionEnvironment {
  readonly runtime: BpfRuntime;
  /** The maps by the handle that the program's `lddw` insns carry in imm. */
  readonly maps: ReadonlyMap<number, BpfMap>;
  readonly host: HelperHost;
  /**
   * The program's number in the runtime (`BpfRuntime.allocateProgramId`), under which a PROG_ARRAY names it and
   * an executor finds it on a tail call.
   */
  readonly programId: number;
  /** What the verifier learnt; an executor may use it to leave out checks. */
  readonly facts?: ProgramFacts | undefined;
  /**
   * Insns after which a run ends in a fault, whatever a verifier said of the program: 1 to MAX_INSN_LIMIT, by default
   * DEFAULT_INSN_LIMIT. How it is counted: src/bpf/runtime/insn-budget.ts.
   */
  readonly insnLimit?: number | undefined;
  /**
   * Replaces helpers by number, or adds to them: the function reads its arguments from the run state and
   * writes R0 there. For tools such as bpf_conformance, which asks for a helper 5 of its own.
   */
  readonly helperOverrides?: ReadonlyMap<number, (state: RunState) => void> | undefined;
}

export interface LoadedProgram {
  readonly name: string;
  /**
   * Runs once on the frame in a slot of the ring: the XDP verdict is in `verdict`, changes to packet, context
   * and redirect state are in the slot.
   */
  run(frames: FrameRing, slot: number): RunOutcome;
  /**
   * Runs on `count` slots from `first` on, wrapping at the end of the ring; each slot's verdict is written to
   * the slot. Returns how many frames were aborted by a fault. Faults are kept in `lastFault`.
   */
  runBatch(frames: FrameRing, first: number, count: number): number;
  /** Runs with R1 and R2 given and returns R0: for programs that are not XDP (conformance tests). */
  call(r1: bigint, r2: bigint): CallOutcome;
  readonly lastFault: ProgramFault | undefined;
  /** Executors that can go insn by insn have this (capability `step`). */
  debug?(observer?: DebuggerObserver): ProgramDebugging;
  close(): void;
}

/** What one run left behind. A fault counts as XDP_ABORTED, as in the kernel. */
export interface RunOutcome {
  /** R0's lower 32 bits. */
  readonly verdict: number;
  readonly fault?: ProgramFault | undefined;
}

export type CallOutcome = { readonly r0: bigint } | { readonly fault: ProgramFault };

/** Where and why a program was stopped. A verified program never faults; a fault names a verifier's miss. */
export interface ProgramFault {
  readonly insn: number;
  readonly reason: string;
}

export const EXECUTOR = token<Executor>('executor');

/** Opens executors by name, for one that is made of others. Bound in the scope of each party. */
export interface ExecutorFactory {
  /**
   * A new instance of an executor plugin with its default config, started, in the scope of the party; the core
   * stops it with the party. `name` is what a testbed file would say.
   */
  open(name: string): Promise<Executor>;
}

export const EXECUTOR_FACTORY = token<ExecutorFactory>('executor-factory');
