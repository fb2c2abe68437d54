import type { EndResult, Fate, VerdictCounts } from '../../src/core/contract/result.js';

/** Where frames ended, as far as something counted it. */
export class FrameEnds {
  /** Frames that came to be by copying others. */
  copied = 0;
  readonly #ends = new Map<string, Map<Fate, number>>();

  add(place: string, fate: Fate, frames = 1): void {
    if (frames === 0) return;
    let fates = this.#ends.get(place);
    if (fates === undefined) this.#ends.set(place, (fates = new Map<Fate, number>()));
    fates.set(fate, (fates.get(fate) ?? 0) + frames);
  }

  /** What a program dropped at a place. */
  addDropped(place: string, { XDP_DROP, XDP_ABORTED }: VerdictCounts): void {
    this.add(place, 'xdp-drop', XDP_DROP);
    this.add(place, 'xdp-aborted', XDP_ABORTED);
  }

  clone(): FrameEnds {
    const copy = new FrameEnds();
    copy.copied = this.copied;
    for (const { place, fate, frames } of this.list()) copy.add(place, fate, frames);
    return copy;
  }

  get total(): number {
    return this.list().reduce((sum, { frames }) => sum + frames, 0);
  }

  /** Sorted by place, then fate. */
  list(): EndResult[] {
    return [...this.#ends]
      .flatMap(([place, fates]) => [...fates].map(([fate, frames]) => ({ place, fate, frames })))
      .sort((a, b) => compare(a.place, b.place) || compare(a.fate, b.fate));
  }
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
