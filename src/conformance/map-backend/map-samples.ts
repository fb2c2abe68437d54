import {
  BPF_F_INNER_MAP,
  BPF_F_MMAPABLE,
  BPF_F_NO_COMMON_LRU,
  BPF_F_NO_PREALLOC,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY,
  BPF_F_WRONLY_PROG,
  BPF_MAP_TYPE,
  mapTypeName,
  type MapAttributes,
  type MapTypeName,
} from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';

const T = BPF_MAP_TYPE;

/** Map types that the suites know. */
export const CONFORMANCE_MAP_TYPES: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PROG_ARRAY,
  T.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_LPM_TRIE,
  T.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  T.BPF_MAP_TYPE_HASH_OF_MAPS,
  T.BPF_MAP_TYPE_DEVMAP,
  T.BPF_MAP_TYPE_CPUMAP,
  T.BPF_MAP_TYPE_XSKMAP,
  T.BPF_MAP_TYPE_QUEUE,
  T.BPF_MAP_TYPE_STACK,
  T.BPF_MAP_TYPE_DEVMAP_HASH,
  T.BPF_MAP_TYPE_RINGBUF,
]);

/** The names of CONFORMANCE_MAP_TYPES. */
export const EVERY_TYPE: readonly MapTypeName[] = [...CONFORMANCE_MAP_TYPES].map(
  (type) => mapTypeName(type) as MapTypeName,
);

export const HASHES: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_HASH',
  'BPF_MAP_TYPE_PERCPU_HASH',
  'BPF_MAP_TYPE_LRU_HASH',
  'BPF_MAP_TYPE_LRU_PERCPU_HASH',
];
export const ARRAYS: readonly MapTypeName[] = ['BPF_MAP_TYPE_ARRAY', 'BPF_MAP_TYPE_PERCPU_ARRAY'];
export const QUEUES: readonly MapTypeName[] = ['BPF_MAP_TYPE_QUEUE', 'BPF_MAP_TYPE_STACK'];
export const REDIRECT_ARRAYS: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_DEVMAP',
  'BPF_MAP_TYPE_CPUMAP',
  'BPF_MAP_TYPE_XSKMAP',
];
export const FD_ARRAYS: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_PROG_ARRAY',
  'BPF_MAP_TYPE_PERF_EVENT_ARRAY',
  'BPF_MAP_TYPE_ARRAY_OF_MAPS',
];

/** Limits of the kernel's allocators, in bytes (include/linux/slab.h, include/linux/percpu.h). */
export const KMALLOC_MAX_SIZE = 4 * 1024 * 1024;
export const PCPU_MIN_UNIT_SIZE = 32 * 1024;
export const BPF_F_ZERO_SEED = 1 << 6;
export const BPF_F_PRESERVE_ELEMS = 1 << 11;
/** An fd that nobody has open. */
export const BAD_FD = 0xffff_ffff;
export const NO_KEY = new Uint8Array();

/** Attributes with which every type can be created, to be changed from. */
export function plainAttributes(typeName: MapTypeName, changes: Partial<MapAttributes> = {}): MapAttributes {
  const type = T[typeName];
  const base = { type, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 };
  const inner = { ...base, type: T.BPF_MAP_TYPE_ARRAY };
  switch (typeName) {
    case 'BPF_MAP_TYPE_LPM_TRIE':
      return { ...base, keySize: 8, flags: BPF_F_NO_PREALLOC, ...changes };
    case 'BPF_MAP_TYPE_QUEUE':
    case 'BPF_MAP_TYPE_STACK':
      return { ...base, keySize: 0, ...changes };
    case 'BPF_MAP_TYPE_RINGBUF':
      return { ...base, keySize: 0, valueSize: 0, maxEntries: 4096, ...changes };
    case 'BPF_MAP_TYPE_ARRAY_OF_MAPS':
    case 'BPF_MAP_TYPE_HASH_OF_MAPS':
      return { ...base, inner, ...changes };
    default:
      return { ...base, ...changes };
  }
}

export function u32(...words: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

/** A key of LPM_TRIE over IPv4: `lpmKey(24, 10, 0, 0, 0)`. */
export function lpmKey(prefixLength: number, ...data: number[]): Uint8Array {
  return Uint8Array.of(...u32(prefixLength), ...data);
}

/** Every key of a map in the order of get_next_key. */
export function allKeys(map: BpfMap): Uint8Array[] {
  const keys: Uint8Array[] = [];
  for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) keys.push(key);
  return keys;
}

/** Keys in an order of their own, to be compared as sets. */
export function sorted(keys: readonly Uint8Array[]): string[] {
  return keys.map((key) => Buffer.from(key).toString('hex')).sort();
}

/** Creation flags by type, those of `plainAttributes` not repeated. Probed bit by bit on Linux 6.18. */
const SYSCALL_ACCESS = BPF_F_RDONLY | BPF_F_WRONLY;
const PROG_ACCESS = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
const ALL_ACCESS = SYSCALL_ACCESS | PROG_ACCESS;
export const ALLOWED_FLAGS: Partial<Record<MapTypeName, number>> = {
  BPF_MAP_TYPE_HASH: BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_PERCPU_HASH: BPF_F_NO_PREALLOC | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_LRU_HASH: BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: BPF_F_NO_COMMON_LRU | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_ARRAY: BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_MMAPABLE | BPF_F_INNER_MAP,
  BPF_MAP_TYPE_PERCPU_ARRAY: ALL_ACCESS,
  BPF_MAP_TYPE_LPM_TRIE: BPF_F_NUMA_NODE | ALL_ACCESS,
  BPF_MAP_TYPE_PROG_ARRAY: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: BPF_F_NUMA_NODE | SYSCALL_ACCESS | BPF_F_PRESERVE_ELEMS,
  BPF_MAP_TYPE_ARRAY_OF_MAPS: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_HASH_OF_MAPS: BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_DEVMAP: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_DEVMAP_HASH: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_XSKMAP: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_CPUMAP: BPF_F_NUMA_NODE,
  BPF_MAP_TYPE_RINGBUF: BPF_F_NUMA_NODE,
  BPF_MAP_TYPE_QUEUE: BPF_F_NUMA_NODE | ALL_ACCESS,
  BPF_MAP_TYPE_STACK: BPF_F_NUMA_NODE | ALL_ACCESS,
};
