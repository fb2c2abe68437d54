import { type CallbackFrame, emptyFrame, type Frame, type Rounds } from './frame.js';
import type { Checkpoint } from './checkpoint.js';
import { Origin, OriginKind } from './origin.js';
import type { StackState } from './stack-state.js';
import { CONTEXT, type KnownMap, type Value } from './value.js';

/** Something that has to be given back before the program ends, e.g. a ring buffer record. */
export interface Reference {
  readonly id: number;
  /** Slot of the call that acquired it. */
  readonly insn: number;
  readonly what: string;
}

/** The lock that a path holds: at most one (kernel/bpf/verifier.c, `process_spin_lock`). */
export interface HeldLock {
  readonly map: KnownMap;
  /** Id of the pointer to the value that the lock is in; 0 for the one value of global data. */
  readonly id: number;
  /** Slot of the call that took it. */
  readonly insn: number;
}

/** A comparison that proved bytes of the packet through a pointer with a variable offset. */
export interface ProvedPointer {
  readonly insn: number;
  readonly register: number;
  readonly value: Value;
}

/** The choices that led here, newest first: at each fork, whether the path went on with the second branch. */
export interface Choice {
  readonly second: boolean;
  readonly previous: Choice | undefined;
}

/** A state that a path had, which nobody may write. */
export interface PassedState {
  readonly state: VerifierState;
  /** By frame: registers that may be read before they are written, one bit for each. */
  readonly liveRegisters: readonly number[];
}

/** The state of a path between two insns. */
export class VerifierState {
  #token = {};
  frames: Frame[];
  references: readonly Reference[];
  lock: HeldLock | undefined;
  choices: Choice | undefined;
  /** The latest on this path. */
  proved: ProvedPointer | undefined;
  /** The last that this path has passed. */
  latest: Checkpoint | undefined;
  /** Insns this path has run. */
  steps: number;
  /** Values that insns of this path changed beside what they name: copies of a number that was compared, say. */
  changes = 0;
  /** Upper bound of insns that a run along this path takes; more than `steps` after a callback helper. */
  cost: number;

  private constructor(
    frames: Frame[],
    references: readonly Reference[],
    choices: Choice | undefined,
    steps: number,
    cost: number,
  ) {
    this.frames = frames;
    this.references = references;
    this.choices = choices;
    this.steps = steps;
    this.cost = cost;
  }

  static initial(): VerifierState {
    const state = new VerifierState([], [], undefined, 0, 0);
    const frame = emptyFrame(0, -1, 0, undefined, state.#token);
    frame.regs[1] = CONTEXT;
    frame.origins[1] = new Origin(0, 0, undefined, undefined, OriginKind.Value);
    state.frames.push(frame);
    return state;
  }

  get depth(): number {
    return this.frames.length - 1;
  }

  /** The running frame, for reading. */
  get top(): Frame {
    return this.frames[this.frames.length - 1]!;
  }

  /** A frame that may be written: a copy of its own if it was shared. */
  writable(index = this.frames.length - 1): Frame {
    let frame = this.frames[index]!;
    if (frame.owner !== this.#token) {
      frame = frame.copy(this.#token);
      this.frames[index] = frame;
    }
    return frame;
  }

  writableStack(index: number): StackState {
    const frame = this.writable(index);
    if (frame.stackOwner !== this.#token) {
      frame.stack = frame.stack.copy();
      frame.stackOwner = this.#token;
    }
    return frame.stack;
  }

  /** A second state that is equal to this one; both copy a frame when they next write it. */
  fork(): VerifierState {
    this.#token = {};
    const second = new VerifierState(
      this.frames.slice(),
      this.references,
      this.choices,
      this.steps,
      this.cost,
    );
    second.changes = this.changes;
    second.proved = this.proved;
    second.lock = this.lock;
    second.latest = this.latest;
    return second;
  }

  pushFrame(start: number, callsite: number, callback?: CallbackFrame): Frame {
    const frame = emptyFrame(start, callsite, this.frames.length, callback, this.#token);
    this.frames.push(frame);
    return frame;
  }

  /** Notes in the top frame how far the helper that it called has got; undefined when it is done. */
  setRounds(rounds: Rounds | undefined): void {
    const index = this.frames.length - 1;
    const frame = this.frames[index]!;
    if (frame.rounds !== rounds) this.frames[index] = frame.copyWith(this.#token, rounds);
  }

  popFrame(): Frame {
    return this.frames.pop()!;
  }
}
