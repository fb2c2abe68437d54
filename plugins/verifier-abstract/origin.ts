/**
 * Where a value came from: a graph from each value to the ones it was computed from, along one path. It serves
 * two ends. Backwards from an offending register it is the explanation of a rejection. And what a path turns out to
 * depend on is told by it to the states that the path passed through (checkpoint.ts).
 */
export class Origin {
  /** PRECISE and RETURNED: that it was told to what the value was computed from. Above them, bytes of `toldLive`. */
  marks = 0;

  constructor(
    /** Slot of the insn that made the value. */
    readonly insn: number,
    /** How many insns the path had run by then. */
    readonly step: number,
    /** What the value was computed from. */
    readonly a: Origin | undefined,
    readonly b: Origin | undefined,
    readonly kind: OriginKind,
    /** Of a slot's content: one bit for each byte that the insn wrote; the others are those of `a` or `b`. */
    readonly written = 0,
  ) {}

  /** What a stack slot held before the insn, as far as that is still there. */
  get previousContent(): Origin | undefined {
    if (this.a?.kind === OriginKind.Slot) return this.a;
    return this.b?.kind === OriginKind.Slot ? this.b : undefined;
  }

  /** Of a slot's content: bytes of which what the slot held before was told that they are read. */
  get toldLive(): number {
    return this.marks >> TOLD_LIVE;
  }

  tellLive(bytes: number): void {
    this.marks |= bytes << TOLD_LIVE;
  }

  /** Whether the first byte was written, where a slot's number begins: then `b` has only bytes behind it. */
  get replacesNumber(): boolean {
    return this.kind === OriginKind.Slot && (this.written & 1) !== 0;
  }
}

export enum OriginKind {
  /** Computed. */
  Value = 0,
  /** The same value as `a`, or a narrower view of it. */
  Copy = 1,
  /** The content of a stack slot. */
  Slot = 2,
}

/** The exact range of a number decided something: a branch, an offset, a size. */
export const PRECISE = 1;
/** A number became the program's return value without being computed with. */
export const RETURNED = 2;

/** Where in `marks` the bytes of `toldLive` begin: with a field for them, origins would be larger, of which there are many. */
const TOLD_LIVE = 2;

/** All bytes of a stack slot, one bit for each, lowest address first. */
export const ALL_BYTES = 0xff;
