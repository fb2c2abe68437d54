import type { ResidentMap } from './bpf-map.js';
import { RUN_STATE, type RunState } from './run-state.js';

/**
 * Ring buffer records that the run under way has reserved and neither submitted nor discarded, by their address. Nearly
 * always there is one at a time, of a map whose layout is known: that one lies in the run state, where compiled code reserves
 * and submits it as well (`RUN_STATE.reservedRecord`). Who overwrites it there has a record of another ring submitted or
 * discarded at worst; rings look at what they are given.
 */
export class RingReservations {
  readonly #others = new Map<number, ResidentMap>();
  readonly #i32: Int32Array;
  readonly #recordWord: number;
  readonly #mapWord: number;
  readonly #othersWord: number;

  /** @param maps live maps by their `address` */
  constructor(
    { space, address }: RunState,
    readonly maps: ReadonlyMap<number, ResidentMap>,
  ) {
    this.#i32 = space.i32;
    this.#recordWord = (address + RUN_STATE.reservedRecord) >> 2;
    this.#mapWord = (address + RUN_STATE.reservedMap) >> 2;
    this.#othersWord = (address + RUN_STATE.otherReservations) >> 2;
  }

  add(record: number, map: ResidentMap): void {
    const words = this.#i32;
    const held = words[this.#recordWord]! >>> 0;
    const isFree = held === 0 && this.#others.size === 0;
    if (map.layout.kind === 'ring' && (isFree || held === record)) {
      words[this.#recordWord] = record;
      words[this.#mapWord] = map.address;
      return;
    }
    if (held === record) words[this.#recordWord] = 0;
    this.#others.set(record, map);
    words[this.#othersWord] = this.#others.size;
  }

  /** The map of a record, which is reserved no more; undefined where it was not, or where the map is gone. */
  take(record: number): ResidentMap | undefined {
    if (record === 0) return undefined;
    const words = this.#i32;
    if (record === words[this.#recordWord]! >>> 0) {
      words[this.#recordWord] = 0;
      return this.maps.get(words[this.#mapWord]! >>> 0);
    }
    const map = this.#others.get(record);
    if (map !== undefined) {
      this.#others.delete(record);
      words[this.#othersWord] = this.#others.size;
    }
    return map;
  }

  get records(): readonly number[] {
    const held = this.#i32[this.#recordWord]! >>> 0;
    return [...(held === 0 ? [] : [held]), ...this.#others.keys()];
  }

  /** Forgets all. */
  clear(): void {
    this.#i32[this.#recordWord] = 0;
    this.#others.clear();
    this.#i32[this.#othersWord] = 0;
  }

  discard(): void {
    for (const record of this.records) this.take(record)?.ringDiscard?.(record, 0);
    this.clear();
  }
}
