import type { CallbackFrame, Frame, Rounds } from './frame.js';
import {
  ALL_BYTES,
  liveBytes,
  markLive,
  markPrecise,
  markReturned,
  type Origin,
  PRECISE,
  RETURNED,
} from './origin.js';
import type { Scalar } from './scalar/scalar.js';
import { Byte, type Slot } from './slot.js';
import { Kind, UNKNOWN_NUMBER, type Value } from './value.js';
import type { HeldLock, Reference, VerifierState } from './verifier-state.js';

/**
 * When a path comes to a state that an earlier one covers, whatever can happen from here on has been seen. What
 * "covers" means:
 *
 * - `Explored`: every path from the earlier state has ended, so its origins tell what mattered (origin.ts). A
 *   register that is not read later does not count (it is not in the stored state), a stack slot not read later
 *   does not count, and a number whose exact range never decided anything may be any number.
 * - `Same`: equal in everything. A path that comes back to such a state that it has passed itself never ends.
 * - `Within`: everything that the current state may be, the earlier one may be, whatever was or will be read. This
 *   holds no matter what other paths find out, so it may be used on states whose paths have not ended: the rounds
 *   of a callback.
 */
export enum Comparison {
  Explored,
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
  slot: { types: 'contained', value: 'contained', spillSize: 'equal' },
  frame: {
    start: 'equal',
    callsite: 'equal',
    callback: 'equal',
    rounds: 'contained',
    regs: 'contained',
    stack: 'contained',
    origins: { not: 'tell what mattered after the old state; of the current one, nothing has happened yet' },
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

/** What a number with an id stands for in the current state: a number with an id there plus a constant, or a constant. */
interface Counterpart {
  /** Id in the current state; 0 when the number is a constant. */
  readonly id: number;
  /** What is added to the number of that id, or the constant itself; modulo 2^64. */
  readonly plus: bigint;
}

/** Which id of the current state an id of the earlier one stands for: in each comparison one to one. */
class Renaming {
  readonly #forward = new Map<number, number>();
  readonly #backward = new Map<number, number>();
  readonly #numbers = new Map<number, Counterpart>();
  readonly #numberOf = new Map<number, number>();

  clear(): void {
    this.#forward.clear();
    this.#backward.clear();
    this.#numbers.clear();
    this.#numberOf.clear();
  }

  /** Ids of pointers and references. */
  matches(old: number, current: number): boolean {
    if (old === 0 || current === 0) return old === current;
    const known = this.#forward.get(old);
    if (known !== undefined) return known === current;
    if (this.#backward.has(current)) return false;
    this.#forward.set(old, current);
    this.#backward.set(current, old);
    return true;
  }

  /**
   * Numbers that were the same, plus a constant, have to be so now. A number that is alone in the old state, which
   * has no id or whose id nothing else has, may be anything; and so may be a constant in the current one.
   */
  matchesNumber(old: Value, current: Value): boolean {
    if (old.id === 0) return true;
    const id = current.scalar.isConst ? 0 : current.id;
    // Without an id it is no other number: only the id's first appearance can agree with it.
    const isAlone = id === 0 && !current.scalar.isConst;
    const plus = BigInt.asUintN(
      64,
      current.scalar.isConst ? current.scalar.value - BigInt(old.off) : BigInt(current.off - old.off),
    );
    const known = this.#numbers.get(old.id);
    if (known !== undefined) return !isAlone && known.id === id && known.plus === plus;
    if (isAlone) {
      // No id is negative, so that nothing agrees with it later.
      this.#numbers.set(old.id, ALONE);
      return true;
    }
    if (id !== 0) {
      if (this.#numberOf.has(id)) return false;
      this.#numberOf.set(id, old.id);
    }
    this.#numbers.set(old.id, { id, plus });
    return true;
  }
}

const ALONE: Counterpart = { id: -1, plus: 0n };

const renaming = new Renaming();

/** Whether `old`, a stored state, covers `current` at the same insn. */
export function covers(old: VerifierState, current: VerifierState, comparison: Comparison): boolean {
  const depth = old.frames.length;
  if (depth !== current.frames.length || old.references.length !== current.references.length) return false;
  for (let i = 0; i < depth; i++) {
    const a = old.frames[i]!;
    const b = current.frames[i]!;
    if (a.callsite !== b.callsite || a.start !== b.start || a.callback?.map !== b.callback?.map) return false;
    // How often a helper may still call back is a number like any other.
    const done = a.rounds?.count ?? 0;
    const doneNow = b.rounds?.count ?? 0;
    if (comparison === Comparison.Same ? done !== doneNow : done > doneNow) return false;
    // Later rounds cost no more than was found after the old state only if as much is paid for already.
    if ((a.rounds?.charged ?? 0) > (b.rounds?.charged ?? 0)) return false;
  }
  renaming.clear();
  if (!coversLock(old.lock, current.lock)) return false;
  for (let i = 0; i < old.references.length; i++) {
    if (!renaming.matches(old.references[i]!.id, current.references[i]!.id)) return false;
  }
  for (let i = 0; i < depth; i++) {
    const element = old.frames[i]!.callback?.element ?? 0;
    if (!renaming.matches(element, current.frames[i]!.callback?.element ?? 0)) return false;
  }
  for (let i = depth - 1; i >= 0; i--) {
    if (!coversFrame(old.frames[i]!, current.frames[i]!, comparison)) return false;
  }
  return true;
}

/** What is held has to be given back: a path that holds a lock does not go on as one that holds none. */
function coversLock(old: HeldLock | undefined, current: HeldLock | undefined): boolean {
  if (old === undefined || current === undefined) return old === current;
  return old.map === current.map && renaming.matches(old.id, current.id);
}

function coversFrame(old: Frame, current: Frame, comparison: Comparison): boolean {
  for (let register = 0; register < 10; register++) {
    const value = old.regs[register]!;
    if (value.kind === Kind.NotInit) continue;
    if (!coversValue(value, old.origins[register], current.regs[register]!, comparison)) return false;
  }
  const { slots, origins } = old.stack;
  for (let index = 0; index < slots.length; index++) {
    const slot = slots[index]!;
    if (slot.types === 0) continue;
    const origin = origins[index];
    const live = comparison === Comparison.Explored ? liveBytes(origin!) : ALL_BYTES;
    if (live === 0) continue;
    if (!coversSlot(slot, live, origin, current.stack.slot(index), comparison)) return false;
  }
  return comparison !== Comparison.Same || !hasMoreSlots(old, current);
}

function hasMoreSlots(old: Frame, current: Frame): boolean {
  const { slots } = current.stack;
  for (let index = 0; index < slots.length; index++) {
    if (slots[index]!.types !== 0 && (old.stack.slots[index]?.types ?? 0) === 0) return true;
  }
  return false;
}

/** `live`: the bytes that count. */
function coversSlot(
  old: Slot,
  live: number,
  origin: Origin | undefined,
  current: Slot,
  comparison: Comparison,
): boolean {
  if (old === current && old.value === undefined) return true;
  const { value } = old;
  if (
    comparison === Comparison.Same &&
    (old.types !== current.types || old.spillSize !== current.spillSize)
  ) {
    return false;
  }
  let bytes = live;
  if (value !== undefined && (live & (ALL_BYTES >> (8 - old.spillSize))) !== 0) {
    // A number that nobody looked at closely is as good as bytes that are not tracked.
    const isLoose = value.kind === Kind.Scalar && comparison === Comparison.Explored && !isPrecise(origin);
    if (!isLoose) {
      const now = current.read(old.spillSize);
      if (now === undefined || !coversValue(value, origin, now, comparison)) return false;
      bytes &= ALL_BYTES << old.spillSize;
    }
  }
  for (let i = 0; i < 8; i++) {
    if ((bytes & (1 << i)) === 0) continue;
    switch (old.byte(i)) {
      case Byte.Invalid:
        break;
      case Byte.Zero:
        if (!current.isZero(i)) return false;
        break;
      default: {
        const byte = current.byte(i);
        if (byte === Byte.Invalid) return false;
        if (byte === Byte.Spill && current.value!.kind !== Kind.Scalar) return false;
      }
    }
  }
  return true;
}

function coversValue(
  old: Value,
  origin: Origin | undefined,
  current: Value,
  comparison: Comparison,
): boolean {
  if (old.kind !== current.kind) return false;
  if (old.kind === Kind.Scalar) {
    if (comparison === Comparison.Explored && !isPrecise(origin)) return true;
    return coversNumber(old.scalar, current.scalar, comparison) && renaming.matchesNumber(old, current);
  }
  if (old === current && old.id === 0 && old.ref === 0) return true;
  if (
    old.off !== current.off ||
    old.maybeNull !== current.maybeNull ||
    old.map !== current.map ||
    old.size !== current.size ||
    old.socket !== current.socket
  ) {
    return false;
  }
  if (old.range !== current.range) {
    if (comparison === Comparison.Same || old.range < 0 || current.range < old.range) return false;
  }
  return (
    coversNumber(old.scalar, current.scalar, comparison) &&
    renaming.matches(old.id, current.id) &&
    renaming.matches(old.ref, current.ref)
  );
}

function isPrecise(origin: Origin | undefined): boolean {
  return origin !== undefined && (origin.marks & PRECISE) !== 0;
}

function coversNumber(old: Scalar, current: Scalar, comparison: Comparison): boolean {
  if (old === current) return true;
  return comparison === Comparison.Same ? old.equals(current) : old.contains(current);
}

/**
 * The current path ends at a state that it shares with `old`: what mattered after that one matters to this path as
 * well, and whatever `old` could return, it can.
 */
export function inheritMarks(
  old: VerifierState,
  current: VerifierState,
  returns: (scalar: Scalar) => void,
): void {
  for (let i = 0; i < old.frames.length; i++) {
    const a = old.frames[i]!;
    const b = current.frames[i]!;
    for (let register = 0; register < 10; register++) {
      inheritNumber(a.regs[register]!, a.origins[register], b.regs[register]!, b.origins[register], returns);
    }
    const { origins, slots } = a.stack;
    for (let index = 0; index < slots.length; index++) {
      const origin = origins[index];
      if (origin === undefined || origin.marks === 0) continue;
      inheritSlot(slots[index]!, origin, b.stack.slot(index), b.stack.origins[index], returns);
    }
  }
}

function inheritSlot(
  old: Slot,
  oldOrigin: Origin,
  current: Slot,
  origin: Origin | undefined,
  returns: (scalar: Scalar) => void,
): void {
  const live = liveBytes(oldOrigin);
  markLive(origin, live);
  if (current.value?.kind === Kind.Scalar) {
    // That it has these bytes of zeroes is what the old state was taken for it on.
    for (let i = 0; i < 8; i++) {
      if ((live & (1 << i)) !== 0 && old.byte(i) === Byte.Zero && current.byte(i) === Byte.Spill) {
        markPrecise(origin);
      }
    }
  }
  if (old.value === undefined) return;
  // What is not a number to read would be rejected where it is returned.
  const now = current.read(old.spillSize) ?? UNKNOWN_NUMBER;
  inheritNumber(old.value, oldOrigin, now, origin, returns);
}

function inheritNumber(
  old: Value,
  oldOrigin: Origin | undefined,
  current: Value,
  origin: Origin | undefined,
  returns: (scalar: Scalar) => void,
): void {
  if (old.kind !== Kind.Scalar || oldOrigin === undefined || oldOrigin.marks === 0) return;
  if ((oldOrigin.marks & PRECISE) !== 0) {
    // The current number is one that the old one was taken for: nothing more is returned.
    markPrecise(origin);
    return;
  }
  if ((oldOrigin.marks & RETURNED) !== 0 && current.kind === Kind.Scalar) {
    returns(current.scalar);
    markReturned(origin);
  }
}

/**
 * Ends a path on a state whose own paths have not ended: what they will need is not known, so it is everything, and
 * exactly. Then what they return is among what is returned anyway, of this state and of those that it was computed from.
 */
export function markEverything(state: VerifierState): void {
  for (const frame of state.frames) {
    frame.origins.forEach(markPrecise);
    for (const origin of frame.stack.origins) {
      markLive(origin, ALL_BYTES);
      markPrecise(origin);
    }
  }
}
