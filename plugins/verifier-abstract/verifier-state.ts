import { NOWHERE, Origin, OriginKind, undropped } from './origin.js';
import { CONTEXT, FRAME_POINTERS, Kind, NOT_INIT, type KnownMap, type Value } from './register-state.js';
import { StackState } from './stack-state.js';

/** What a frame calls back to: the helper's call insn runs the function again and again. */
export interface CallbackFrame {
  readonly helper: number;
  readonly map: KnownMap | undefined;
  /** Most calls there can be, when the helper's arguments tell. */
  readonly limit: number | undefined;
  /** Steps of the path when the function was entered, to bound the longest run. */
  readonly enteredAt: number;
}

/** The rounds of a helper that calls back, kept in the frame that calls it. */
export interface Rounds {
  /** Tells one run of the call insn from another. */
  readonly invocation: number;
  readonly count: number;
  /** Cost of the longest round so far, which the state's cost includes as often as there may be rounds. */
  readonly charged: number;
}

/** Registers and stack of one call of a function. Written through `State.writable`. */
export class Frame {
  constructor(
    /** Slot of the function's first insn. */
    readonly start: number,
    /** Slot of the call insn; -1 for the main program. */
    readonly callsite: number,
    readonly callback: CallbackFrame | undefined,
    /** Set while a helper that this frame called is calling back. */
    readonly rounds: Rounds | undefined,
    readonly regs: Value[],
    readonly origins: (Origin | undefined)[],
    public stack: StackState,
    public owner: object,
    public stackOwner: object,
  ) {}

  copy(owner: object): Frame {
    return this.copyWith(owner, this.rounds);
  }

  copyWith(owner: object, rounds: Rounds | undefined): Frame {
    return new Frame(
      this.start,
      this.callsite,
      this.callback,
      rounds,
      this.regs.slice(),
      this.origins.slice(),
      this.stack,
      owner,
      // The stack stays with whoever owns it until it is written.
      this.stackOwner,
    );
  }
}

/** Something that has to be given back before the program ends, e.g. a ring buffer record. */
export interface Reference {
  readonly id: number;
  /** Slot of the call that acquired it. */
  readonly insn: number;
  readonly what: string;
}

/** The choices that led here, newest first: at each fork, whether the path went on with the second branch. */
export interface Choice {
  readonly second: boolean;
  readonly previous: Choice | undefined;
}

/** The state of a path between two insns. */
export class State {
  #token = {};
  frames: Frame[];
  references: readonly Reference[];
  choices: Choice | undefined;
  /** Insns this path has run. */
  steps: number;
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

  static initial(): State {
    const state = new State([], [], undefined, 0, 0);
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
  fork(): State {
    this.#token = {};
    return new State(this.frames.slice(), this.references, this.choices, this.steps, this.cost);
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

  /**
   * A copy to be stored. From now on the values of both have origins of their own, so that marks set by what this
   * path does next can be read off the stored copy. `live[i]` tells which registers of frame i are read later; the
   * others do not count and are dropped from the copy.
   */
  checkpoint(live: readonly number[]): State {
    this.#token = {};
    const stored: Frame[] = [];
    for (let index = 0; index < this.frames.length; index++) {
      const frame = this.frames[index]!;
      const mask = live[index]!;
      const origins: (Origin | undefined)[] = frame.origins.slice();
      const kept: Value[] = frame.regs.slice();
      for (let register = 0; register < 10; register++) {
        if ((mask & (1 << register)) === 0) kept[register] = NOT_INIT;
        else if (kept[register]!.kind === Kind.Scalar) {
          const source = undropped(origins[register]);
          origins[register] = new Origin(NOWHERE, this.steps, source, undefined, OriginKind.Copy);
        }
      }
      const stack = frame.stack.slots.length === 0 ? frame.stack : frame.stack.checkpoint(this.steps);
      const parts = [frame.start, frame.callsite, frame.callback, frame.rounds] as const;
      stored.push(new Frame(...parts, kept, origins, stack, NOBODY, NOBODY));
      this.frames[index] = new Frame(...parts, frame.regs, origins, stack, NOBODY, NOBODY);
    }
    return new State(stored, this.references, undefined, this.steps, this.cost);
  }
}

/** Owner of frames that nobody may write. */
const NOBODY = {};

function emptyFrame(
  start: number,
  callsite: number,
  depth: number,
  callback: CallbackFrame | undefined,
  owner: object,
): Frame {
  const regs: Value[] = new Array<Value>(11).fill(NOT_INIT);
  regs[10] = FRAME_POINTERS[depth]!;
  const origins = new Array<Origin | undefined>(11).fill(undefined);
  return new Frame(start, callsite, callback, undefined, regs, origins, new StackState(), owner, owner);
}
