import type { Program } from '../../bpf/program.js';
import type { FrameSlots, ProgramFault } from './program-run.js';

/** Where a program is while a debugger has control: `insn` is about to be executed. */
export interface Location {
  /** The program that was loaded, or one that a tail call put in its place. */
  readonly program: Program;
  readonly insn: number;
  /** Frames below the current one: local calls and callbacks. */
  readonly depth: number;
}

export type DebuggerState =
  | ({ readonly state: 'paused' } & Location)
  /** R0; its lower 32 bits are the verdict. */
  | { readonly state: 'exited'; readonly r0: bigint }
  | { readonly state: 'faulted'; readonly fault: ProgramFault };

/** A memory access, just before it is made; `address` may be one that the program must not touch. */
export interface AccessEvent {
  readonly address: number;
  readonly size: number;
  /** `helper`: an argument of the helper that is being called, read or written as `write` says. */
  readonly kind: 'load' | 'store' | 'atomic' | 'helper';
  readonly write: boolean;
  /** How messages call the object, undefined when the address belongs to none. */
  readonly object: string | undefined;
}

/** Is told of what happens, in order; either method may be left out. */
export interface DebuggerObserver {
  onInsn?(at: Location, registers: readonly bigint[]): void;
  onAccess?(at: Location, access: AccessEvent): void;
}

/** Runs a loaded program step by step. While a run is paused, no other program of its runtime may run. */
export interface ProgramDebugging {
  /** Insns before which `resume` stops, in whichever program they are reached. */
  readonly breakpoints: Set<number>;
  /** What the last call left; undefined before `start`. */
  readonly state: DebuggerState | undefined;
  /** Prepares a run on the frame in a slot; nothing is executed yet. */
  start(frames: FrameSlots, slot: number): DebuggerState;
  /** R0 … R10 of the current frame. */
  registers(): bigint[];
  /** Executes one insn; a helper call is one step. At the end of the run it does nothing. */
  step(): DebuggerState;
  /** Executes until a breakpoint or the end, at least one insn. */
  resume(): DebuggerState;
}
