import {
  BPF_ATOMIC,
  BPF_CLASS_MASK,
  BPF_LDX,
  BPF_MODE_MASK,
  BPF_SIZE_MASK,
  BPF_ST,
  BPF_STX,
  REGISTER_COUNT,
} from '../../src/bpf/opcodes.js';
import type {
  AccessEvent,
  DebuggerObserver,
  DebuggerState,
  Location,
  ProgramDebugging,
} from '../../src/core/contract/program-debugging.js';
import type { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type { FrameSlots } from '../../src/core/contract/executor.js';
import type { DecodedProgram } from './decoded-program.js';
import { interpret } from './interpret.js';
import type { Machine, RunLoop } from './machine.js';
import { Op } from './op.js';
import { Stop } from './stop.js';

const SIZE_BYTES = [4, 2, 1, 8] as const;

/** What a debugger needs of the program that it steps through. */
export interface SteppableProgram {
  readonly decoded: DecodedProgram;
  readonly machine: Machine;
  /** Sets the clock, and sees that the frames lie where the program can reach them. */
  enter(frames: FrameSlots): FrameRing;
  /** Sets up a run on the frame at this address, without running. */
  prepareFrame(frame: number): void;
  /** Sets up a run with R1 and R2 given. */
  prepareCall(r1: bigint, r2: bigint): void;
}

/**
 * Runs a loaded program step by step: the interface behind `prog trace`.
 *
 * It runs the interpreter's own loop on a copy of the code in which every insn hands over control, and puts one
 * insn back at a time; programs that are not being debugged pay nothing for it. The machine of a runtime runs one
 * program at a time: between `start` and the end of a run, no other program of the runtime may run.
 */
export class ProgramDebugger implements ProgramDebugging {
  /** Insns of `program.insns` before which `resume` stops, in whichever program they are reached. */
  readonly breakpoints = new Set<number>();
  #state: DebuggerState | undefined;
  #program: DecodedProgram;
  #slot = 0;

  constructor(
    readonly loaded: SteppableProgram,
    readonly observer: DebuggerObserver = {},
  ) {
    this.#program = loaded.decoded;
  }

  /** Prepares a run on the frame in a slot; nothing is executed yet. */
  start(slots: FrameSlots, slot: number): DebuggerState {
    this.loaded.prepareFrame(this.loaded.enter(slots).address(slot));
    return this.#begin();
  }

  /** Prepares a run with R1 and R2 given. */
  startCall(r1: bigint, r2: bigint): DebuggerState {
    this.loaded.prepareCall(r1, r2);
    return this.#begin();
  }

  /** The state that the last call returned; undefined before `start`. */
  get state(): DebuggerState | undefined {
    return this.#state;
  }

  /** R0 … R10 of the current frame. */
  registers(): bigint[] {
    return readRegisters(this.#program);
  }

  /**
   * Executes one insn. A helper call is one step, callbacks included; the observer sees their insns. At the
   * end of the run it does nothing.
   */
  step(): DebuggerState {
    if (this.#state?.state !== 'paused') return this.#require();
    const stop = this.#debugging(() => this.#stepOnce(this.#program, this.#slot, 0));
    this.#settle(stop);
    return this.#require();
  }

  /** Executes until a breakpoint or the end, at least one insn. */
  resume(): DebuggerState {
    do {
      this.step();
    } while (this.#state?.state === 'paused' && !this.breakpoints.has(this.#state.insn));
    return this.#require();
  }

  #begin(): DebuggerState {
    this.#program = this.loaded.decoded;
    this.#slot = 0;
    this.#state = this.#pausedState();
    return this.#state;
  }

  #require(): DebuggerState {
    if (this.#state === undefined) throw new RangeError('the debugger has not been started');
    return this.#state;
  }

  get #machine(): Machine {
    return this.loaded.machine;
  }

  #location(program: DecodedProgram, slot: number): Location {
    return { program: program.program, insn: slot, depth: this.#machine.depth };
  }

  #pausedState(): DebuggerState {
    return { state: 'paused', ...this.#location(this.#program, this.#slot) };
  }

  #settle(stop: Stop): void {
    const machine = this.#machine;
    this.#program = machine.program;
    if (stop === Stop.PAUSED) {
      this.#slot = machine.pausedAt;
      this.#state = this.#pausedState();
      return;
    }
    machine.end();
    if (stop === Stop.EXIT) {
      this.#state = { state: 'exited', r0: machine.program.register(0) };
    } else {
      this.#state = { state: 'faulted', fault: machine.fault! };
    }
  }

  /** Runs with the machine in debugging mode, so that callbacks are stepped through as well. */
  #debugging(run: () => Stop): Stop {
    const machine = this.#machine;
    const { runLoop } = machine;
    machine.pausing = debugCodeOf;
    machine.runLoop = this.#stepThrough;
    try {
      return run();
    } finally {
      machine.pausing = undefined;
      machine.runLoop = runLoop;
      machine.onAccess = undefined;
    }
  }

  /** A callback: step by step, until its frame returns. */
  readonly #stepThrough: RunLoop = (machine, program, start, baseDepth) => {
    const { onAccess } = machine;
    let slot = start;
    let current = program;
    for (;;) {
      const stop = this.#stepOnce(current, slot, baseDepth);
      if (stop !== Stop.PAUSED) {
        machine.onAccess = onAccess;
        return stop;
      }
      current = machine.program;
      slot = machine.pausedAt;
    }
  };

  #stepOnce(program: DecodedProgram, slot: number, baseDepth: number): Stop {
    const machine = this.#machine;
    const { debugCode } = program;
    const at = this.#location(program, slot);
    this.observer.onInsn?.(at, readRegisters(program));
    if (this.observer.onAccess !== undefined) this.#announceAccess(at, program);
    program.setOp(debugCode, slot, program.ops[slot]!);
    try {
      return interpret(machine, program, slot, baseDepth);
    } finally {
      program.setOp(debugCode, slot, Op.PAUSE);
    }
  }

  #announceAccess(at: Location, program: DecodedProgram): void {
    const machine = this.#machine;
    const tell = (address: number, size: number, kind: AccessEvent['kind'], write: boolean) => {
      const object = machine.runtime.space.regionAt(address)?.label;
      this.observer.onAccess!(at, { address, size, kind, write, object });
    };
    machine.onAccess = (address, size, write) => tell(address, size, 'helper', write);
    const insn = program.program.insns[at.insn];
    if (insn === undefined) return;
    const insnClass = insn.opcode & BPF_CLASS_MASK;
    if (insnClass !== BPF_LDX && insnClass !== BPF_ST && insnClass !== BPF_STX) return;
    const base = insnClass === BPF_LDX ? insn.src : insn.dst;
    const address = (program.registers[2 * base]! + insn.off) >>> 0;
    const isAtomic = insnClass === BPF_STX && (insn.opcode & BPF_MODE_MASK) === BPF_ATOMIC;
    const kind = isAtomic ? 'atomic' : insnClass === BPF_LDX ? 'load' : 'store';
    tell(address, SIZE_BYTES[(insn.opcode & BPF_SIZE_MASK) >> 3]!, kind, kind !== 'load');
  }
}

const debugCodeOf = (program: DecodedProgram): number => program.debugCode;

function readRegisters(program: DecodedProgram): bigint[] {
  return Array.from({ length: REGISTER_COUNT }, (_, n) => program.register(n));
}
