import type { Value } from './value.js';

/** What a number with an id stands for in the current state: a number with an id there plus a constant, or a constant. */
interface Counterpart {
  /** Id in the current state; 0 when the number is a constant. */
  readonly id: number;
  /** What is added to the number of that id, or the constant itself; modulo 2^64. */
  readonly plus: bigint;
}

/** Which id of the current state an id of the earlier one stands for: in each comparison one to one. */
export class Renaming {
  readonly #forward = new Map<number, number>();
  readonly #backward = new Map<number, number>();
  readonly #numbers = new Map<number, Counterpart>();
  readonly #numberOf = new Map<number, number>();

  clear(): void {
    // Most comparisons put nothing in.
    if (this.#forward.size > 0) {
      this.#forward.clear();
      this.#backward.clear();
    }
    if (this.#numbers.size > 0) {
      this.#numbers.clear();
      this.#numberOf.clear();
    }
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
