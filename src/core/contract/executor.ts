import type { Program } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import type { RunState } from '../../bpf/runtime/run-state.js';
import type { CallOutcome, FrameSlots, ProgramFault, RunOutcome } from './program-run.js';
import type { ProgramFacts, ProgramProperties } from './verifier.js';
import type { InsnCounts } from './insn-coverage.js';
import type { DebuggerObserver, ProgramDebugging } from './program-debugging.js';
import { token } from './injection.js';

export type {
  CallOutcome,
  FrameMetadata,
  FrameRedirect,
  FrameSlots,
  ProgramFault,
  RunOutcome,
} from './program-run.js';

/**
 * Role `executor`: runs a verified program on packets. One instance serves one party; where programs and their
 * memory live (in this process, in the kernel) is its own matter.
 */
export interface Executor {
  readonly name: string;
  /**
   * Prepares a program. Throws `executor-unsupported` when this executor cannot run it, naming the insn and
   * the reason. What a verifier has shown of the program, and what not, the environment says.
   */
  load(program: Program, environment: ExecutionEnvironment): Promise<LoadedProgram>;
  /** As `load`, for callers that cannot wait. Absent where loading takes waiting. */
  loadNow?(program: Program, environment: ExecutionEnvironment): LoadedProgram;
  /** Programs run on this CPU from now on. Absent where the party's BpfRuntime says on which. */
  runOn?(cpu: number): void;
}

export interface ExecutionEnvironment {
  /** The maps by the handle that the program's `lddw` insns carry in imm. They are the same party's. */
  readonly maps: ReadonlyMap<number, BpfMap>;
  /** What helpers see of the world. */
  readonly world: HelperWorld;
  /** `Acceptance.contained`: only of such a program may an executor leave out checks. Default: not known. */
  readonly contained?: boolean | undefined;
  /** What the verifier learnt. */
  readonly facts?: ProgramFacts | undefined;
  /** What the verifier found that the program may do; a place may depend on it. */
  readonly properties?: ProgramProperties | undefined;
  /**
   * Insns after which a run ends in a fault, whatever a verifier said of the program: 1 to MAX_INSN_LIMIT, by default
   * DEFAULT_INSN_LIMIT. How it is counted: src/bpf/runtime/insn-budget.ts.
   */
  readonly insnLimit?: number | undefined;
  /**
   * Count what programs do: `LoadedProgram.work`. All programs of a party are loaded with it or none; of a run that
   * passes from one that is counted to one that is not, how much is counted is not defined.
   */
  readonly countWork?: boolean | undefined;
  /**
   * Count which insns run, here: an element for each slot. It costs time, and no executor has to be able to: one that is
   * says so (`LoadedProgram.coverage`). All programs of a party are loaded with it or none.
   */
  readonly coverage?: InsnCounts | undefined;
  /**
   * For an executor that is made of others, which must know a program by the same id (`LoadedProgram.id`); by
   * default each finds one.
   */
  readonly programId?: number | undefined;
  /**
   * Replaces helpers by number, or adds to them: the function reads its arguments from the run state and
   * writes R0 there. For tools such as bpf_conformance, which asks for a helper 5 of its own.
   */
  readonly helperOverrides?: ReadonlyMap<number, (state: RunState) => void> | undefined;
}

export interface LoadedProgram {
  readonly name: string;
  /** Name of the executor that runs it. */
  readonly executor: string;
  /** What a PROG_ARRAY of the same party knows it by (`BpfMap.setProgram`). */
  readonly id: number;
  /**
   * Makes room for frames. Programs of the same party run on each other's.
   *
   * @param longest bytes of the longest frame to be expected, when that may be more than one buffer takes; a program
   * without BPF_F_XDP_HAS_FRAGS gets none longer all the same. `FrameSlots.longestFrame` says what came of it.
   */
  openFrames(slots: number, longest?: number): FrameSlots;
  /**
   * Runs once on the frame in a slot: the XDP verdict is in `verdict`, changes to packet, metadata and redirect are
   * in the slot.
   */
  run(frames: FrameSlots, slot: number): RunOutcome;
  /**
   * Runs on `count` slots from `first` on, wrapping at the end; each slot's verdict is in the slot. Returns how many
   * frames were aborted by a fault. Faults are kept in `lastFault`.
   */
  runBatch(frames: FrameSlots, first: number, count: number): number;
  /** Runs with R1 and R2 given and returns R0: for programs that are not XDP. Absent where there is no such way. */
  call?(r1: bigint, r2: bigint): CallOutcome;
  readonly lastFault: ProgramFault | undefined;
  /**
   * What programs of this party have done so far: one object for all of them, so that it covers the targets of tail
   * calls. Present when `ExecutionEnvironment.countWork` asked for it and the executor can count.
   */
  readonly work?: ProgramWork | undefined;
  /** `ExecutionEnvironment.coverage`, where the executor counts there. */
  readonly coverage?: InsnCounts | undefined;
  /** Executors that can go insn by insn have this. */
  debug?(observer?: DebuggerObserver): ProgramDebugging;
  close(): void;
}

/**
 * What the programs of one party have done since the first was loaded. The numbers only grow, and are exact to 2^53.
 * Each is up to date when `run`, `runBatch` or `call` returns; reading one costs a few nanoseconds, so that what a run
 * did is the difference of two readings. Every executor counts the same for a run that ends with a verdict.
 *
 * A run that ends in a fault counts what it executed up to there; an executor that counts by stretches of insns may
 * leave out stretches that the run had begun, in all no more than some times the length of its programs.
 */
export interface ProgramWork {
  /**
   * Insns executed, as an interpreter steps through them: each insn of RFC 9669 is one, an `lddw` of two slots
   * included, and so are a call, an `exit` and a jump, taken or not. Insns of local functions, of callbacks in every
   * round (a callback's `exit` included) and of the targets of tail calls count as those of the program; what a helper
   * does counts in `calls` and `bytes`. A program that a verifier or a loader rewrote counts as it was rewritten.
   */
  readonly insns: number;
  /** Calls made of the helper with this id, 0 where none was made. */
  calls(helper: number): number;
  /**
   * Ids of the helpers that programs loaded so far may call, ascending: those whose `calls` may be above 0. A tail call
   * is a call of helper 12, whether it leaves for another program or not. Kfuncs are not in it, as no executor that
   * counts can call one, nor are ids from 256 on (COUNTED_HELPERS), which are not counted. The array is replaced by
   * another when there are more.
   */
  readonly helpers: readonly number[];
  /**
   * Bytes that helpers went through for programs: those that they read, copied, compared, summed up or cleared, each
   * as often as the helper names it. For calls on maps these are the key's bytes, and for an update those of the value
   * (of all CPUs where the map keeps one for each). Bytes that a program accesses by insns of its own are not in it.
   */
  readonly bytes: number;
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
