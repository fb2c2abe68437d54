import { PACKET_INTERVAL_NS, SHORTEST_FRAME, type SentPacket } from './sent-packet.js';
import { tidyHeaders } from './tidy-headers.js';

/** Runs a sequence from the beginning; whether it still shows what is looked for. */
export type StillShows = (packets: readonly SentPacket[]) => Promise<boolean>;

/** Packets run after which what there is has to do; a trial counts one more than it has packets. */
const MOST_PACKETS = 400_000;

/**
 * Makes a sequence that shows something as small as it can: without the packets that it does not take, each as short as
 * it may be, and of each as many bytes 0 as may be, the others as small; then with headers that can be read, where that is
 * nothing to what it shows. The result is the same for the same sequence, and shows it; that nothing smaller does is not
 * certain. `signal` ends it with what there is.
 */
export async function shrinkSequence(
  packets: readonly SentPacket[],
  shows: StillShows,
  signal?: AbortSignal,
): Promise<readonly SentPacket[]> {
  const shrinking = new Shrinking(packets, shows, signal);
  for (;;) {
    const before = shrinking.accepted;
    await shrinking.removePackets();
    await shrinking.removeElements();
    // First the same of all packets at once: what has to be equal in them cannot be changed in one.
    const all = shrinking.best.map((_, index) => index);
    const groups = all.length === 1 ? [all] : [all, ...all.map((index) => [index])];
    for (const group of groups) {
      await shrinking.shorten(group);
      await shrinking.clear(group);
      await shrinking.lower(group);
    }
    if (shrinking.accepted === before || shrinking.isExhausted) break;
  }
  await shrinking.tidy();
  return shrinking.best;
}

class Shrinking {
  best: readonly SentPacket[];
  accepted = 0;
  #run = 0;

  constructor(
    packets: readonly SentPacket[],
    readonly shows: StillShows,
    readonly signal: AbortSignal | undefined,
  ) {
    // Copies: slice() of a Buffer, as files are read into, shares its bytes.
    this.best = packets.map((packet) => ({ ...packet, data: new Uint8Array(packet.data) }));
  }

  get isExhausted(): boolean {
    return this.#run >= MOST_PACKETS || this.signal?.aborted === true;
  }

  async #try(candidate: readonly SentPacket[]): Promise<boolean> {
    if (this.isExhausted) return false;
    this.#run += 1 + candidate.length;
    if (!(await this.shows(candidate))) return false;
    this.best = candidate;
    this.accepted++;
    return true;
  }

  /** With some packets changed: those of `group`, by index. Undefined where that changes nothing. */
  #changed(
    group: readonly number[],
    change: (data: Uint8Array) => Uint8Array,
  ): readonly SentPacket[] | undefined {
    let differs = false;
    const candidate = this.best.map((packet, index) => {
      if (!group.includes(index)) return packet;
      const data = change(packet.data);
      if (data !== packet.data) differs = true;
      return { ...packet, data };
    });
    return differs ? candidate : undefined;
  }

  async #tryChange(group: readonly number[], change: (data: Uint8Array) => Uint8Array): Promise<boolean> {
    // Before all the bytes are copied that a trial changes.
    if (this.isExhausted) return false;
    const candidate = this.#changed(group, change);
    return candidate !== undefined && (await this.#try(candidate));
  }

  #longest(group: readonly number[]): number {
    return Math.max(...group.map((index) => this.best[index]!.data.length));
  }

  /** Runs of packets, long ones first. */
  async removePackets(): Promise<void> {
    for (let run = this.best.length; run >= 1; run = Math.floor(run / 2)) {
      for (let start = 0; start < this.best.length && this.best.length > 1;) {
        const candidate = [...this.best.slice(0, start), ...this.best.slice(start + run)];
        if (candidate.length === 0 || !(await this.#try(candidate))) start += run;
      }
    }
  }

  /** What is placed in maps before a packet, map by map. */
  async removeElements(): Promise<void> {
    for (let index = 0; index < this.best.length; index++) {
      for (const name of this.best[index]!.elements?.keys() ?? []) {
        const left = new Map(this.best[index]!.elements);
        left.delete(name);
        const elements = left.size > 0 ? left : undefined;
        await this.#try(this.best.map((packet, at) => (at === index ? { ...packet, elements } : packet)));
      }
    }
  }

  async shorten(group: readonly number[]): Promise<void> {
    for (let step = this.#longest(group) - SHORTEST_FRAME; step >= 1;) {
      const length = this.#longest(group) - step;
      const isShorter =
        length >= SHORTEST_FRAME &&
        (await this.#tryChange(group, (data) => (data.length > length ? data.slice(0, length) : data)));
      if (!isShorter) step = Math.floor(step / 2);
    }
  }

  /** Bytes to 0: all at once, then by halves down to single ones. */
  async clear(group: readonly number[]): Promise<void> {
    const length = this.#longest(group);
    for (let run = length; run >= 1; run = Math.floor(run / 2)) {
      for (let start = 0; start < length; start += run) {
        await this.#tryChange(group, (data) => {
          if (data.subarray(start, start + run).every((byte) => byte === 0)) return data;
          const cleared = data.slice();
          cleared.fill(0, start, start + run);
          return cleared;
        });
      }
    }
  }

  /** Each byte as small as halving and counting down find it. */
  async lower(group: readonly number[]): Promise<void> {
    for (let at = 0; at < this.#longest(group); at++) {
      const set = (value: number): Promise<boolean> =>
        this.#tryChange(group, (data) => {
          if (at >= data.length || data[at]! <= value) return data;
          const lowered = data.slice();
          lowered[at] = value;
          return lowered;
        });
      let value = Math.max(...group.map((index) => this.best[index]!.data[at] ?? 0));
      while (value > 1) {
        if (await set(value >> 1)) value >>= 1;
        else if (await set(value - 1)) value--;
        else break;
      }
    }
  }

  /** Times from the beginning on; and what shrinking made of headers is seldom one: as much is made good as goes. */
  async tidy(): Promise<void> {
    await this.#try(
      this.best.map((packet, index) => ({
        ...packet,
        input: { ...packet.input, now: BigInt(index + 1) * PACKET_INTERVAL_NS },
      })),
    );
    const all = this.best.map((_, index) => index);
    for (const group of [all, ...all.map((index) => [index])]) {
      for (const change of tidyHeaders) await this.#tryChange(group, change);
    }
  }
}
