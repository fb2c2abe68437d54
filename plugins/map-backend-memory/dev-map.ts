import { E2BIG, EEXIST, EINVAL } from '../../src/bpf/errno.js';
import { BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import { NUMA_AND_SYSCALL_ACCESS } from './kernel-limits.js';
import type { MapKind } from './map-plan.js';
import { indexOf } from './memory-map.js';
import { RedirectArray, checkRedirectMap, entryRegions, programIn } from './redirect-array.js';

export const DEVMAP_KIND: MapKind = {
  check: (attributes) => checkRedirectMap(attributes, [4, 8], NUMA_AND_SYSCALL_ACCESS),
  regions: (attributes, { label }) => entryRegions(attributes, label),
};

/**
 * DEVMAP: `{ u32 ifindex, u32 program id }`. An update passes the id where bpf(2) passes an fd; whether
 * the device exists is for whoever knows the devices.
 */
export class DevMap extends RedirectArray {
  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    if (flags === BPF_NOEXIST) return -EEXIST;
    const ifindex = indexOf(value);
    const program = programIn(value);
    // Ifindex 0 empties the entry, and an empty entry runs no program.
    if (ifindex === 0 && program > 0) return -EINVAL;
    this.put(index, ifindex, program);
    return 0;
  }
}
