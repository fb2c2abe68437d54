import { E2BIG, EEXIST, ENODEV } from '../../src/bpf/errno.js';
import { BPF_F_NUMA_NODE, BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import type { MapKind } from './map-plan.js';
import { indexOf } from './memory-map.js';
import { RedirectArray, checkRedirectMap, entryRegions, programIn } from './redirect-array.js';

/** Not among the errnos of bpf(2) elsewhere: what CPUMAP says to a queue that is too long. */
export const EOVERFLOW = 75;

/** `NR_CPUS` of Debian's x86-64 kernels, the most entries a CPUMAP may have. */
export const NR_CPUS = 8192;
/** The longest queue of a CPUMAP entry, in frames. */
export const CPUMAP_MAX_QSIZE = 16_384;

export const CPUMAP_KIND: MapKind = {
  check(attributes) {
    const refusal = checkRedirectMap(attributes, [4, 8], BPF_F_NUMA_NODE);
    return refusal === 0 && attributes.maxEntries > NR_CPUS ? -E2BIG : refusal;
  },
  regions: (attributes, { label }) => entryRegions(attributes, label),
};

/** CPUMAP: `{ u32 qsize, u32 program id }`; qsize 0 empties the entry. */
export class CpuMap extends RedirectArray {
  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const cpu = indexOf(key);
    if (cpu >= this.attributes.maxEntries) return -E2BIG;
    if (flags === BPF_NOEXIST) return -EEXIST;
    const qsize = indexOf(value);
    if (qsize > CPUMAP_MAX_QSIZE) return -EOVERFLOW;
    if (cpu >= this.runtime.cpus) return -ENODEV;
    this.put(cpu, qsize, qsize === 0 ? 0 : programIn(value));
    return 0;
  }
}
