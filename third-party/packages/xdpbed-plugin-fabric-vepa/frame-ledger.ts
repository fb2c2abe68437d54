import type { EndResult, Fate, TrafficReport } from 'xdpbed';

/** Counts frames in and out. Whoever holds a frame hands it on or ends it here, exactly once. */
export class FrameLedger {
  sent = 0;
  copied = 0;
  readonly #ends = new Map<string, EndResult>();

  end(place: string, fate: Fate): void {
    const key = `${place} ${fate}`;
    this.#ends.set(key, { place, fate, frames: (this.#ends.get(key)?.frames ?? 0) + 1 });
  }

  report(): TrafficReport {
    const before = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);
    const ends = [...this.#ends.values()];
    ends.sort((a, b) => before(a.place, b.place) || before(a.fate, b.fate));
    return { framesSent: this.sent, framesCopied: this.copied, ends };
  }
}
