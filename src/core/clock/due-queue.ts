import type { Cancel, Picoseconds } from '../contract/clock.js';

/** Something to be run at a time. */
export interface Due {
  readonly time: Picoseconds;
  /** What is due at the same time runs in this order. */
  readonly order: number;
  /** Undefined once it was called off or has run. */
  run: (() => void) | undefined;
}

/** What is due later, the earliest first; of one time, what was asked for first. A binary heap. */
export class DueQueue {
  readonly #heap: Due[] = [];
  #order = 0;

  /** Throws a RangeError for a time that is no integer. */
  make(time: Picoseconds, run: () => void): Due {
    if (!Number.isInteger(time)) throw new RangeError(`${time} is no time: picoseconds are integers`);
    return { time, order: this.#order++, run };
  }

  first(): Due | undefined {
    return this.#heap[0];
  }

  push(due: Due): void {
    const heap = this.#heap;
    let index = heap.length;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(due, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = due;
  }

  /** Takes the first; there must be one. */
  pop(): Due {
    const heap = this.#heap;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
      if (!isBefore(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

export function canceller(due: Due): Cancel {
  return () => {
    due.run = undefined;
  };
}

/** Runs it, unless it was called off; never twice. */
export function runDue(due: Due): void {
  const { run } = due;
  due.run = undefined;
  run?.();
}

function isBefore(a: Due, b: Due): boolean {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}
