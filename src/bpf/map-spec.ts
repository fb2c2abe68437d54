import type { BtfTypeRef } from './btf/btf-type-ref.js';
import type { MapBtf } from './btf/map-btf.js';

/** Map types by their kernel number (`enum bpf_map_type`, include/uapi/linux/bpf.h). */
export const BPF_MAP_TYPE = {
  BPF_MAP_TYPE_HASH: 1,
  BPF_MAP_TYPE_ARRAY: 2,
  BPF_MAP_TYPE_PROG_ARRAY: 3,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: 4,
  BPF_MAP_TYPE_PERCPU_HASH: 5,
  BPF_MAP_TYPE_PERCPU_ARRAY: 6,
  BPF_MAP_TYPE_STACK_TRACE: 7,
  BPF_MAP_TYPE_CGROUP_ARRAY: 8,
  BPF_MAP_TYPE_LRU_HASH: 9,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: 10,
  BPF_MAP_TYPE_LPM_TRIE: 11,
  BPF_MAP_TYPE_ARRAY_OF_MAPS: 12,
  BPF_MAP_TYPE_HASH_OF_MAPS: 13,
  BPF_MAP_TYPE_DEVMAP: 14,
  BPF_MAP_TYPE_SOCKMAP: 15,
  BPF_MAP_TYPE_CPUMAP: 16,
  BPF_MAP_TYPE_XSKMAP: 17,
  BPF_MAP_TYPE_SOCKHASH: 18,
  BPF_MAP_TYPE_QUEUE: 22,
  BPF_MAP_TYPE_STACK: 23,
  BPF_MAP_TYPE_DEVMAP_HASH: 25,
  BPF_MAP_TYPE_RINGBUF: 27,
} as const;

export type MapTypeName = keyof typeof BPF_MAP_TYPE;

const NAME_BY_TYPE = new Map<number, MapTypeName>(
  (Object.entries(BPF_MAP_TYPE) as [MapTypeName, number][]).map(([name, type]) => [type, name]),
);

/** The constant's name, or `map type 99` for a number that this version does not know. */
export function mapTypeName(type: number): string {
  return NAME_BY_TYPE.get(type) ?? `map type ${type}`;
}

/** Creation flags (`map_flags`, include/uapi/linux/bpf.h). */
export const BPF_F_NO_PREALLOC = 1 << 0;
export const BPF_F_NO_COMMON_LRU = 1 << 1;
export const BPF_F_NUMA_NODE = 1 << 2;
export const BPF_F_RDONLY = 1 << 3;
export const BPF_F_WRONLY = 1 << 4;
/** The hash seed is 0, so that who chooses the keys can have all of them in one bucket. For tests. */
export const BPF_F_ZERO_SEED = 1 << 6;
export const BPF_F_RDONLY_PROG = 1 << 7;
export const BPF_F_WRONLY_PROG = 1 << 8;
export const BPF_F_MMAPABLE = 1 << 10;
export const BPF_F_INNER_MAP = 1 << 12;

/** Update flags of BPF_MAP_UPDATE_ELEM and `bpf_map_update_elem`. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;
export const BPF_F_LOCK = 4;

/** The attributes BPF_MAP_CREATE takes; sizes in bytes. */
export interface MapAttributes {
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** What keys and values are made of, where it is known; the sizes count all the same. */
  readonly btf?: MapBtf | undefined;
  /** What an ARRAY_OF_MAPS or HASH_OF_MAPS may hold. */
  readonly inner?: MapAttributes | undefined;
}

/** The value that one CPU has under a key of a per-CPU map. */
export interface CpuValue {
  readonly cpu: number;
  readonly value: Uint8Array;
}

/** An element of bytes. */
export type MapValueEntry =
  /** Of a per-CPU map it is the value of every CPU. */
  | { readonly key: Uint8Array; readonly value: Uint8Array }
  /** Of a per-CPU map: of CPUs that are not named the value is 0. */
  | { readonly key: Uint8Array; readonly cpuValues: readonly CpuValue[] };

/** A map or a program of an object, by name. */
export type ObjectPart = { readonly mapName: string } | { readonly programName: string };

/** One element to place in a map before a program runs. */
export type MapInitialEntry =
  | MapValueEntry
  /** The value is another map or program of the same object. */
  | ({ readonly key: Uint8Array } & ObjectPart);

/** A map as an object file declares it: inert, nothing is created. */
export interface MapSpec extends MapAttributes {
  readonly name: string;
  readonly inner?: MapSpec | undefined;
  readonly initial: readonly MapInitialEntry[];
  /** `.rodata`: the content is fixed once the program is loaded, so a verifier may treat it as constant. */
  readonly frozen?: boolean | undefined;
  /** The object asks its loader to share the map through bpffs under its name (LIBBPF_PIN_BY_NAME). */
  readonly pinnedByName?: boolean | undefined;
  /** Where BTF says so: how to print keys and values. */
  readonly keyType?: BtfTypeRef | undefined;
  readonly valueType?: BtfTypeRef | undefined;
}

/** Whether it is a map of global variables, whose content is written by variable. */
export function isGlobalData({ name }: Pick<MapSpec, 'name'>): boolean {
  // As libbpf has it: no other map can have such a name.
  return /^\.(?:data|rodata|bss|kconfig)\b/.test(name);
}
