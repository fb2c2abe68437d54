import type { DebuggerObserver, ProgramDebugging } from '../contract/program-debugging.js';
import type {
  CallOutcome,
  ExecutionEnvironment,
  Executor,
  FrameSlots,
  LoadedProgram,
  ProgramFault,
  ProgramWork,
  RunOutcome,
} from '../contract/executor.js';
import type { InsnCounts } from '../contract/insn-coverage.js';
import type { Program } from '../../bpf/program.js';

/**
 * The executor of a party whose programs are loaded with `countWork`: after each run of one, `tell` is called with the
 * insns that it took, those of the programs included that it went on in. Programs whose work is not counted tell nothing.
 */
export function meteringExecutor(executor: Executor, tell: (insns: number) => void): Executor {
  // One number for all: so is the count of a party's programs.
  let told = 0;
  const metered = (program: LoadedProgram): LoadedProgram => {
    const { work } = program;
    if (work === undefined) return program;
    return new MeteredProgram(program, work, () => {
      const { insns } = work;
      const more = insns - told;
      told = insns;
      if (more > 0) tell(more);
    });
  };
  return {
    name: executor.name,
    load: async (program, environment) => metered(await executor.load(program, environment)),
    ...(executor.loadNow === undefined
      ? {}
      : {
          loadNow: (program: Program, environment: ExecutionEnvironment) =>
            metered(executor.loadNow!(program, environment)),
        }),
    ...(executor.runOn === undefined ? {} : { runOn: (cpu: number) => executor.runOn!(cpu) }),
  };
}

class MeteredProgram implements LoadedProgram {
  readonly name: string;
  readonly executor: string;
  readonly id: number;
  readonly call?: (r1: bigint, r2: bigint) => CallOutcome;
  readonly debug?: (observer?: DebuggerObserver) => ProgramDebugging;

  constructor(
    readonly program: LoadedProgram,
    readonly work: ProgramWork,
    readonly afterRun: () => void,
  ) {
    this.name = program.name;
    this.executor = program.executor;
    this.id = program.id;
    if (program.call !== undefined) {
      this.call = (r1, r2) => {
        const outcome = program.call!(r1, r2);
        afterRun();
        return outcome;
      };
    }
    if (program.debug !== undefined) this.debug = (observer) => program.debug!(observer);
  }

  openFrames(slots: number, longest?: number): FrameSlots {
    return this.program.openFrames(slots, longest);
  }

  run(frames: FrameSlots, slot: number): RunOutcome {
    const outcome = this.program.run(frames, slot);
    this.afterRun();
    return outcome;
  }

  runBatch(frames: FrameSlots, first: number, count: number): number {
    const aborted = this.program.runBatch(frames, first, count);
    this.afterRun();
    return aborted;
  }

  get lastFault(): ProgramFault | undefined {
    return this.program.lastFault;
  }

  get coverage(): InsnCounts | undefined {
    return this.program.coverage;
  }

  close(): void {
    this.program.close();
  }
}
