import { E2BIG, EBADF, EEXIST, ENOENT, EOPNOTSUPP } from '../../src/bpf/errno.js';
import { BPF_EXIST, BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import { NUMA_AND_SYSCALL_ACCESS } from './kernel-limits.js';
import type { MapKind } from './map-plan.js';
import { indexOf, type MapPlacement } from './memory-map.js';
import { RedirectArray, checkRedirectMap, entryRegions } from './redirect-array.js';

export const XSKMAP_KIND: MapKind = {
  check: (attributes) => checkRedirectMap(attributes, [4], NUMA_AND_SYSCALL_ACCESS),
  regions: (attributes, { label }) => entryRegions(attributes, label),
};

/**
 * XSKMAP: `{ u32 queue_id, u32 socket + 1 }`. A program that looks an entry up sees the first field of
 * `struct bpf_xdp_sock`; the socket of entry n is taken to be bound to queue n.
 */
export class XskMap extends RedirectArray {
  constructor(placement: MapPlacement) {
    super(placement, 4);
  }

  /** The socket number that was put under an index, or undefined. */
  socketAt(index: number): number | undefined {
    const address = this.lookupIndex(index);
    return address === 0 ? undefined : this.space.i32[(address >>> 2) + 1]! - 1;
  }

  /** The kernel does not tell bpf(2) which socket an entry holds. */
  protected override readEntry(): number {
    return -EOPNOTSUPP;
  }

  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    const socket = indexOf(value) | 0;
    if (socket < 0) return -EBADF;
    const set = this.lookupIndex(index) !== 0;
    if (flags === BPF_NOEXIST && set) return -EEXIST;
    if (flags === BPF_EXIST && !set) return -ENOENT;
    this.put(index, index, socket + 1);
    return 0;
  }
}
