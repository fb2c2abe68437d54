import type { DebuggerObserver, ProgramDebugging } from '../../src/core/contract/program-debugging.js';
import type {
  CallOutcome,
  FrameSlots,
  LoadedProgram,
  ProgramFault,
  RunOutcome,
} from '../../src/core/contract/executor.js';
import type { InsnCounts } from '../../src/core/contract/insn-coverage.js';
import { XDP_ABORTED } from '../../src/bpf/xdp.js';
import { insnLimitOf } from '../../src/bpf/runtime/insn-budget.js';
import type { WorkCounters } from '../../src/bpf/runtime/work-counters.js';
import { FRAME_SLOT, frameIntact } from '../../src/bpf/runtime/xdp-frame.js';
import { FrameRing, openFrames } from '../../src/bpf/runtime/frame-ring.js';
import { interpretCovered } from './covered-run.js';
import { ProgramDebugger } from './program-debugger.js';
import type { DecodedProgram } from './decoded-program.js';
import type { Machine, RunLoop } from './machine.js';
import { Stop } from './machine.js';
import { interpret } from './run-loop.js';
import { wide } from './wide-arithmetic.js';

/** A program in the interpreter. */
export class InterpretedProgram implements LoadedProgram {
  readonly name: string;
  readonly executor = 'interpreter';
  lastFault: ProgramFault | undefined;
  readonly #now: (() => bigint) | undefined;
  /** As `Machine.limit`: two per insn. */
  readonly #limit: number;
  readonly #interpret: RunLoop;

  constructor(
    readonly decoded: DecodedProgram,
    readonly machine: Machine,
    readonly id: number,
    readonly work: WorkCounters | undefined,
    readonly close: () => void,
  ) {
    const { world } = decoded.environment;
    this.#now = world.now?.bind(world);
    this.name = decoded.program.name;
    this.#limit = 2 * insnLimitOf(decoded.environment.insnLimit);
    this.#interpret = decoded.coverage === undefined ? interpret : interpretCovered;
  }

  get coverage(): InsnCounts | undefined {
    return this.decoded.environment.coverage;
  }

  /** Insns that the last run executed, those of callbacks and tail-called programs included. */
  get executedInsns(): number {
    return this.machine.executedInsns;
  }

  debug(observer?: DebuggerObserver): ProgramDebugging {
    return new ProgramDebugger(this, observer);
  }

  openFrames(slots: number, longest?: number): FrameRing {
    const { runtime } = this.machine;
    return openFrames(this.decoded.program, runtime, slots, longest);
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
    const stop = this.#interpret(machine, decoded, 0, 0);
    machine.end();
    if (stop !== Stop.EXIT) {
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
    const stop = this.#interpret(machine, decoded, 0, 0);
    machine.end();
    if (stop !== Stop.EXIT) this.lastFault = machine.fault;
    else if (frameIntact(machine.runtime.space, frame)) verdict = machine.program.registers[0]!;
    // Of no insn in particular.
    else this.lastFault = machine.fault = { insn: -1, reason: 'the bounds of the frame were overwritten' };
    machine.i32[(frame + FRAME_SLOT.verdict) >> 2] = verdict;
    return verdict >>> 0;
  }
}
