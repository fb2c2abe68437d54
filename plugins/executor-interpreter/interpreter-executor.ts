import type { DebuggerObserver, ProgramDebugging } from '../../src/core/contract/program-debugging.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { inject, injectable } from '../../src/core/contract/injection.js';
import { BPF_RUNTIME } from '../../src/core/contract/map-backend.js';
import type {
  CallOutcome,
  ExecutionEnvironment,
  Executor,
  FrameSlots,
  LoadedProgram,
  ProgramFault,
  RunOutcome,
} from '../../src/core/contract/executor.js';
import { isLddw } from '../../src/bpf/insn.js';
import { BPF_CALL_HELPER, BPF_PSEUDO_CALL, BPF_PSEUDO_FUNC, OP_CALL } from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import { XDP_ABORTED } from '../../src/bpf/xdp.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { createHelpers, TAIL_CALL } from '../../src/bpf/runtime/helpers/helper-table.js';
import { insnLimitOf } from '../../src/bpf/runtime/insn-budget.js';
import { FRAME_SLOT, frameIntact, FrameRing } from '../../src/bpf/runtime/xdp-frame.js';
import { decodeProgram } from './decode-program.js';
import { ProgramDebugger } from './program-debugger.js';
import type { DecodedProgram } from './decoded-program.js';
import { invokeCallback, Machine, Stop } from './machine.js';
import { interpret } from './run-loop.js';
import { wide } from './wide-arithmetic.js';

const MAX_SPACE = 2 ** 31;

/**
 * The reference executor: an interpreter that checks every access. What it does is by definition what a program
 * means (RFC 9669, and the kernel where the RFC leaves a choice); other executors are compared with it.
 */
@injectable()
export class InterpreterExecutor implements Executor {
  readonly name = 'interpreter';
  readonly #runtime: BpfRuntime;
  /** For as long as programs are loaded. */
  #machine: Machine | undefined;

  constructor(@inject(BPF_RUNTIME) runtime: BpfRuntime) {
    this.#runtime = runtime;
  }

  async load(program: Program, environment: ExecutionEnvironment): Promise<InterpretedProgram> {
    return this.loadNow(program, environment);
  }

  /** As `load`, for callers that cannot wait. */
  loadNow(program: Program, environment: ExecutionEnvironment): InterpretedProgram {
    const runtime = this.#runtime;
    const programId = environment.programId ?? runtime.allocateProgramId();
    // The run loop takes addresses for positive int32.
    if (runtime.space.byteLength > MAX_SPACE) {
      throw new XdpbedError(
        'executor-unsupported',
        `an address space of ${runtime.space.byteLength} bytes exceeds the interpreter's limit of ${MAX_SPACE}`,
      );
    }
    const machine = this.#machine ?? new Machine(runtime, interpret);
    let decoded: DecodedProgram;
    try {
      const helpers = createHelpers(runtime, environment.world, {
        check: (address, size, write) => {
          machine.onAccess?.(address, size, write);
          return machine.accessFault(address, size, write);
        },
        invoke: (slot) => invokeCallback(machine, slot),
        charge: (insns) => machine.charge(insns),
        overrides: environment.helperOverrides,
      });
      decoded = decodeProgram(program, environment, helpers);
      if (leavesFramesBehind(program)) machine.deepenStack();
    } catch (error) {
      if (machine.programs.size === 0) machine.close();
      throw error;
    }
    this.#machine = machine;
    machine.programs.set(programId, decoded);
    return new InterpretedProgram(decoded, machine, programId, () => {
      if (machine.programs.get(programId) !== decoded) return;
      machine.programs.delete(programId);
      if (machine.programs.size > 0) return;
      this.#machine = undefined;
      machine.close();
    });
  }
}

export class InterpretedProgram implements LoadedProgram {
  readonly name: string;
  readonly executor = 'interpreter';
  lastFault: ProgramFault | undefined;
  readonly #now: (() => bigint) | undefined;
  /** As `Machine.limit`: two per insn. */
  readonly #limit: number;

  constructor(
    readonly decoded: DecodedProgram,
    readonly machine: Machine,
    readonly id: number,
    readonly close: () => void,
  ) {
    const { world } = decoded.environment;
    this.#now = world.now?.bind(world);
    this.name = decoded.program.name;
    this.#limit = 2 * insnLimitOf(decoded.environment.insnLimit);
  }

  /** Insns that the last run executed, those of callbacks and tail-called programs included. */
  get executedInsns(): number {
    return (this.machine.executed - this.machine.charged) / 2;
  }

  debug(observer?: DebuggerObserver): ProgramDebugging {
    return new ProgramDebugger(this, observer);
  }

  openFrames(slots: number): FrameRing {
    const { runtime } = this.machine;
    return new FrameRing(runtime.space, slots, runtime.maps);
  }

  run(slots: FrameSlots, slot: number): RunOutcome {
    const frames = this.enter(slots);
    const verdict = this.#runFrame(frames.address(slot));
    const { fault } = this.machine;
    return fault === undefined ? { verdict } : { verdict, fault };
  }

  runBatch(slots: FrameSlots, first: number, count: number): number {
    const frames = this.enter(slots);
    let aborted = 0;
    let slot = first;
    for (let i = 0; i < count; i++) {
      this.#runFrame(frames.address(slot));
      if (this.machine.fault !== undefined) aborted++;
      if (++slot === frames.slots) slot = 0;
    }
    return aborted;
  }

  /** Sets the clock, and sees that the frames lie where the program can reach them. */
  enter(frames: FrameSlots): FrameRing {
    const { runtime } = this.machine;
    if (!(frames instanceof FrameRing) || frames.space !== runtime.space) {
      throw new RangeError('the frames lie in another address space');
    }
    if (this.#now !== undefined) runtime.state.now = this.#now();
    return frames;
  }

  call(r1: bigint, r2: bigint): CallOutcome {
    const { machine, decoded } = this;
    this.prepareCall(r1, r2);
    if (interpret(machine, decoded, 0, 0) !== Stop.EXIT) {
      this.lastFault = machine.fault;
      return { fault: machine.fault! };
    }
    const { registers } = machine.program;
    return { r0: wide(registers[0]!, registers[1]!) };
  }

  /** Sets up a run on the frame at `frame`, without running. */
  prepareFrame(frame: number): void {
    const { machine, decoded } = this;
    machine.begin(decoded, frame, this.#limit);
    decoded.registers[2] = frame;
    decoded.registers[3] = 0;
  }

  /** Sets up a run with R1 and R2 given. */
  prepareCall(r1: bigint, r2: bigint): void {
    const { machine, decoded } = this;
    machine.begin(decoded, 0, this.#limit);
    const { registers } = decoded;
    registers.fill(0, 0, 20);
    [r1, r2].forEach((value, i) => {
      registers[2 * i + 2] = Number(BigInt.asIntN(32, value));
      registers[2 * i + 3] = Number(BigInt.asIntN(32, value >> 32n));
    });
  }

  #runFrame(frame: number): number {
    const { machine, decoded } = this;
    this.prepareFrame(frame);
    let verdict = XDP_ABORTED;
    if (interpret(machine, decoded, 0, 0) !== Stop.EXIT) this.lastFault = machine.fault;
    else if (frameIntact(machine.i32, frame)) verdict = machine.program.registers[0]!;
    // Of no insn in particular.
    else this.lastFault = machine.fault = { insn: -1, reason: 'the bounds of the frame were overwritten' };
    machine.i32[(frame + FRAME_SLOT.verdict) >> 2] = verdict;
    return verdict >>> 0;
  }
}

/** Whether a tail call may be made out of a function that others wait for. */
function leavesFramesBehind({ insns }: Program): boolean {
  const calls = insns.filter(({ opcode }) => opcode === OP_CALL);
  const functions = insns.some((insn) => isLddw(insn) && insn.src === BPF_PSEUDO_FUNC);
  return (
    calls.some(({ src, imm }) => src === BPF_CALL_HELPER && imm === TAIL_CALL) &&
    (functions || calls.some(({ src }) => src === BPF_PSEUDO_CALL))
  );
}
