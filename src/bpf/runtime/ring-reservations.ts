import type { ResidentMap } from './bpf-map.js';

/**
 * Ring buffer records that the run under way has reserved and neither submitted nor discarded, by their address. Nearly
 * always there is one at a time, which costs no look-up: each has an address of its own, and a `Map` through which ever
 * new keys go is rebuilt again and again.
 */
export class RingReservations {
  /** 0: none. */
  #record = 0;
  #map: ResidentMap | undefined;
  readonly #others = new Map<number, ResidentMap>();

  add(record: number, map: ResidentMap): void {
    if (this.#record === 0 && this.#others.size === 0) {
      this.#record = record;
      this.#map = map;
    } else if (record === this.#record) {
      this.#map = map;
    } else {
      this.#others.set(record, map);
    }
  }

  /** The map of a record, which is reserved no more; undefined where it was not. */
  take(record: number): ResidentMap | undefined {
    if (record !== this.#record || record === 0) {
      const map = this.#others.get(record);
      if (map !== undefined) this.#others.delete(record);
      return map;
    }
    this.#record = 0;
    return this.#map;
  }

  get records(): readonly number[] {
    return [...(this.#record === 0 ? [] : [this.#record]), ...this.#others.keys()];
  }

  /** Forgets all. */
  clear(): void {
    this.#record = 0;
    this.#map = undefined;
    this.#others.clear();
  }

  discard(): void {
    if (this.#record !== 0) this.#map?.ringDiscard?.(this.#record, 0);
    for (const [record, map] of this.#others) map.ringDiscard?.(record, 0);
    this.clear();
  }
}
