import type { Program } from '../../src/bpf/program.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing, openFrames } from '../../src/bpf/runtime/frame-ring.js';
import { XDP_MD, xdpActionName } from '../../src/bpf/xdp.js';
import {
  EXECUTOR_FACTORY,
  type CallOutcome,
  type ExecutionEnvironment,
  type Executor,
  type ExecutorFactory,
  type FrameSlots,
  type LoadedProgram,
  type ProgramFault,
  type ProgramWork,
  type RunOutcome,
} from '../../src/core/contract/executor.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import { BPF_RUNTIME } from '../../src/core/contract/map-backend.js';
import type { Lifecycle } from '../../src/core/contract/plugin.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  compare,
  environmentFor,
  type Action,
  type Comparison,
  type Difference,
  type Member,
  type Result,
} from './comparison.js';
import { describeMap } from './describe-memory.js';
import { ExecutorDisagreement, type DisagreementParts, type Scene } from './executor-disagreement.js';
import { MemoryImage } from './memory-image.js';
import { shrinkDisagreement } from './shrink-disagreement.js';

export interface DifferentialConfig {
  /** Names; the first counts as right, and what it leaves behind is what the run leaves behind. */
  readonly executors: readonly string[];
}

export const DIFFERENTIAL_CONFIG = token<DifferentialConfig>('executor-differential.config');
export const DEFAULT_DIFFERENTIAL_CONFIG: DifferentialConfig = { executors: ['interpreter', 'wasm'] };

/**
 * Runs every program in several executors, each time from the same state, and throws `executor-disagreement` when
 * verdict, packet, context, redirect, maps, random numbers or output are not the same bit for bit.
 */
@injectable()
export class DifferentialExecutor implements Executor, Lifecycle {
  readonly name = 'differential';
  readonly #runtime: BpfRuntime;
  readonly #factory: ExecutorFactory;
  readonly #names: readonly string[];
  #executors: readonly Executor[] = [];
  /** By program id: what a tail call may lead to. */
  readonly #programs = new Map<number, Program>();

  constructor(
    @inject(BPF_RUNTIME) runtime: BpfRuntime,
    @inject(EXECUTOR_FACTORY) factory: ExecutorFactory,
    @inject(DIFFERENTIAL_CONFIG) config: DifferentialConfig = DEFAULT_DIFFERENTIAL_CONFIG,
  ) {
    if (config.executors.includes(this.name)) {
      throw new XdpbedError('testbed-invalid', 'executor differential cannot be compared with itself');
    }
    this.#runtime = runtime;
    this.#factory = factory;
    this.#names = config.executors;
  }

  async start(): Promise<void> {
    const executors: Executor[] = [];
    for (const name of this.#names) executors.push(await this.#factory.open(name));
    this.#executors = executors;
  }

  /** Throws `executor-unsupported` when one of the executors cannot run the program. */
  async load(program: Program, environment: ExecutionEnvironment): Promise<DifferentialProgram> {
    const id = environment.programId ?? this.#runtime.allocateProgramId();
    const loaded = await loadEach(this.#executors, program, { ...environment, programId: id });
    this.#programs.set(id, program);
    const others = (): Program[] =>
      [...this.#programs].filter(([other]) => other !== id).map(([, other]) => other);
    return new DifferentialProgram(program, this.#runtime, id, environment, loaded, others, () => {
      this.#programs.delete(id);
    });
  }
}

async function loadEach(
  executors: readonly Executor[],
  program: Program,
  environment: ExecutionEnvironment,
): Promise<Member[]> {
  const members: Member[] = [];
  try {
    for (const executor of executors) {
      const traces: string[] = [];
      const loaded = await executor.load(program, environmentFor(environment, traces, members.length === 0));
      members.push({ executor, traces, program: loaded });
    }
  } catch (error) {
    for (const member of members) member.program.close();
    throw error;
  }
  return members;
}

export class DifferentialProgram implements LoadedProgram {
  readonly name: string;
  readonly executor = 'differential';
  lastFault: ProgramFault | undefined;
  readonly #before: MemoryImage;
  readonly #after: MemoryImage;

  constructor(
    readonly program: Program,
    readonly runtime: BpfRuntime,
    readonly id: number,
    readonly environment: ExecutionEnvironment,
    readonly members: readonly Member[],
    readonly others: () => readonly Program[],
    readonly onClose: () => void,
  ) {
    this.name = program.name;
    this.#before = new MemoryImage(runtime.space);
    this.#after = new MemoryImage(runtime.space);
  }

  openFrames(slots: number, longest?: number): FrameRing {
    return openFrames(this.program, this.runtime, slots, longest);
  }

  run(frames: FrameSlots, slot: number): RunOutcome {
    return this.#perform(runAction(ringOf(frames), slot));
  }

  /**
   * Runs the batch as a batch in every executor. Where they disagree, or a program faults, it is done again frame
   * by frame, which finds the frame at fault.
   */
  runBatch(frames: FrameSlots, first: number, count: number): number {
    const action: Action<number> = {
      prefix: 'in a batch, ',
      run: (program) => program.runBatch(frames, first, count),
      fault: () => undefined,
      text: (aborted) => `${aborted} of ${count} frames aborted`,
    };
    const { results, difference } = this.#compare(action);
    if (difference === undefined && results[0]!.outcome === 0) {
      this.#passOn(results[0]!);
      return 0;
    }
    const start = this.#before.clone();
    start.restore();
    let aborted = 0;
    for (let i = 0; i < count; i++) {
      if (this.run(frames, (first + i) % frames.slots).fault !== undefined) aborted++;
    }
    if (difference !== undefined && aborted === 0) {
      start.restore();
      this.#before.capture(start.spans);
      throw this.#disagreement(action, results, difference);
    }
    return aborted;
  }

  /** Throws `executor-unsupported` when one of the executors runs XDP programs only. */
  call(r1: bigint, r2: bigint): CallOutcome {
    const limited = this.members.find(({ program }) => program.call === undefined);
    if (limited !== undefined) {
      throw new XdpbedError(
        'executor-unsupported',
        `executor ${limited.executor.name} runs XDP programs only`,
      );
    }
    return this.#perform(callAction(r1, r2));
  }

  /** That of the first, which counts a batch again that is done again. */
  get work(): ProgramWork | undefined {
    return this.members[0]!.program.work;
  }

  close(): void {
    for (const { program } of this.members) program.close();
    this.onClose();
  }

  #perform<Outcome>(action: Action<Outcome>): Outcome {
    const { results, difference } = this.#compare(action);
    if (difference !== undefined) throw this.#disagreement(action, results, difference);
    this.#passOn(results[0]!);
    return results[0]!.outcome!;
  }

  /** What others see of a run besides memory. */
  #passOn({ fault, traces }: Result<unknown>): void {
    if (fault !== undefined) this.lastFault = fault;
    for (const text of traces) this.environment.world.trace(text);
  }

  /** The clock is asked once, so that all see the same time. */
  #compare<Outcome>(action: Action<Outcome>): Comparison<Outcome> {
    const now = this.environment.world.now?.();
    if (now !== undefined) this.runtime.state.now = now;
    return compare(this.members, action, this.#before, this.#after);
  }

  #disagreement<Outcome>(
    action: Action<Outcome>,
    results: readonly Result<Outcome>[],
    difference: Difference,
  ): ExecutorDisagreement {
    const { program } = this;
    const opinion = (index: number) => ({
      executor: this.members[index]!.executor.name,
      outcome: results[index]!.text,
    });
    const before = this.#before.clone();
    // The maps are listed as they were; what the first executor made of them is put back afterwards.
    const after = new MemoryImage(before.space).capture(before.spans);
    before.restore();
    const scene = this.#scene(action);
    after.restore();
    const parts: DisagreementParts = {
      opinions: [opinion(0), opinion(difference.member)],
      difference: difference.text,
      program,
      callees: this.others(),
      scene,
      originalLength: program.insns.length,
    };
    const executors = [this.members[0]!.executor, this.members[difference.member]!.executor] as const;
    const { environment, runtime } = this;
    return new ExecutorDisagreement(
      shrinkDisagreement({ executors, runtime, environment, action, before, parts }),
    );
  }

  #scene<Outcome>({ frame }: Action<Outcome>): Scene {
    const { runtime } = this;
    const { maps } = this.environment;
    const { state } = runtime;
    const fields = [`cpu = ${state.cpu}`, `now = ${state.now}`];
    if (frame !== undefined) {
      for (const name of ['ingress_ifindex', 'rx_queue_index', 'egress_ifindex'] as const) {
        const at = frame.ring.address(frame.slot) + XDP_MD[name];
        fields.unshift(`${name} = ${runtime.space.view.getUint32(at, true)}`);
      }
    }
    return {
      packet: frame?.ring.packet(frame.slot),
      metadata: frame?.ring.metadata(frame.slot) ?? new Uint8Array(),
      fields,
      maps: [...maps].flatMap(([handle, map]) => describeMap(handle, map)),
    };
  }
}

function ringOf(frames: FrameSlots): FrameRing {
  if (frames instanceof FrameRing) return frames;
  throw new RangeError('the frames lie in another address space');
}

function runAction(ring: FrameRing, slot: number): Action<RunOutcome> {
  return {
    frame: { ring, slot },
    run: (program) => program.run(ring, slot),
    fault: (outcome) => outcome.fault,
    text: ({ verdict }) => `verdict ${verdict} (${xdpActionName(verdict)})`,
  };
}

function callAction(r1: bigint, r2: bigint): Action<CallOutcome> {
  return {
    run: (program) => program.call!(r1, r2),
    fault: (outcome) => ('fault' in outcome ? outcome.fault : undefined),
    text: (outcome) => ('r0' in outcome ? `r0 = 0x${outcome.r0.toString(16)}` : ''),
  };
}
