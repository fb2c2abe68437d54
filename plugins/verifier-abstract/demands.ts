import { MAX_BPF_STACK } from '../../src/bpf/opcodes.js';
import { BYTES_OF } from './budget.js';
import { type Checkpoint, markLive, markPrecise, markReturned } from './checkpoint.js';
import { agreesOnIds, coversBytes, coversValue } from './coverage.js';
import type { Frame } from './frame.js';
import { coversCalls, coversHeld } from './held.js';
import { ALL_BYTES, type Origin } from './origin.js';
import { Renaming } from './renaming.js';
import type { Scalar } from './scalar/scalar.js';
import { Byte, type Slot } from './slot.js';
import type { StackState } from './stack-state.js';
import { Kind, UNKNOWN_NUMBER, type Value } from './value.js';
import type { PassedState, VerifierState } from './verifier-state.js';

/** What a register, or a stack slot, has to hold. */
interface Demand {
  readonly frame: number;
  /** Number of the register or slot. */
  readonly place: number;
  /** What of it matters exactly; undefined where any number will do. */
  readonly value: Value | undefined;
  /** Undefined for a register. */
  readonly slot: Slot | undefined;
  /** Bytes of the slot that were read. */
  readonly live: number;
  /** Whether the number, as it is, was the return value. */
  readonly isReturned: boolean;
}

const PLACES = 10 + MAX_BPF_STACK / 8;

/** The latest demand on each place: states of one path demand much the same, and there are many of them. */
export class DemandPool {
  readonly #latest: Demand[] = [];

  /** How many were no one else's. */
  made = 0;

  /** A demand with these parts, which others may have as well. */
  share(demand: Demand): Demand {
    const { frame, place, value, slot, live, isReturned } = demand;
    const at = frame * PLACES + (slot === undefined ? place : 10 + place);
    const before = this.#latest[at];
    const isKnown =
      before?.value === value &&
      before?.slot === slot &&
      before?.live === live &&
      before.isReturned === isReturned;
    if (isKnown) return before;
    this.made++;
    return (this.#latest[at] = demand);
  }
}

const renaming = new Renaming();

/**
 * What the paths from a state, all of which have ended, depended on: the marks of its checkpoint, place by place. A register
 * that no later insn reads does not count, nor does a byte of the stack that no later path read, and a number whose
 * exact range never decided anything may be any number.
 */
export class Demands {
  readonly #list: Demand[] = [];

  /** Rough heap bytes: of demands that others have as well, only where they are named. */
  readonly bytes: number;

  /** Its frames may lose registers and stacks: what else is compared of it is its calls, and what is held. */
  readonly #state: VerifierState;

  constructor({ state, liveRegisters }: PassedState, marks: Checkpoint, pool: DemandPool) {
    this.#state = state;
    const { made } = pool;
    for (let frame = state.depth; frame >= 0; frame--) {
      const { regs, origins, stack } = state.frames[frame]!;
      this.#addRegisters(regs, origins, liveRegisters[frame]!, frame, marks, pool);
      this.#addStack(stack, frame, marks, pool);
    }
    const { settled, place, demand, reference } = BYTES_OF;
    this.bytes =
      settled + this.#list.length * place + (pool.made - made) * demand + state.references.length * reference;
  }

  #addRegisters(
    regs: readonly Value[],
    origins: readonly (Origin | undefined)[],
    read: number,
    frame: number,
    marks: Checkpoint,
    pool: DemandPool,
  ): void {
    for (let place = 0; place < 10; place++) {
      const held = regs[place]!;
      if ((read & (1 << place)) === 0 || held.kind === Kind.NotInit) continue;
      const origin = origins[place];
      const counts = held.kind !== Kind.Scalar || marks.isPrecise(origin);
      const value = counts ? held : undefined;
      const isReturned = marks.isReturned(origin);
      this.#list.push(pool.share({ frame, place, value, slot: undefined, live: 0, isReturned }));
    }
  }

  #addStack({ slots, origins }: StackState, frame: number, marks: Checkpoint, pool: DemandPool): void {
    for (let place = 0; place < slots.length; place++) {
      const live = marks.liveBytes(frame, place);
      const slot = slots[place]!;
      if (live === 0 || slot.types === 0) continue;
      const origin = origins[place];
      const held = slot.value;
      const isRead = (live & bytesOfNumber(slot)) !== 0;
      const counts = isRead && (held?.kind !== Kind.Scalar || marks.isPrecise(origin));
      const value = counts ? held : undefined;
      const isReturned = marks.isReturned(origin);
      this.#list.push(pool.share({ frame, place, value, slot, live, isReturned }));
    }
  }

  /** Whether what `current`, at the same insn, holds is among what was explored. */
  areMet(current: VerifierState): boolean {
    if (!coversCalls(this.#state, current, false)) return false;
    const list = this.#list;
    for (let i = 0; i < list.length; i++) {
      const demand = list[i]!;
      if (isMet(demand, current.frames[demand.frame]!)) continue;
      // What is not as demanded once is not the next time, either.
      list[i] = list[0]!;
      list[0] = demand;
      return false;
    }
    renaming.clear();
    if (!coversHeld(renaming, this.#state, current)) return false;
    for (const { value, frame, place, slot } of list) {
      if (value === undefined) continue;
      const { regs, stack } = current.frames[frame]!;
      const now = slot === undefined ? regs[place]! : stack.slot(place).read(slot.spillSize)!;
      if (!agreesOnIds(renaming, value, now)) return false;
    }
    return true;
  }

  /**
   * The path ends at `current`, which meets the demands: what mattered after the state of these matters to it as well,
   * and whatever that one could return, it can.
   */
  inherit(current: VerifierState, returns: (scalar: Scalar) => void): void {
    const { latest } = current;
    for (const { frame, place, value, slot, live, isReturned } of this.#list) {
      const { regs, origins, stack } = current.frames[frame]!;
      const origin = slot === undefined ? origins[place] : stack.origins[place];
      if (slot !== undefined) {
        markLive(origin, latest, frame, place, live);
        if (hasZeroesOf(slot, live, stack.slot(place))) markPrecise(origin, latest);
      }
      if (value !== undefined) {
        // The current number is one that the old one was taken for: nothing more is returned.
        if (value.kind === Kind.Scalar) markPrecise(origin, latest);
      } else if (isReturned) {
        // What is not a number to read would be rejected where it is returned.
        const now = slot === undefined ? regs[place]! : stack.slot(place).read(slot.spillSize);
        returns((now ?? UNKNOWN_NUMBER).scalar);
        markReturned(origin, latest);
      }
    }
  }
}

function isMet({ place, value, slot, live }: Demand, { regs, stack }: Frame): boolean {
  if (slot === undefined) {
    const now = regs[place]!;
    return value === undefined ? now.kind === Kind.Scalar : coversValue(value, now, false);
  }
  const current = stack.slot(place);
  if (value === undefined) return coversBytes(slot, live, current);
  const now = current.read(slot.spillSize);
  if (now === undefined || !coversValue(value, now, false)) return false;
  return coversBytes(slot, live & ~bytesOfNumber(slot), current);
}

/** Bytes of the number or pointer that the slot holds. */
function bytesOfNumber({ spillSize }: Slot): number {
  return ALL_BYTES >> (8 - spillSize);
}

/** Whether bytes that are read, and have to be 0, are part of a number here. */
function hasZeroesOf(old: Slot, live: number, current: Slot): boolean {
  for (let i = 0; i < 8; i++) {
    if ((live & (1 << i)) !== 0 && old.byte(i) === Byte.Zero && current.byte(i) === Byte.Spill) return true;
  }
  return false;
}
