import { MAX_BPF_STACK } from '../../src/bpf/opcodes.js';
import { type Origin, OriginKind, PRECISE, RETURNED } from './origin.js';

/**
 * A place on a path, and what turned out to matter later on of the state that the path had there. A mark that is set further
 * along goes back over the checkpoints of the path (`VerifierState.latest`) as far as they hold the value, and then to
 * those that hold what it was computed from; this is what the kernel finds by walking back over its jump history. A
 * checkpoint holds a value if the path had run as many insns as when the value was made, or more.
 */
export class Checkpoint {
  #before: Checkpoint | undefined;
  #isOpen = true;
  #precise: Set<Origin> | undefined;
  #returned: Set<Origin> | undefined;
  /** By frame and slot: bytes that were read. */
  #live: (Uint8Array | undefined)[] | undefined;

  constructor(
    /** Insns that the path had run. */
    readonly steps: number,
    before: Checkpoint | undefined,
  ) {
    this.#before = before;
  }

  /** The nearest checkpoint before it that marks are noted at. */
  get before(): Checkpoint | undefined {
    while (this.#before !== undefined && !this.#before.#isOpen) this.#before = this.#before.#before;
    return this.#before;
  }

  /** Whether later paths may end here, so that what goes on from here stands for what they would have done. */
  get isStored(): boolean {
    return false;
  }

  /** Whether marks are noted. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** Marks are of no more use; those of earlier checkpoints still are. */
  close(): void {
    this.#isOpen = false;
    this.#precise = undefined;
    this.#returned = undefined;
    this.#live = undefined;
  }

  /** No path goes on from here: there are no marks to hand on. */
  end(): void {
    this.close();
    this.#before = undefined;
  }

  /** Whether the exact range of the value decided something later. */
  isPrecise(origin: Origin | undefined): boolean {
    return origin !== undefined && this.#precise?.has(origin) === true;
  }

  /** Whether the number, or what is the same number, was the return value. */
  isReturned(origin: Origin | undefined): boolean {
    return origin !== undefined && this.#returned?.has(origin) === true;
  }

  /** Bytes of a stack slot that were read before they were written. */
  liveBytes(frame: number, slot: number): number {
    return this.#live?.[frame]?.[slot] ?? 0;
  }

  /** False if it was known, and so at all checkpoints before that hold the value. */
  notePrecise(origin: Origin): boolean {
    if (!this.#isOpen) return true;
    this.#precise ??= new Set();
    return added(this.#precise, origin);
  }

  noteReturned(origin: Origin): boolean {
    if (!this.#isOpen) return true;
    this.#returned ??= new Set();
    return added(this.#returned, origin);
  }

  /** Gives back the bytes that were not known to be read, here and at all checkpoints before that hold them. */
  noteLive(frame: number, slot: number, bytes: number): number {
    if (!this.#isOpen) return bytes;
    this.#live ??= [];
    const live = (this.#live[frame] ??= new Uint8Array(MAX_BPF_STACK / 8));
    const news = bytes & ~live[slot]!;
    live[slot]! |= news;
    return news;
  }
}

function added(known: Set<Origin>, origin: Origin): boolean {
  const { size } = known;
  return known.add(origin).size > size;
}

/** Origins that are to be told, each with the checkpoint to begin at. */
const pending: Origin[] = [];
const places: (Checkpoint | undefined)[] = [];

/**
 * What the value is exactly decides something: that has to be so in all states that it comes from. `latest` is the last
 * checkpoint of the path.
 */
export function markPrecise(origin: Origin | undefined, latest: Checkpoint | undefined): void {
  if (origin === undefined) return;
  pending.push(origin);
  places.push(latest);
  while (pending.length > 0) {
    const next = pending.pop()!;
    let at = places.pop();
    while (at !== undefined && at.steps >= next.step && at.notePrecise(next)) at = at.before;
    if ((next.marks & PRECISE) !== 0) continue;
    next.marks |= PRECISE;
    const { a, b } = next;
    if (a !== undefined) {
      pending.push(a);
      places.push(at);
    }
    // Of a slot that got another number, what it held before is no part of that.
    if (b !== undefined && !next.replacesNumber) {
      pending.push(b);
      places.push(at);
    }
  }
}

/** Bytes of a stack slot, of which `origin` is the content, are read, and with them what the slot held before as far as they were not written since. */
export function markLive(
  origin: Origin | undefined,
  latest: Checkpoint | undefined,
  frame: number,
  slot: number,
  bytes: number,
): void {
  let at = latest;
  let wanted = bytes;
  let content = origin;
  while (at !== undefined && content !== undefined) {
    for (; at !== undefined && at.steps >= content.step; at = at.before) {
      wanted = at.noteLive(frame, slot, wanted);
      if (wanted === 0) return;
    }
    wanted &= ~(content.written | content.toldLive);
    if (wanted === 0) return;
    content.tellLive(wanted);
    content = content.previousContent;
  }
}

/** Follows a return value back over copies; where it was computed, what it was computed from has to be exact. */
export function markReturned(origin: Origin | undefined, latest: Checkpoint | undefined): void {
  let at = latest;
  let next = origin;
  while (next !== undefined) {
    while (at !== undefined && at.steps >= next.step && at.noteReturned(next)) at = at.before;
    if ((next.marks & RETURNED) !== 0) return;
    next.marks |= RETURNED;
    if (next.kind === OriginKind.Value) {
      markPrecise(next.a, at);
      markPrecise(next.b, at);
      return;
    }
    // The second source of a copy is what a comparison held it against: no part of the value.
    next = next.a;
  }
}
