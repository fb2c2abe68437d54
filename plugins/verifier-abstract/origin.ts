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
    /** Of a slot's content: one bit for each byte that the insn wrote; the others are those of `a` or `b`. */
    readonly written = 0,
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
/** A number became the program's return value without being computed with. */
export const RETURNED = 4;

/** The stored state that this was the copy for is gone: nobody will read its marks. */
export const DROPPED = 8;

/** Bytes of a stack slot that were read: one bit for each, lowest address first. */
const LIVE_SHIFT = 8;

/** All bytes of a stack slot. */
export const ALL_BYTES = 0xff;

/** Which bytes of the slot were read. */
export function liveBytes(origin: Origin): number {
  return origin.marks >> LIVE_SHIFT;
}

/** The nearest origin whose marks still matter, so that long loops do not leave long chains. */
export function undropped(origin: Origin | undefined): Origin | undefined {
  while (origin !== undefined && (origin.marks & DROPPED) !== 0) origin = origin.a;
  return origin;
}

const pending: Origin[] = [];

/** Marks an origin and all it was computed from. Each origin is visited once in its life. */
export function markPrecise(origin: Origin | undefined): void {
  if (origin === undefined || (origin.marks & PRECISE) !== 0) return;
  origin.marks |= PRECISE;
  pending.push(origin);
  while (pending.length > 0) {
    const next = pending.pop()!;
    const { a, b } = next;
    if (a !== undefined && (a.marks & PRECISE) === 0) {
      a.marks |= PRECISE;
      pending.push(a);
    }
    // Of a slot that got another number, what it held before is no part of that.
    if (b !== undefined && (b.marks & PRECISE) === 0 && !replacesNumber(next)) {
      b.marks |= PRECISE;
      pending.push(b);
    }
  }
}

/** Whether the first byte was written, where a slot's number begins: then `b` has only bytes behind it. */
function replacesNumber({ kind, written }: Origin): boolean {
  return kind === OriginKind.Slot && (written & 1) !== 0;
}

/** Marks bytes of the slot's content, and of what it held before as far as they were not written since. */
export function markLive(origin: Origin | undefined, bytes: number): void {
  let next = origin;
  let wanted = bytes << LIVE_SHIFT;
  while (next !== undefined) {
    wanted &= ~next.marks;
    if (wanted === 0) return;
    next.marks |= wanted;
    wanted &= ~(next.written << LIVE_SHIFT);
    next = next.a?.kind === OriginKind.Slot ? next.a : next.b?.kind === OriginKind.Slot ? next.b : undefined;
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
