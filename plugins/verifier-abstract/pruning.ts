import { markLive, markPrecise } from './checkpoint.js';
import { agreesOnIds, coversBytes, coversValue } from './coverage.js';
import type { CallbackFrame, Frame, Rounds } from './frame.js';
import { coversCalls, coversHeld } from './held.js';
import { ALL_BYTES } from './origin.js';
import { Renaming } from './renaming.js';
import type { Slot } from './slot.js';
import { Kind, type Value } from './value.js';
import type { HeldLock, PassedState, Reference, VerifierState } from './verifier-state.js';

/**
 * When a path comes to a state that an earlier one covers, whatever can happen from here on has been seen. Of a state
 * all of whose paths have ended it is known what mattered, and demands.ts tells whether that is so. Of others it is
 * not, and what "covers" means is for what:
 *
 * - `Same`: equal in everything that may be read. A path that comes back to such a state that it has passed itself never ends.
 * - `Within`: everything that the current state may be, the earlier one may be, whatever was or will be read. This
 *   holds no matter what other paths find out: the rounds of a callback may end by it.
 */
export enum Comparison {
  Same,
  Within,
}

/** Names of the data fields of a class: methods and accessors are not spread. */
type FieldOf<T extends object> = keyof {
  [K in keyof T as T[K] extends (...args: never[]) => unknown ? never : K]: T[K];
};

type Compared =
  /** Both have the same. */
  | 'equal'
  /** What the current one may be, the old one may be. */
  | 'contained'
  /** The same after renaming: ids only say what belongs together. */
  | 'renamed';

/**
 * How each part of a state takes part in the comparison, or why it need not. A field that is added to one of these
 * classes does not compile until it is named here; pruning.test.ts changes each in turn and looks whether the
 * comparison takes notice.
 */
export const COMPARISONS = {
  value: {
    kind: 'equal',
    scalar: 'contained',
    id: 'renamed',
    off: 'equal',
    range: 'contained',
    maybeNull: 'equal',
    ref: 'renamed',
    map: 'equal',
    size: 'equal',
    socket: 'equal',
  },
  slot: { types: 'contained', value: 'contained', spillSize: 'contained' },
  frame: {
    start: 'equal',
    callsite: 'equal',
    callback: 'equal',
    rounds: 'contained',
    regs: 'contained',
    stack: 'contained',
    origins: { not: 'tell what is marked at which checkpoint' },
    owner: { not: 'who may write the frame' },
    stackOwner: { not: 'who may write the stack' },
  },
  callback: {
    helper: { not: 'is what the call insn says, which is the same (callsite)' },
    map: 'equal',
    limit: { not: 'follows from R1 of the caller, which is compared, or from the map' },
    element: 'renamed',
    enteredAt: { not: 'counts the cost of the path (exploration.ts)' },
  },
  rounds: {
    invocation: { not: 'tells the calls of one insn apart; what they may do does not depend on it' },
    count: 'contained',
    charged: 'contained',
  },
  reference: {
    id: 'renamed',
    insn: { not: 'is for messages' },
    what: { not: 'is for messages' },
  },
  lock: { map: 'equal', id: 'renamed', insn: { not: 'is for messages' } },
  state: {
    frames: 'contained',
    references: 'renamed',
    lock: 'renamed',
    proved: { not: 'is for messages' },
    choices: { not: 'how the path came here' },
    steps: { not: 'how long the path is' },
    latest: { not: 'where marks of the path are noted' },
    changes: { not: 'how much memory the path takes' },
    cost: { not: 'how long the path is at most' },
  },
} as const satisfies {
  readonly value: Record<Exclude<FieldOf<Value>, 'isScalar' | 'isPointer' | 'constant' | 'isZero'>, Compared>;
  readonly slot: Record<FieldOf<Slot>, Compared>;
  readonly frame: Record<FieldOf<Frame>, Compared | { readonly not: string }>;
  readonly callback: Record<FieldOf<CallbackFrame>, Compared | { readonly not: string }>;
  readonly rounds: Record<FieldOf<Rounds>, Compared | { readonly not: string }>;
  readonly reference: Record<FieldOf<Reference>, Compared | { readonly not: string }>;
  readonly lock: Record<FieldOf<HeldLock>, Compared | { readonly not: string }>;
  readonly state: Record<
    Exclude<FieldOf<VerifierState>, 'depth' | 'top'>,
    Compared | { readonly not: string }
  >;
};

const renaming = new Renaming();

/** Whether `old`, of which nobody knows yet what matters, covers `current`, which is at the same insn. */
export function covers(old: PassedState, current: VerifierState, comparison: Comparison): boolean {
  const isSame = comparison === Comparison.Same;
  const { frames } = old.state;
  if (!coversCalls(old.state, current, isSame)) return false;
  for (let i = frames.length - 1; i >= 0; i--) {
    if (!coversFrame(frames[i]!, old.liveRegisters[i]!, current.frames[i]!, isSame)) return false;
  }
  renaming.clear();
  if (!coversHeld(renaming, old.state, current)) return false;
  return frames.every((frame, i) => agreesInFrame(frame, old.liveRegisters[i]!, current.frames[i]!));
}

function coversFrame(old: Frame, liveRegisters: number, current: Frame, isSame: boolean): boolean {
  for (let register = 0; register < 10; register++) {
    if (!isLive(old, liveRegisters, register)) continue;
    if (!coversValue(old.regs[register]!, current.regs[register]!, isSame)) return false;
  }
  const { slots } = old.stack;
  for (let index = 0; index < slots.length; index++) {
    if (!coversSlot(slots[index]!, current.stack.slot(index), isSame)) return false;
  }
  return !isSame || !hasMoreSlots(old, current);
}

function isLive({ regs }: Frame, liveRegisters: number, register: number): boolean {
  return (liveRegisters & (1 << register)) !== 0 && regs[register]!.kind !== Kind.NotInit;
}

function hasMoreSlots(old: Frame, current: Frame): boolean {
  const { slots } = current.stack;
  for (let index = 0; index < slots.length; index++) {
    if (slots[index]!.types !== 0 && (old.stack.slots[index]?.types ?? 0) === 0) return true;
  }
  return false;
}

function coversSlot(old: Slot, current: Slot, isSame: boolean): boolean {
  if (isSame && (old.types !== current.types || old.spillSize !== current.spillSize)) return false;
  const { value, spillSize } = old;
  if (value !== undefined) {
    const now = current.read(spillSize);
    if (now === undefined || !coversValue(value, now, isSame)) return false;
  }
  return coversBytes(old, ALL_BYTES & (ALL_BYTES << spillSize), current);
}

/** Of frames that cover each other otherwise. */
function agreesInFrame(old: Frame, liveRegisters: number, current: Frame): boolean {
  for (let register = 0; register < 10; register++) {
    if (!isLive(old, liveRegisters, register)) continue;
    if (!agreesOnIds(renaming, old.regs[register]!, current.regs[register]!)) return false;
  }
  return old.stack.slots.every(
    ({ value, spillSize }, index) =>
      value === undefined || agreesOnIds(renaming, value, current.stack.slot(index).read(spillSize)!),
  );
}

/**
 * Ends a path on a state whose own paths have not ended: what they will need is not known, so it is everything, and
 * exactly. Then what they return is among what is returned anyway, of this state and of those that it was computed from.
 */
export function markEverything(state: VerifierState): void {
  const { latest } = state;
  state.frames.forEach(({ origins, stack }, frame) => {
    for (const origin of origins) markPrecise(origin, latest);
    stack.origins.forEach((origin, slot) => {
      markLive(origin, latest, frame, slot, ALL_BYTES);
      markPrecise(origin, latest);
    });
  });
}
