import { E2BIG, EINVAL, EPERM } from '../../src/bpf/errno.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import type { MapBatch, ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { acceptInnerMap, releaseInnerMap } from './inner-map.js';
import { U32_SIZE } from './kernel-limits.js';
import { indexOf, loadU32, type MapPlacement } from './memory-map.js';
import { SlotMap } from './slot-map.js';

/** ARRAY_OF_MAPS: addresses of inner maps, each of which lives at least as long as it is in here. */
export class ArrayOfMaps extends SlotMap {
  readonly #template: MapAttributes;

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
    accepted.retain();
    this.drop(this.exchange(index, accepted.address));
    return 0;
  }

  protected override drop(address: number): void {
    releaseInnerMap(this.runtime, address);
  }

  protected override readBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    return this.readBatchByKey(cursor, count);
  }
}
