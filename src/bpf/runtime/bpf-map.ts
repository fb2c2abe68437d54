import type { MapAttributes } from '../map-spec.js';
import type { AddressSpace } from './address-space.js';
import type { MapLayout } from './map-layout.js';

/**
 * The system call's view of a map (bpf(2)): whole keys and values, copied. Keys and values have the exact
 * size of the attributes; for per-CPU maps a value is `roundUp(valueSize, 8) * cpus` bytes. Flags are those of
 * the corresponding bpf(2) command.
 */
export interface BpfMap {
  readonly name: string;
  readonly attributes: MapAttributes;
  /** Bytes of a value as the system call passes it. */
  readonly syscallValueSize: number;
  lookup(key: Uint8Array, flags?: bigint): Uint8Array | number;
  update(key: Uint8Array, value: Uint8Array, flags: bigint): number;
  delete(key: Uint8Array): number;
  /** The key after `key`, the first one for null or for a key that is not there; -ENOENT after the last. */
  nextKey(key: Uint8Array | null): Uint8Array | number;
  lookupAndDelete(key: Uint8Array): Uint8Array | number;
  /** Up to `count` elements from the cursor on (null: the start). `next` is null after the last. */
  lookupBatch(cursor: Uint8Array | null, count: number): MapBatch | number;
  /** Stops updates from the system call side (BPF_MAP_FREEZE). */
  freeze(): number;
  /** PROG_ARRAY: puts a program of the same party under an index, by its `LoadedProgram.id`: 0 or -errno. */
  setProgram?(index: number, programId: number): number;
  /** ARRAY_OF_MAPS, HASH_OF_MAPS: puts a map of the same backend under a key: 0 or -errno. */
  setInnerMap?(key: Uint8Array, inner: BpfMap): number;
  /**
   * PERF_EVENT_ARRAY and RINGBUF: takes out what programs sent, oldest first. With `room`, the first for which there is
   * none and all behind it stay, and neither time nor memory is spent on them.
   */
  drainRecords?(room?: RecordRoom): MapRecord[];
  /** Likewise: bytes of data of the record that `drainRecords` takes out next; undefined when there is none. */
  nextRecordBytes?(): number | undefined;
  /** Likewise: drops that record. With what was lost before it, it counts as lost before the one behind it. */
  skipRecord?(): void;
  /**
   * RINGBUF: makes what is in this map, positions and losses included, what is in `from`, of the same size, which keeps
   * it. Bytes that were copied, or -EOPNOTSUPP for a map of another backend.
   */
  copyRecords?(from: BpfMap): number;
  /**
   * Makes the elements of this map those of `from`, of the same attributes, by bpf(2)'s rules of who may read and write: adds,
   * changes and deletes what differs, and writes nothing else. -EOPNOTSUPP for a map of another backend, or where that takes
   * element by element; another negative errno after which some elements may have been copied.
   */
  copyElements?(from: BpfMap): CopiedElements | number;
  /** Gives the memory back. Programs that use the map must be gone. */
  close(): void;
}

/** Elements that were added or changed, and their bytes, keys and values as bpf(2) passes them. */
export interface CopiedElements {
  readonly elements: number;
  readonly bytes: number;
}

export interface MapBatch {
  readonly entries: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
  readonly next: Uint8Array | null;
}

/**
 * A map whose elements lie in an address space, so that a program running in this process can hold a pointer
 * to a value. Values never move while the map lives. Addresses are those of `space`.
 * All that changes while programs run lies in the address space, bookkeeping included, so that a snapshot of
 * the space is a snapshot of its maps. What only the system call side changes does not (the frozen flag, what keeps
 * inner maps alive).
 * A program that a verifier wrongly let pass may have overwritten the space. No operation may then throw, take more
 * steps than the map's size calls for, or touch memory that is not the map's or named by an argument; what it
 * finds may be wrong.
 * What a program calls (`lookupElem` and the others that take addresses, `lookupIndex`) adds to `BpfRuntime.owedInsns`
 * what it did beyond what any call of it does: for a walk along a hash chain `chainCharge`, for a way down a trie an insn for each node.
 */
export interface ResidentMap extends BpfMap {
  readonly space: AddressSpace;
  /** What `lddw rX, map` loads: identifies the map to helpers; a program cannot read there. */
  readonly address: number;
  readonly layout: MapLayout;
  /**
   * bpf_map_lookup_elem: the address of the value (this CPU's for per-CPU maps), or 0. For ARRAY_OF_MAPS and
   * HASH_OF_MAPS it is the `address` of the inner map.
   */
  lookupElem(keyAddress: number): number;
  /** bpf_map_update_elem: 0 or -errno. */
  updateElem(keyAddress: number, valueAddress: number, flags: number): number;
  /** bpf_map_delete_elem: 0 or -errno. */
  deleteElem(keyAddress: number): number;
  /** The address that BPF_PSEUDO_MAP_VALUE names; 0 when the type has no direct value access. */
  directValueAddress(offset: number): number;
  /** bpf_map_push_elem, bpf_map_pop_elem, bpf_map_peek_elem on QUEUE and STACK: 0 or -errno. */
  pushElem?(valueAddress: number, flags: number): number;
  popElem?(valueAddress: number): number;
  peekElem?(valueAddress: number): number;
  /** bpf_map_lookup_percpu_elem. */
  lookupPercpuElem?(keyAddress: number, cpu: number): number;
  /** RINGBUF: address of a reserved record or 0; then submit or discard. */
  ringReserve?(size: number): number;
  ringSubmit?(recordAddress: number, flags: number): number;
  ringDiscard?(recordAddress: number, flags: number): number;
  ringQuery?(flags: number): bigint;
  /** PERF_EVENT_ARRAY: bpf_perf_event_output; `data` is a copy. 0 or -errno (E2BIG, ENOENT, EOPNOTSUPP, ENOSPC). */
  outputRecord?(index: number, data: Uint8Array): number;
  /**
   * DEVMAP, DEVMAP_HASH, CPUMAP, XSKMAP: bpf_redirect_map's look-up by index (or hash key): the address of the
   * entry's value, 0 when there is none.
   */
  lookupIndex?(index: number): number;
  /** XSKMAP: what was put under an index; undefined where nothing was. */
  socketAt?(index: number): number | undefined;
  /** PROG_ARRAY: the program id under an index, 0 for none. */
  programAt?(index: number): number;
}

export interface MapRecord {
  readonly cpu: number;
  /** May be part of a buffer that it shares with others. */
  readonly data: Uint8Array;
  /** Records lost before this one because the buffer was full. */
  readonly lost: number;
}

/** Where records go. */
export interface RecordRoom {
  readonly bytes: number;
  /** How many at most. */
  readonly records: number;
  /** Bytes that a record takes there beside its data; above 0. */
  readonly recordBytes: number;
}

export function isResidentMap(map: BpfMap): map is ResidentMap {
  return 'address' in map && 'layout' in map;
}
