import { E2BIG, EBADF, EINVAL, ENOTSUPP, EOPNOTSUPP, EPERM } from '../../src/bpf/errno.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { HASH_KIND, HashMap } from './hash-map.js';
import { acceptInnerMap, checkInnerTemplate, InnerMapReferences } from './inner-map.js';
import { U32_SIZE } from './kernel-limits.js';
import type { MapKind } from './map-plan.js';
import { indexKey, type MapPlacement } from './memory-map.js';

export const HASH_OF_MAPS_KIND: MapKind = {
  check(attributes) {
    if (attributes.valueSize !== U32_SIZE) return -EINVAL;
    return HASH_KIND.check(attributes) || checkInnerTemplate(attributes.inner);
  },
  regions: (attributes, environment) =>
    HASH_KIND.regions(attributes, environment).map((region) => ({
      ...region,
      // The elements hold addresses of maps: a program gets what they point to, never a pointer to them.
      description: { ...region.description, access: 'none' as const },
    })),
};

/**
 * HASH_OF_MAPS: a hash table whose values are addresses of inner maps. Its layout is opaque although it lies in
 * memory like any HASH, because a lookup returns what the value says and not where it lies.
 */
export class HashOfMaps extends HashMap {
  readonly #template: MapAttributes;
  /** By the address of the element's value. */
  readonly #references = new InnerMapReferences();

  constructor(placement: MapPlacement) {
    super(placement);
    this.#template = this.attributes.inner!;
  }

  override lookupElem(keyAddress: number): number {
    const value = super.lookupElem(keyAddress);
    return value === 0 ? 0 : this.space.i32[value >>> 2]! >>> 0;
  }

  override copyElements(): number {
    return -EOPNOTSUPP;
  }

  override updateElem(): number {
    return -EINVAL;
  }

  override deleteElem(): number {
    return -EINVAL;
  }

  setInnerMap(key: Uint8Array, inner: ResidentMap): number {
    if (!this.mayWrite) return -EPERM;
    if (key.length !== this.attributes.keySize) return -EINVAL;
    const accepted = acceptInnerMap(this.runtime, this.#template, inner);
    if (typeof accepted === 'number') return accepted;
    if (super.writeEntry(key, indexKey(accepted.address), 0) !== 0) return -E2BIG;
    this.#references.hold(this.valueAddressOf(key), accepted);
    return 0;
  }

  protected override describeLayout(): MapLayout {
    return { kind: 'opaque' };
  }

  /** bpf(2) passes an fd, and fds belong to whoever translates them: setInnerMap comes here. */
  protected override writeEntry(): number {
    return -EBADF;
  }

  protected override removeEntry(key: Uint8Array): number {
    const value = this.valueAddressOf(key);
    const result = super.removeEntry(key);
    this.#references.letGo(value);
    return result;
  }

  protected override takeEntry(): number {
    return -ENOTSUPP;
  }

  protected override dropEntries(): void {
    this.#references.letAllGo();
  }
}
