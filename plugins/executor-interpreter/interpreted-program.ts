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
import { FRAME_SLOT, FRAME_SLOT_SIZE, frameIntact } from '../../src/bpf/runtime/xdp-frame.js';
import { FrameRing, openFrames } from '../../src/bpf/runtime/frame-ring.js';
import { interpretCovered } from './covered-run.js';
import type { DecodedProgram } from './decoded-program.js';
import { interpret, nextSlice } from './interpret.js';
import type { Machine, RunLoop } from './machine.js';
import { ProgramDebugger } from './program-debugger.js';
import { Stop } from './stop.js';

/** Frames after which V8 may put the code in place that it has optimized meanwhile. */
const FRAMES_AT_ONCE = 256;

/** A program in the interpreter. */
export class InterpretedProgram implements LoadedProgram {
  readonly name: string;
  readonly executor = 'interpreter';
  lastFault: ProgramFault | undefined;
  readonly #now: (() => bigint) | undefined;
  /** Insns that a run may execute. */
  readonly #limit: number;
  readonly #interpret: RunLoop;
  #closed = false;

  constructor(
    readonly decoded: DecodedProgram,
    readonly machine: Machine,
    readonly id: number,
    readonly work: WorkCounters | undefined,
    readonly release: () => void,
  ) {
    const { world } = decoded.environment;
    this.#now = world.now?.bind(world);
    this.name = decoded.program.name;
    this.#limit = insnLimitOf(decoded.environment.insnLimit);
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
    const frame = this.enter(slots).address(slot);
    const { machine } = this;
    machine.enter();
    try {
      this.#runFrames(frame, frame + FRAME_SLOT_SIZE);
      const { fault, i32 } = machine;
      const verdict = i32[(frame + FRAME_SLOT.verdict) >> 2]! >>> 0;
      return fault === undefined ? { verdict } : { verdict, fault };
    } finally {
      machine.leave();
    }
  }

  runBatch(slots: FrameSlots, first: number, count: number): number {
    const frames = this.enter(slots);
    let aborted = 0;
    let slot = first;
    this.machine.enter();
    try {
      for (let left = count; left > 0;) {
        const length = Math.min(left, FRAMES_AT_ONCE, frames.slots - slot);
        const start = frames.address(slot);
        aborted += this.#runFrames(start, start + length * FRAME_SLOT_SIZE);
        left -= length;
        slot += length;
        if (slot === frames.slots) slot = 0;
      }
    } finally {
      this.machine.leave();
    }
    return aborted;
  }

  /** Gives its memory back. What is asked of it from then on throws RangeError: others may have that memory. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.release();
  }

  #mustBeOpen(): void {
    if (this.#closed) throw new RangeError(`program ${this.name} is closed`);
  }

  /** Sets the clock, and sees that the frames lie where the program can reach them. */
  enter(frames: FrameSlots): FrameRing {
    this.#mustBeOpen();
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
    machine.enter();
    try {
      const stop = this.#interpret(machine, decoded, 0, 0);
      machine.end();
      if (stop !== Stop.EXIT) {
        this.lastFault = machine.fault;
        return { fault: machine.fault! };
      }
      return { r0: machine.program.register(0) };
    } finally {
      machine.leave();
    }
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
    this.#mustBeOpen();
    const { machine, decoded } = this;
    machine.begin(decoded, 0, this.#limit);
    const { registers } = decoded;
    registers.fill(0, 0, 20);
    [r1, r2].forEach((value, i) => {
      registers[2 * i + 2] = Number(BigInt.asIntN(32, value));
      registers[2 * i + 3] = Number(BigInt.asIntN(32, value >> 32n));
    });
  }

  /** Runs the program on frames that lie behind one another; how many of them ended in a fault. */
  #runFrames(start: number, end: number): number {
    const { machine, decoded } = this;
    let aborted = 0;
    if (decoded.coverage !== undefined) {
      for (let frame = start; frame !== end; frame += FRAME_SLOT_SIZE) {
        this.prepareFrame(frame);
        this.#finish(frame, this.#interpret(machine, decoded, 0, 0));
        if (machine.fault !== undefined) aborted++;
      }
      return aborted;
    }
    machine.beginBatch(decoded, this.#limit);
    let pc = 0;
    for (let frame = start; ;) {
      frame = machine.runFrames(pc, frame, end);
      if (frame === end) break;
      pc = machine.stop === Stop.SLICED ? nextSlice(machine) : 0;
      if (pc !== 0) continue;
      this.#finish(frame, machine.stop);
      if (machine.fault !== undefined) aborted++;
      frame += FRAME_SLOT_SIZE;
      if (frame === end) break;
      machine.clearFault();
    }
    machine.endBatch();
    return aborted;
  }

  /** A run on a frame has stopped. */
  #finish(frame: number, stop: Stop): void {
    const { machine } = this;
    machine.end();
    let verdict = XDP_ABORTED;
    if (stop !== Stop.EXIT) this.lastFault = machine.fault;
    else if (frameIntact(machine.runtime.space, frame)) verdict = machine.program.registers[0]!;
    // Of no insn in particular.
    else this.lastFault = machine.fault = { insn: -1, reason: 'the bounds of the frame were overwritten' };
    machine.i32[(frame + FRAME_SLOT.verdict) >> 2] = verdict;
  }
}
