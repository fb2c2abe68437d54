import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';

/** A range of addresses; `end` is one past the last byte. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/**
 * What of the memory counts as the outcome of a run: all of it but what an executor may use as it likes. That is
 * the stacks, an executor's own scratch memory, and in the run state the registers through which it calls
 * helpers and the cells that only one of them uses. Neighbouring objects are one span.
 */
export function observableSpans(space: AddressSpace): Span[] {
  const spans: { start: number; end: number }[] = [];
  for (const region of space.regions) {
    const span = observablePart(region);
    if (span === undefined) continue;
    const last = spans.at(-1);
    if (last?.end === span.start) last.end = span.end;
    else spans.push(span);
  }
  return spans;
}

function observablePart(region: Region): { start: number; end: number } | undefined {
  const { start, size, kind, access } = region;
  if (kind === 'stack' || (kind === 'scratch' && access === 'none')) return undefined;
  if (kind === 'run-state') return { start: start + RUN_STATE.context, end: start + RUN_STATE.tailProgram };
  return { start, end: start + size };
}

/** A copy of some of a memory's bytes. Taking one again reuses its buffer: it is done for every packet. */
export class MemoryImage {
  #spans: readonly Span[] = [];
  #bytes = new Uint8Array(0);

  constructor(readonly space: AddressSpace) {}

  get spans(): readonly Span[] {
    return this.#spans;
  }

  capture(spans: readonly Span[]): this {
    const size = spans.reduce((sum, { start, end }) => sum + end - start, 0);
    if (this.#bytes.length < size) this.#bytes = new Uint8Array(size);
    this.#spans = spans;
    this.#each((start, end, copy) => {
      copy.set(this.space.u8.subarray(start, end));
    });
    return this;
  }

  /** Puts the bytes back. The objects must still be the same. */
  restore(): void {
    this.#each((start, _, copy) => {
      this.space.u8.set(copy, start);
    });
  }

  /** A copy of its own, which the next `capture` does not overwrite. */
  clone(): MemoryImage {
    const image = new MemoryImage(this.space);
    image.#spans = this.#spans;
    image.#bytes = this.#bytes.slice();
    return image;
  }

  /** The first byte that is not in memory as it is in the image. */
  firstDifference(): { readonly address: number; readonly expected: number } | undefined {
    let found: { address: number; expected: number } | undefined;
    this.#each((start, end, copy) => {
      if (found !== undefined) return;
      const live = this.space.u8.subarray(start, end);
      if (Buffer.compare(live, copy) === 0) return;
      const at = live.findIndex((byte, index) => byte !== copy[index]);
      found = { address: start + at, expected: copy[at]! };
    });
    return found;
  }

  /** The byte that the image has for an address; undefined where it has none. */
  byteAt(address: number): number | undefined {
    let found: number | undefined;
    this.#each((start, end, copy) => {
      if (address >= start && address < end) found = copy[address - start];
    });
    return found;
  }

  #each(visit: (start: number, end: number, copy: Uint8Array) => void): void {
    let at = 0;
    for (const { start, end } of this.#spans) {
      visit(start, end, this.#bytes.subarray(at, at + end - start));
      at += end - start;
    }
  }
}
