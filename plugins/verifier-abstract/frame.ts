import type { Origin } from './origin.js';
import { StackState } from './stack-state.js';
import { FRAME_POINTERS, type KnownMap, NOT_INIT, type Value } from './value.js';

/** What a frame calls back to: the helper's call insn runs the function again and again. */
export interface CallbackFrame {
  readonly helper: number;
  readonly map: KnownMap | undefined;
  /** Most calls that the worst case counts with; Infinity when nothing bounds them. */
  readonly limit: number;
  /** `ref` of the pointers to the element that the function was called for, which end with it; 0 for none. */
  readonly element: number;
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

  /** The same call, and nothing of what it held. */
  bare(): Frame {
    const { start, callsite, callback, rounds } = this;
    if (callsite < 0 && rounds === undefined) return BARE_MAIN;
    return new Frame(start, callsite, callback, rounds, [], [], BARE_MAIN.stack, BARE_MAIN, BARE_MAIN);
  }

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

/** Frame of the main program, which nobody may write. */
const BARE_MAIN = new Frame(0, -1, undefined, undefined, [], [], new StackState(), {}, {});

export function emptyFrame(
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
