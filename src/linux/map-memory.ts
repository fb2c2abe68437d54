import { BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_MAP_TYPE as T, type MapAttributes } from '../bpf/map-spec.js';
import { PAGE_SIZE } from './kernel-map.js';

/** Bytes of kernel structs, of 6.18 on x86-64; map-memory.test.ts compares them with the running kernel's BTF. */
export const STRUCT_SIZE = {
  bpf_array: 312,
  bpf_htab: 832,
  bucket: 16,
  htab_elem: 48,
  lpm_trie: 400,
  lpm_trie_node: 24,
  bpf_queue_stack: 312,
  bpf_ringbuf_map: 304,
  bpf_ringbuf: 12_288,
  bpf_dtab: 344,
  bpf_dtab_netdev: 64,
  bpf_cpu_map: 304,
  bpf_cpu_map_entry: 360,
  xsk_map: 304,
  xsk_map_node: 32,
} as const;

const POINTER = 8;

/**
 * Bytes of kernel memory that a map takes when all of its elements are in use: what the kernel counts in
 * `/proc/…/fdinfo` as `memlock` (`map_mem_usage` of each type, kernel/bpf/*map*.c of 6.18), and above that what it
 * leaves out there: inner nodes of an LPM_TRIE, a CPUMAP's entries, the map itself of an LPM_TRIE. Neither counts what
 * the allocators round up, the records that wait in a CPUMAP's queues, nor a program or map that an entry refers to.
 *
 * For attributes that no map can have it is what they ask for, which may exceed any memory.
 */
export function kernelMapMemory(attributes: MapAttributes, cpus: number): number {
  const { type, keySize, valueSize, maxEntries, flags } = attributes;
  switch (type) {
    case T.BPF_MAP_TYPE_ARRAY: {
      const elements = roundUp(valueSize, 8) * maxEntries;
      return (flags & BPF_F_MMAPABLE) === 0
        ? STRUCT_SIZE.bpf_array + elements
        : PAGE_SIZE + roundUp(elements, PAGE_SIZE);
    }
    case T.BPF_MAP_TYPE_PERCPU_ARRAY:
      return STRUCT_SIZE.bpf_array + (POINTER + roundUp(valueSize, 8) * cpus) * maxEntries;
    case T.BPF_MAP_TYPE_PROG_ARRAY:
    case T.BPF_MAP_TYPE_PERF_EVENT_ARRAY:
    case T.BPF_MAP_TYPE_ARRAY_OF_MAPS:
      return STRUCT_SIZE.bpf_array + POINTER * maxEntries;
    case T.BPF_MAP_TYPE_HASH:
    case T.BPF_MAP_TYPE_PERCPU_HASH:
    case T.BPF_MAP_TYPE_LRU_HASH:
    case T.BPF_MAP_TYPE_LRU_PERCPU_HASH:
    case T.BPF_MAP_TYPE_HASH_OF_MAPS:
      return hashMemory(attributes, cpus);
    case T.BPF_MAP_TYPE_LPM_TRIE: {
      const node = STRUCT_SIZE.lpm_trie_node + Math.max(0, keySize - 4);
      // Between n prefixes there are n - 1 nodes at most that only tell them apart, and have no value.
      return STRUCT_SIZE.lpm_trie + (node + valueSize) * maxEntries + node * Math.max(0, maxEntries - 1);
    }
    case T.BPF_MAP_TYPE_QUEUE:
    case T.BPF_MAP_TYPE_STACK:
      return STRUCT_SIZE.bpf_queue_stack + (maxEntries + 1) * valueSize;
    case T.BPF_MAP_TYPE_RINGBUF: {
      // struct bpf_ringbuf ends with the two pages of the positions; the data's pages are mapped twice.
      const meta = STRUCT_SIZE.bpf_ringbuf;
      const pages = meta / PAGE_SIZE + 2 * Math.floor(maxEntries / PAGE_SIZE);
      return STRUCT_SIZE.bpf_ringbuf_map + meta + maxEntries + pages * POINTER;
    }
    case T.BPF_MAP_TYPE_DEVMAP:
      return STRUCT_SIZE.bpf_dtab + (POINTER + STRUCT_SIZE.bpf_dtab_netdev) * maxEntries;
    case T.BPF_MAP_TYPE_DEVMAP_HASH:
      return (
        STRUCT_SIZE.bpf_dtab + POINTER * powerOfTwo(maxEntries) + STRUCT_SIZE.bpf_dtab_netdev * maxEntries
      );
    case T.BPF_MAP_TYPE_CPUMAP:
      return STRUCT_SIZE.bpf_cpu_map + (POINTER + STRUCT_SIZE.bpf_cpu_map_entry) * maxEntries;
    case T.BPF_MAP_TYPE_XSKMAP:
      return STRUCT_SIZE.xsk_map + (POINTER + STRUCT_SIZE.xsk_map_node) * maxEntries;
    default:
      return 0;
  }
}

/** Of each CPU, to tell when it finds itself in the map already (HASHTAB_MAP_LOCK_COUNT ints). */
const LOCK_BYTES = 32;

/** kernel/bpf/hashtab.c, `htab_map_mem_usage`. */
function hashMemory({ type, keySize, valueSize, maxEntries, flags }: MapAttributes, cpus: number): number {
  const isPerCpu = type === T.BPF_MAP_TYPE_PERCPU_HASH || type === T.BPF_MAP_TYPE_LRU_PERCPU_HASH;
  const isLru = type === T.BPF_MAP_TYPE_LRU_HASH || type === T.BPF_MAP_TYPE_LRU_PERCPU_HASH;
  const value = roundUp(valueSize, 8);
  const element = STRUCT_SIZE.htab_elem + roundUp(keySize, 8) + (isPerCpu ? POINTER : value);
  const perCpuValue = isPerCpu ? value * cpus : 0;
  const table = STRUCT_SIZE.bpf_htab + STRUCT_SIZE.bucket * powerOfTwo(maxEntries) + LOCK_BYTES * cpus;
  if ((flags & BPF_F_NO_PREALLOC) !== 0) {
    // Each allocation, one more for per-CPU values, begins with a link of its allocator's list.
    const links = POINTER + (isPerCpu ? 2 * POINTER : 0);
    return table + (element + links + perCpuValue) * maxEntries;
  }
  // Without an LRU list each CPU has an element in reserve, for updates of a map that is full.
  const spare = !isPerCpu && !isLru ? cpus : 0;
  return table + (element + perCpuValue) * (maxEntries + spare) + spare * POINTER;
}

function roundUp(bytes: number, to: number): number {
  return Math.ceil(bytes / to) * to;
}

function powerOfTwo(entries: number): number {
  return entries <= 1 ? 1 : 2 ** Math.ceil(Math.log2(entries));
}
