import { EINVAL, ENOTSUPP, EOPNOTSUPP } from '../../src/bpf/errno.js';
import { BPF_ANY, BPF_F_RDONLY_PROG, BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { HASH_KIND, HashMap, type HashLayout } from './hash-map.js';
import { NUMA_AND_SYSCALL_ACCESS, U32_SIZE } from './kernel-limits.js';
import type { MapKind } from './map-plan.js';
import { indexKey, indexOf } from './memory-map.js';
import { checkRedirectMap, programIn } from './redirect-array.js';

export const DEVMAP_HASH_KIND: MapKind = {
  check(attributes) {
    const refusal = checkRedirectMap(attributes, [4, 8], NUMA_AND_SYSCALL_ACCESS);
    return refusal === 0 && attributes.maxEntries > 2 ** 31 ? -EINVAL : refusal;
  },
  regions: (attributes, environment) =>
    HASH_KIND.regions({ ...attributes, flags: BPF_F_RDONLY_PROG }, environment),
};

/** DEVMAP_HASH: the values of a DEVMAP under any u32 key. BPF_EXIST does not ask for the key to exist. */
export class DevMapHash extends HashMap {
  lookupIndex(index: number): number {
    return this.valueAddressOf(indexKey(index), true);
  }

  /** Programs do not update it. */
  protected override describeLayout(layout: HashLayout): MapLayout {
    return { ...layout, plainValues: false };
  }

  override updateElem(): number {
    return -EINVAL;
  }

  override deleteElem(): number {
    return -EINVAL;
  }

  protected override writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    if (indexOf(value) === 0) return -EINVAL;
    const stored = value.slice();
    if (stored.length > U32_SIZE) stored.set(indexKey(programIn(value)), U32_SIZE);
    return super.writeEntry(key, stored, flags === BPF_NOEXIST ? BPF_NOEXIST : BPF_ANY);
  }

  override copyElements(): number {
    return -EOPNOTSUPP;
  }

  protected override takeEntry(): number {
    return -ENOTSUPP;
  }

  protected override readBatch(): number {
    return -ENOTSUPP;
  }
}
