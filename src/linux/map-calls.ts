import { readFileSync } from 'node:fs';
import { ENOENT } from '../bpf/errno.js';
import { BpfAttr, cString, infoByFd } from './bpf-attr.js';
import { BPF_ATTR, BPF_CMD, BPF_MAP_INFO, BPF_OBJ_NAME_LEN } from './bpf-layout.js';
import { libc } from './libc.js';

export interface MapCreation {
  readonly name: string;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  /** A map with the attributes of what an ARRAY_OF_MAPS or HASH_OF_MAPS may hold. */
  readonly innerMapFd?: number | undefined;
  /** A loaded BTF and the types of key and value in it; a key of type 0 is that of global data. */
  readonly btf?: { readonly fd: number; readonly keyType: number; readonly valueType: number } | undefined;
}

const CREATE = BPF_ATTR.map_create;

/** BPF_MAP_CREATE: a file descriptor, or `-errno`. */
export function mapCreate(map: MapCreation): number {
  return new BpfAttr()
    .u32(CREATE.map_type, map.type)
    .u32(CREATE.key_size, map.keySize)
    .u32(CREATE.value_size, map.valueSize)
    .u32(CREATE.max_entries, map.maxEntries)
    .u32(CREATE.map_flags, map.flags)
    .u32(CREATE.inner_map_fd, map.innerMapFd ?? 0)
    .name(CREATE.map_name, map.name)
    .u32(CREATE.btf_fd, map.btf?.fd ?? 0)
    .u32(CREATE.btf_key_type_id, map.btf?.keyType ?? 0)
    .u32(CREATE.btf_value_type_id, map.btf?.valueType ?? 0)
    .call(BPF_CMD.BPF_MAP_CREATE);
}

const ELEM = BPF_ATTR.map_elem;
const ELEM_SIZE = 32;

/**
 * Memory of all calls that work on one element, one after the other: to make some for each, and to find out where it
 * lies, takes longer than the call. An element that does not fit has its own.
 */
class ElementScratch {
  static readonly room = 64 * 1024;
  readonly attr = new Uint8Array(ELEM_SIZE);
  readonly data = new Uint8Array(ElementScratch.room);
  readonly #view = new DataView(this.attr.buffer);
  readonly #address = libc().address(this.data);

  /** The value is behind the key in {@link data}, at {@link valueAt}. */
  call(command: number, fd: number, keySize: number, valueSize: number, flags: bigint): number {
    this.#view.setUint32(ELEM.map_fd, fd, true);
    this.#view.setBigUint64(ELEM.key, keySize === 0 ? 0n : this.#address, true);
    const value = valueSize === 0 ? 0n : this.#address + BigInt(this.valueAt(keySize));
    this.#view.setBigUint64(ELEM.value, value, true);
    this.#view.setBigUint64(ELEM.flags, flags, true);
    return libc().bpf(command, this.attr);
  }

  valueAt(keySize: number): number {
    return (keySize + 7) & ~7;
  }
}

let scratch: ElementScratch | undefined;

/** A call that reads key and value. */
function elementCall(
  command: number,
  fd: number,
  key: Uint8Array | null,
  value: Uint8Array | null,
  flags: bigint,
): number {
  const [keySize, valueSize] = [key?.length ?? 0, value?.length ?? 0];
  if (keySize + 8 + valueSize > ElementScratch.room) {
    return ownMemory(fd, key, value, flags).call(command);
  }
  scratch ??= new ElementScratch();
  if (key !== null) scratch.data.set(key);
  if (value !== null) scratch.data.set(value, scratch.valueAt(keySize));
  return scratch.call(command, fd, keySize, valueSize, flags);
}

/** A call that reads a key and writes `size` bytes, which it returns, or `-errno`. */
function elementQuery(
  command: number,
  fd: number,
  key: Uint8Array | null,
  size: number,
  flags: bigint,
): Uint8Array | number {
  const keySize = key?.length ?? 0;
  if (keySize + 8 + size > ElementScratch.room) {
    const value = new Uint8Array(size);
    const result = ownMemory(fd, key, value, flags).call(command);
    return result < 0 ? result : value;
  }
  scratch ??= new ElementScratch();
  if (key !== null) scratch.data.set(key);
  const result = scratch.call(command, fd, keySize, size, flags);
  const at = scratch.valueAt(keySize);
  return result < 0 ? result : scratch.data.slice(at, at + size);
}

function ownMemory(fd: number, key: Uint8Array | null, value: Uint8Array | null, flags: bigint): BpfAttr {
  return new BpfAttr()
    .u32(ELEM.map_fd, fd)
    .pointer(ELEM.key, key)
    .pointer(ELEM.value, value)
    .u64(ELEM.flags, flags);
}

/**
 * BPF_MAP_UPDATE_ELEM: 0 or `-errno`. Key and value have the sizes of the map; a value of a per-CPU map is
 * `roundUp(valueSize, 8) * possibleCpus()` bytes. Into a PROG_ARRAY or a map of maps the value is the program's or
 * the map's file descriptor, a u32. Bytes that are missing would be read beyond the buffer: callers check sizes.
 */
export function mapUpdate(fd: number, key: Uint8Array | null, value: Uint8Array, flags = 0n): number {
  return elementCall(BPF_CMD.BPF_MAP_UPDATE_ELEM, fd, key, value, flags);
}

/**
 * BPF_MAP_LOOKUP_ELEM: the value, or `-errno`. `valueSize` is as {@link mapUpdate} says; from a PROG_ARRAY or a
 * map of maps the kernel gives the id of what is there.
 */
export function mapLookup(
  fd: number,
  key: Uint8Array | null,
  valueSize: number,
  flags = 0n,
): Uint8Array | number {
  return elementQuery(BPF_CMD.BPF_MAP_LOOKUP_ELEM, fd, key, valueSize, flags);
}

/** BPF_MAP_LOOKUP_AND_DELETE_ELEM: the value that was there, or `-errno` (ENOTSUPP for a type that has no such). */
export function mapLookupAndDelete(
  fd: number,
  key: Uint8Array | null,
  valueSize: number,
  flags = 0n,
): Uint8Array | number {
  return elementQuery(BPF_CMD.BPF_MAP_LOOKUP_AND_DELETE_ELEM, fd, key, valueSize, flags);
}

/** BPF_MAP_DELETE_ELEM: 0 or `-errno`. */
export function mapDelete(fd: number, key: Uint8Array | null): number {
  return elementCall(BPF_CMD.BPF_MAP_DELETE_ELEM, fd, key, null, 0n);
}

/** BPF_MAP_GET_NEXT_KEY: the key after `key`, the first one for null; `-ENOENT` after the last. */
export function mapNextKey(fd: number, key: Uint8Array | null, keySize: number): Uint8Array | number {
  return elementQuery(BPF_CMD.BPF_MAP_GET_NEXT_KEY, fd, key, keySize, 0n);
}

const BATCH = BPF_ATTR.batch;

/** Which map, and how many bytes its keys and values have (as {@link mapUpdate} says). */
export interface BatchTarget {
  readonly fd: number;
  readonly keySize: number;
  readonly valueSize: number;
}

/** What a batch gave; keys and values one after the other. */
export interface BatchResult {
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  /** Elements in them. */
  readonly count: number;
  /** Where the next batch goes on, opaque; null after the last element. */
  readonly cursor: Uint8Array | null;
}

/**
 * BPF_MAP_LOOKUP_BATCH, or with `remove` BPF_MAP_LOOKUP_AND_DELETE_BATCH: up to `count` elements from `cursor` on
 * (null: the start), or `-errno`: ENOTSUPP for a type that has no batches; ENOSPC where a hash bucket has more elements
 * than `count`, of which then none is given.
 */
export function mapLookupBatch(
  { fd, keySize, valueSize }: BatchTarget,
  cursor: Uint8Array | null,
  count: number,
  remove = false,
): BatchResult | number {
  const keys = new Uint8Array(count * keySize);
  const values = new Uint8Array(count * valueSize);
  // A hash map's cursor is the number of a bucket, an LPM_TRIE's or array's a key.
  const next = new Uint8Array(Math.max(4, keySize));
  const attr = new BpfAttr()
    .pointer(BATCH.in_batch, cursor)
    .pointer(BATCH.out_batch, next)
    .pointer(BATCH.keys, keys)
    .pointer(BATCH.values, values)
    .u32(BATCH.count, count)
    .u32(BATCH.map_fd, fd);
  const result = attr.call(remove ? BPF_CMD.BPF_MAP_LOOKUP_AND_DELETE_BATCH : BPF_CMD.BPF_MAP_LOOKUP_BATCH);
  // ENOENT: the map ended before `count` elements.
  if (result < 0 && result !== -ENOENT) return result;
  const found = attr.read32(BATCH.count);
  return {
    keys: keys.subarray(0, found * keySize),
    values: values.subarray(0, found * valueSize),
    count: found,
    cursor: result < 0 ? null : next,
  };
}

/** How far a batch came. */
export interface BatchProgress {
  /** 0 or `-errno` of the element that stopped it. */
  readonly status: number;
  /** Elements that were done before. */
  readonly done: number;
}

/**
 * BPF_MAP_UPDATE_BATCH of `count` elements, keys and values one after the other. Of the update flags the kernel takes
 * BPF_F_LOCK only.
 */
export function mapUpdateBatch(
  fd: number,
  keys: Uint8Array,
  values: Uint8Array,
  count: number,
  elementFlags = 0n,
): BatchProgress {
  return changeBatch(BPF_CMD.BPF_MAP_UPDATE_BATCH, fd, keys, values, count, elementFlags);
}

/** BPF_MAP_DELETE_BATCH of `count` keys one after the other. */
export function mapDeleteBatch(fd: number, keys: Uint8Array, count: number): BatchProgress {
  return changeBatch(BPF_CMD.BPF_MAP_DELETE_BATCH, fd, keys, null, count, 0n);
}

function changeBatch(
  command: number,
  fd: number,
  keys: Uint8Array,
  values: Uint8Array | null,
  count: number,
  elementFlags: bigint,
): BatchProgress {
  const attr = new BpfAttr()
    .pointer(BATCH.keys, keys)
    .pointer(BATCH.values, values)
    .u32(BATCH.count, count)
    .u32(BATCH.map_fd, fd)
    .u64(BATCH.elem_flags, elementFlags);
  const status = attr.call(command);
  if (status >= 0) return { status: 0, done: count };
  // Where the kernel refuses the call as a whole, it leaves the count as it was.
  const done = attr.read32(BATCH.count);
  return { status, done: done < count ? done : 0 };
}

/** BPF_MAP_FREEZE: no more updates through the system call. 0 or `-errno`. */
export function mapFreeze(fd: number): number {
  return new BpfAttr().u32(ELEM.map_fd, fd).call(BPF_CMD.BPF_MAP_FREEZE);
}

/** What BPF_OBJ_GET_INFO_BY_FD tells of a map. */
export interface MapInfo {
  readonly id: number;
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
}

/** `struct bpf_map_info`, or `-errno`. */
export function mapInfo(fd: number): MapInfo | number {
  const info = infoByFd(fd, 40);
  if (typeof info === 'number') return info;
  return {
    type: info.getUint32(BPF_MAP_INFO.type, true),
    id: info.getUint32(BPF_MAP_INFO.id, true),
    keySize: info.getUint32(BPF_MAP_INFO.key_size, true),
    valueSize: info.getUint32(BPF_MAP_INFO.value_size, true),
    maxEntries: info.getUint32(BPF_MAP_INFO.max_entries, true),
    flags: info.getUint32(BPF_MAP_INFO.map_flags, true),
    name: cString(new Uint8Array(info.buffer, BPF_MAP_INFO.name, BPF_OBJ_NAME_LEN)),
  };
}

/** CPUs that per-CPU maps have values for: the kernel's possible ones, whether they are there or not. */
export function possibleCpus(): number {
  cpus ??= readPossibleCpus();
  return cpus;
}

let cpus: number | undefined;

/** `0-3`, `0`, `0,2-5`. */
function readPossibleCpus(): number {
  const text = readFileSync('/sys/devices/system/cpu/possible', 'latin1');
  return text
    .trim()
    .split(',')
    .map((range) => range.split('-').map(Number))
    .reduce((count, [first = 0, last = first]) => count + last - first + 1, 0);
}
