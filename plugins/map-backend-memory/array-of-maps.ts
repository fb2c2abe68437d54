import { E2BIG, EINVAL, EPERM } from '../../src/bpf/errno.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import type { MapBatch, ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { acceptInnerMap, InnerMapReferences } from './inner-map.js';
import { U32_SIZE } from './kernel-limits.js';
import { indexOf, loadU32, type MapPlacement } from './memory-map.js';
import { SlotMap } from './slot-map.js';

/** ARRAY_OF_MAPS: addresses of inner maps, each of which lives at least as long as it is in here. */
export class ArrayOfMaps extends SlotMap {
  readonly #template: MapAttributes;
  /** By index. */
  readonly #references = new InnerMapReferences();

  constructor(placement: MapPlacement) {
    super(placement);
    this.#template = this.attributes.inner!;
  }

  lookupElem(keyAddress: number): number {
    return this.slot(loadU32(this.space, keyAddress));
  }

  setInnerMap(key: Uint8Array, inner: ResidentMap): number {
    if (!this.mayWrite) return -EPERM;
    if (key.length !== U32_SIZE) return -EINVAL;
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    const accepted = acceptInnerMap(this.runtime, this.#template, inner);
    if (typeof accepted === 'number') return accepted;
    this.exchange(index, accepted.address);
    this.#references.hold(index, accepted);
    return 0;
  }

  protected override drop(index: number): void {
    this.#references.letGo(index);
  }

  protected override dropEntries(): void {
    this.#references.letAllGo();
  }

  protected override readBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    return this.readBatchByKey(cursor, count);
  }
}
