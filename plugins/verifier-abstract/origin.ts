/**
 * Where a value came from: a graph from each value to the ones it was computed from, along one path. It serves
 * two ends. Backwards from an offending register it is the explanation of a rejection. And it carries the marks
 * that pruning needs (pruning.ts): what a path, once it has gone on, turned out to depend on.
 *
 * When a state is stored, each of its values gets an origin of its own on top of the previous one. A mark that is
 * set further along the path passes through it on its way back, and so tells of that very state what mattered
 * after it; this is what the kernel finds by walking back over its jump history.
 */
export class Origin {
  marks = 0;

  constructor(
    /** Slot of the insn that made the value; NOWHERE for the copy that a stored state holds. */
    readonly insn: number,
    /** How many insns the path had run by then. */
    readonly step: number,
    /** What the value was computed from. */
    public a: Origin | undefined,
    public b: Origin | undefined,
    readonly kind: OriginKind,
  ) {}
}

export enum OriginKind {
  /** Computed. */
  Value = 0,
  /** The same value as `a`, or a narrower view of it. */
  Copy = 1,
  /** The content of a stack slot. */
  Slot = 2,
}

export const NOWHERE = -1;

/** The exact range of a number decided something: a branch, an offset, a size. */
export const PRECISE = 1;
/** A stack slot was read. */
export const LIVE = 2;
/** A number became the program's return value without being computed with. */
export const RETURNED = 4;

/** The stored state that this was the copy for is gone: nobody will read its marks. */
export const DROPPED = 8;

/** The nearest origin whose marks still matter, so that long loops do not leave long chains. */
export function undropped(origin: Origin | undefined): Origin | undefined {
  while (origin !== undefined && (origin.marks & DROPPED) !== 0) origin = origin.a;
  return origin;
}

const pending: Origin[] = [];

/** Marks an origin and all it was computed from. Each origin is visited once for each mark in its life. */
export function markPrecise(origin: Origin | undefined): void {
  spread(origin, PRECISE);
}

/** Marks the slot's content, and what that slot held before where it was written in part. */
export function markLive(origin: Origin | undefined): void {
  if (origin === undefined || (origin.marks & LIVE) !== 0) return;
  pending.push(origin);
  origin.marks |= LIVE;
  while (pending.length > 0) {
    const next = pending.pop()!;
    for (const source of [next.a, next.b]) {
      if (source === undefined || source.kind !== OriginKind.Slot || (source.marks & LIVE) !== 0) continue;
      source.marks |= LIVE;
      pending.push(source);
    }
  }
}

/** Follows a return value back over copies; where it was computed, what it was computed from has to be exact. */
export function markReturned(origin: Origin | undefined): void {
  let next = origin;
  while (next !== undefined && (next.marks & RETURNED) === 0) {
    next.marks |= RETURNED;
    if (next.kind === OriginKind.Value) {
      markPrecise(next.a);
      markPrecise(next.b);
      return;
    }
    // The second source of a copy is what a comparison held it against: no part of the value.
    next = next.a;
  }
}

function spread(origin: Origin | undefined, mark: number): void {
  if (origin === undefined || (origin.marks & mark) !== 0) return;
  origin.marks |= mark;
  pending.push(origin);
  while (pending.length > 0) {
    const next = pending.pop()!;
    const { a, b } = next;
    if (a !== undefined && (a.marks & mark) === 0) {
      a.marks |= mark;
      pending.push(a);
    }
    if (b !== undefined && (b.marks & mark) === 0) {
      b.marks |= mark;
      pending.push(b);
    }
  }
}
