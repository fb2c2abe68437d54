import { E2BIG, EEXIST, EINVAL, ENOENT, ENOSPC, ENOTSUPP, EOPNOTSUPP, EPERM } from '../../src/bpf/errno.js';
import {
  BPF_EXIST,
  BPF_F_NO_COMMON_LRU,
  BPF_F_NO_PREALLOC,
  BPF_F_NUMA_NODE,
  BPF_F_ZERO_SEED,
  BPF_F_RDONLY_PROG,
  BPF_MAP_TYPE,
  BPF_NOEXIST,
  type MapAttributes,
} from '../../src/bpf/map-spec.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import type { BpfMap, CopiedElements, MapBatch } from '../../src/bpf/runtime/bpf-map.js';
import { chainCharge, CHAIN_WITHIN_CALL } from '../../src/bpf/runtime/insn-budget.js';
import {
  HASH_ELEMENT_KEY,
  hashKey,
  hashKeyWords,
  hashMultipliers,
  type HashMultipliers,
  type MapLayout,
} from '../../src/bpf/runtime/map-layout.js';
import { copyBytes } from './copy-bytes.js';
import {
  ACCESS_FLAGS,
  KMALLOC_MAX_SIZE,
  PCPU_MIN_UNIT_SIZE,
  accessFlagsOk,
  onlyFlags,
} from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, cpuWordOf, currentLane, indexKey, indexOf, type MapPlacement } from './memory-map.js';

/** `sizeof(struct htab_elem)` of the kernel, which counts against the largest element. */
const KERNEL_ELEMENT_SIZE = 48;
const MAX_BUCKETS = 2 ** 31;

/** Words of the header that belong to a hash map. */
const OWN = {
  /** Address of the first deleted element, 0 for none; the elements' `next` chains them. */
  free: HEADER_WORD.own,
  /** How many elements were ever used: those from here on are free too. */
  fresh: HEADER_WORD.own + 1,
  /** LRU: index of the element that the clock's hand points at. */
  hand: HEADER_WORD.own + 2,
} as const;

/** Elements in a row that a full LRU map spares because they were looked up: of more, the next goes all the same. */
const MOST_SPARED = 128;

/** Buckets that are looked at one by one, and those that are then seen to be empty in one go. */
const BUCKETS_NEAR = 16;
const BUCKETS_AT_ONCE = 1024;
const NO_BUCKETS = new Uint8Array(4 * BUCKETS_AT_ONCE);

/** Word offsets in an element, next to HASH_ELEMENT_KEY. */
const NEXT = 0;
const HASH = 1;

export function isPerCpuHash(type: number): boolean {
  return type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH || type === BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

export function isLruHash(type: number): boolean {
  return type === BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH || type === BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH;
}

/** How elements lie for who looks them up by himself. */
export type HashLayout = Extract<MapLayout, { kind: 'hash' }>;

/** Where the parts of an element lie; see MapLayout for the picture. */
interface ElementShape {
  readonly valueOffset: number;
  /** 0 when all CPUs share the value. */
  readonly cpuStride: number;
  readonly lanes: number;
  /** -1 for a map that is not LRU. */
  readonly usedOffset: number;
  readonly stride: number;
}

function elementShape(attributes: MapAttributes, cpus: number): ElementShape {
  const perCpu = isPerCpuHash(attributes.type);
  const valueOffset = roundUp(HASH_ELEMENT_KEY + attributes.keySize, 8);
  const laneSize = roundUp(attributes.valueSize, 8);
  const lanes = perCpu ? cpus : 1;
  const end = valueOffset + laneSize * lanes;
  const lru = isLruHash(attributes.type);
  return {
    valueOffset,
    cpuStride: perCpu ? laneSize : 0,
    lanes,
    usedOffset: lru ? end : -1,
    stride: lru ? end + 8 : end,
  };
}

function bucketCountFor(maxEntries: number): number {
  return maxEntries <= 1 ? 1 : 2 ** (32 - Math.clz32(maxEntries - 1));
}

/** HASH, PERCPU_HASH, LRU_HASH, LRU_PERCPU_HASH: the buckets, then `maxEntries` elements. */
export const HASH_KIND: MapKind = {
  check(attributes) {
    const { type, keySize, valueSize, maxEntries, flags } = attributes;
    const lru = isLruHash(type);
    const allowed =
      ACCESS_FLAGS | BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | BPF_F_ZERO_SEED;
    if (!onlyFlags(flags, allowed) || !accessFlagsOk(flags)) return -EINVAL;
    if (!lru && (flags & BPF_F_NO_COMMON_LRU) !== 0) return -EINVAL;
    if (lru && (flags & BPF_F_NO_PREALLOC) !== 0) return -ENOTSUPP;
    // A NUMA node makes no sense for elements of which every CPU, or every CPU's LRU list, has its own.
    const spread = isPerCpuHash(type) || (flags & BPF_F_NO_COMMON_LRU) !== 0;
    if (spread && (flags & BPF_F_NUMA_NODE) !== 0) return -EINVAL;
    if (maxEntries === 0 || keySize === 0 || valueSize === 0) return -EINVAL;
    if (keySize + valueSize >= KMALLOC_MAX_SIZE - KERNEL_ELEMENT_SIZE) return -E2BIG;
    if (isPerCpuHash(type) && roundUp(valueSize, 8) > PCPU_MIN_UNIT_SIZE) return -E2BIG;
    return maxEntries > MAX_BUCKETS ? -E2BIG : 0;
  },
  regions(attributes, { label, cpus }) {
    const shape = elementShape(attributes, cpus);
    const count = attributes.maxEntries;
    const perCpu = shape.cpuStride > 0;
    return [
      {
        size: 4 * bucketCountFor(count),
        description: { kind: 'map', label: `the buckets of ${label}`, access: 'none' },
      },
      {
        size: shape.stride * count,
        description: {
          kind: 'map-element',
          label: `the value of ${label}`,
          access: (attributes.flags & BPF_F_RDONLY_PROG) === 0 ? 'read-write' : 'read',
          elements: {
            first: shape.valueOffset,
            stride: shape.stride,
            size: perCpu ? shape.cpuStride * shape.lanes : attributes.valueSize,
            count,
            lane: perCpu ? { stride: shape.cpuStride, size: attributes.valueSize } : undefined,
          },
        },
      },
    ];
  },
};

/**
 * A hash table of preallocated elements that never move. A key keeps its element from the insert that created
 * it to its deletion; an update writes in place.
 * In that the kernel differs for HASH and LRU_HASH (not for the per-CPU forms): it writes the new value to a
 * spare element and takes the old one out, so that a pointer from before the update still shows the old value
 * (seen on 6.18). Here it shows the new one.
 *
 * The LRU forms choose whom to evict with a clock (second chance): a lookup by a program sets the element's
 * reference bit, and a full map sweeps the elements in address order from where it last stopped, clearing bits,
 * until it meets one that is clear or has cleared MOST_SPARED. That needs one store per lookup, which compiled code
 * can do inline, where an exact list needs six; and the kernel's own LRU approximates with the same bit and an active
 * and an inactive list. Unlike the kernel's, this one evicts only when all `maxEntries` elements are in use.
 */
export class HashMap extends MemoryMap {
  readonly layout: MapLayout;
  protected readonly valueOffset: number;
  readonly #i32: Int32Array;
  readonly #u8: Uint8Array;
  readonly #keySize: number;
  readonly #valueSize: number;
  /** Words of a key that consists of whole words, else 0. */
  readonly #keyWords: number;
  readonly #shape: ElementShape;
  readonly #seed: number;
  readonly #multipliers: HashMultipliers;
  readonly #buckets: number;
  readonly #bucketMask: number;
  readonly #elements: number;
  /** Offset of the last element from the first: an address further on, or before the first, is none. */
  readonly #lastOffset: number;
  readonly #maxEntries: number;
  readonly #cpuWord: number;
  /** `usedOffset` as a word offset, -1 for a map that is not LRU. */
  readonly #usedWord: number;

  constructor(placement: MapPlacement) {
    const { attributes, runtime, regions } = placement;
    const shape = elementShape(attributes, runtime.cpus);
    super(placement, shape.cpuStride > 0 ? shape.cpuStride * shape.lanes : attributes.valueSize);
    const bucketCount = bucketCountFor(attributes.maxEntries);
    this.#shape = shape;
    this.valueOffset = shape.valueOffset;
    this.#i32 = this.space.i32;
    this.#u8 = this.space.u8;
    this.#keySize = attributes.keySize;
    this.#valueSize = attributes.valueSize;
    this.#keyWords = (attributes.keySize & 3) === 0 ? attributes.keySize >>> 2 : 0;
    this.#seed = (attributes.flags & BPF_F_ZERO_SEED) === 0 ? runtime.mapSeed() : 0;
    this.#multipliers = hashMultipliers(this.#seed);
    this.#buckets = regions[1]!.start;
    this.#bucketMask = bucketCount - 1;
    this.#elements = regions[2]!.start;
    this.#maxEntries = attributes.maxEntries;
    this.#lastOffset = shape.stride * (attributes.maxEntries - 1);
    this.#cpuWord = cpuWordOf(runtime);
    this.#usedWord = shape.usedOffset < 0 ? -1 : shape.usedOffset >>> 2;
    this.layout = this.describeLayout({
      kind: 'hash',
      buckets: this.#buckets,
      bucketCount,
      elements: this.#elements,
      stride: shape.stride,
      maxEntries: attributes.maxEntries,
      keySize: attributes.keySize,
      seed: this.#seed,
      valueOffset: shape.valueOffset,
      cpuStride: shape.cpuStride,
      usedOffset: shape.usedOffset,
      plainValues: this.hasPlainValues,
    });
  }

  lookupElem(keyAddress: number): number {
    const element = this.#find(keyAddress, this.#hash(keyAddress));
    if (element === 0) return 0;
    if (this.#usedWord >= 0) this.#i32[(element >>> 2) + this.#usedWord] = 1;
    return this.#valueOf(element);
  }

  updateElem(keyAddress: number, valueAddress: number, flags: number): number {
    const plain = this.plainFlags(flags);
    if (plain < 0) return -EINVAL;
    const hash = this.#hash(keyAddress);
    let element = this.#find(keyAddress, hash);
    if (element !== 0) {
      if (plain === BPF_NOEXIST) return -EEXIST;
      if (this.#usedWord >= 0) this.#i32[(element >>> 2) + this.#usedWord] = 1;
      const value = this.#valueOf(element);
      copyBytes(this.space, valueAddress, value, this.#valueSize);
      this.clearSpecial(value);
      return 0;
    }
    if (plain === BPF_EXIST) return -ENOENT;
    element = this.#take(true);
    if (element === 0) return -E2BIG;
    copyBytes(this.space, keyAddress, element + HASH_ELEMENT_KEY, this.#keySize);
    if (this.#shape.cpuStride === 0) {
      const value = element + this.#shape.valueOffset;
      copyBytes(this.space, valueAddress, value, this.#valueSize);
      this.clearSpecial(value);
    } else {
      this.#initialisePerCpuValue(element, valueAddress);
    }
    this.#link(element, hash);
    return 0;
  }

  deleteElem(keyAddress: number): number {
    const element = this.#find(keyAddress, this.#hash(keyAddress));
    if (element === 0) return -ENOENT;
    this.#remove(element);
    return 0;
  }

  lookupPercpuElem(keyAddress: number, cpu: number): number {
    if (this.#shape.cpuStride === 0 || cpu >= this.#shape.lanes) return 0;
    const value = this.lookupElem(keyAddress);
    return value === 0 ? 0 : value + (cpu - this.#lane()) * this.#shape.cpuStride;
  }

  /** What executors are told; a subclass whose lookups mean something else hides it. */
  protected describeLayout(layout: HashLayout): MapLayout {
    return layout;
  }

  copyElements(from: BpfMap): CopiedElements | number {
    const alike =
      from instanceof HashMap && from.#keySize === this.#keySize && from.#valueSize === this.#valueSize;
    if (!alike || from.syscallValueSize !== this.syscallValueSize) return -EOPNOTSUPP;
    if (!from.mayRead || !this.mayRead) return -EPERM;
    for (const others of this.#chains()) {
      for (const other of others) {
        if (from.#findBytes(this.#u8, other + HASH_ELEMENT_KEY) !== 0) continue;
        if (!this.mayWrite) return -EPERM;
        this.#remove(other);
      }
    }
    let elements = 0;
    for (const sources of from.#chains()) {
      for (const source of sources) {
        const status = this.#copyElement(from, source);
        if (status < 0) return status;
        elements += status;
      }
    }
    return { elements, bytes: elements * (this.#keySize + this.syscallValueSize) };
  }

  /** Whether it had to be written, or -errno. */
  #copyElement(from: HashMap, source: number): number {
    const size = this.syscallValueSize;
    const sourceValue = source + this.#shape.valueOffset;
    const hash = hashKey(from.#u8, source + HASH_ELEMENT_KEY, this.#keySize, this.#seed, this.#multipliers);
    let element = this.#findBytes(from.#u8, source + HASH_ELEMENT_KEY, hash);
    const found = element !== 0;
    if (found && this.sameBytes(element + this.#shape.valueOffset, from, sourceValue, size)) return 0;
    if (!this.mayWrite) return -EPERM;
    if (found && this.#usedWord >= 0) this.#i32[(element >>> 2) + this.#usedWord] = 1;
    if (!found) {
      element = this.#take(false);
      if (element === 0) return -E2BIG;
      const key = source + HASH_ELEMENT_KEY;
      this.#u8.set(from.#u8.subarray(key, key + this.#keySize), element + HASH_ELEMENT_KEY);
    }
    this.#writeValue(element, from.#u8.subarray(sourceValue, sourceValue + size));
    if (!found) this.#link(element, hash);
    return 1;
  }

  /** The elements of each bucket that has some, as it is when its turn comes; no more in all than the map may have. */
  *#chains(): Generator<number[]> {
    let left = this.#maxEntries;
    for (let bucket = 0; left > 0 && (bucket = this.#nextUsed(bucket)) <= this.#bucketMask; bucket++) {
      const chain = this.#chain(bucket, left);
      left -= chain.length;
      yield chain;
    }
  }

  protected readEntry(key: Uint8Array): Uint8Array | number {
    // bpf(2) does not set the reference bit: dumping a map must not change what it evicts.
    const element = this.#findKey(key);
    return element === 0 ? -ENOENT : this.#readValue(element);
  }

  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const hash = this.#hashOf(key);
    let element = this.#findKey(key, hash);
    if (element !== 0) {
      if (flags === BPF_NOEXIST) return -EEXIST;
      if (this.#usedWord >= 0) this.#i32[(element >>> 2) + this.#usedWord] = 1;
      this.#writeValue(element, value);
      return 0;
    }
    if (flags === BPF_EXIST) return -ENOENT;
    element = this.#take(false);
    if (element === 0) return -E2BIG;
    this.#u8.set(key, element + HASH_ELEMENT_KEY);
    this.#writeValue(element, value);
    this.#link(element, hash);
    return 0;
  }

  protected removeEntry(key: Uint8Array): number {
    const element = this.#findKey(key);
    if (element === 0) return -ENOENT;
    this.#remove(element);
    return 0;
  }

  protected override takeEntry(key: Uint8Array): Uint8Array | number {
    const element = this.#findKey(key);
    if (element === 0) return -ENOENT;
    const value = this.#readValue(element);
    this.#remove(element);
    return value;
  }

  protected keyAfter(key: Uint8Array | null): Uint8Array | number {
    let bucket = 0;
    const element = key === null ? 0 : this.#findKey(key);
    if (element !== 0) {
      bucket = this.#i32[(element >>> 2) + HASH]! & this.#bucketMask;
      const next = this.#after(element);
      if (next !== 0 && !this.#isBefore(bucket, next, element) && this.#isFoundIn(bucket, next)) {
        return this.#readKey(next);
      }
      bucket++;
    }
    for (; (bucket = this.#nextUsed(bucket)) <= this.#bucketMask; bucket++) {
      const first = this.#head(bucket);
      if (first !== 0 && this.#isFoundIn(bucket, first)) return this.#readKey(first);
    }
    return -ENOENT;
  }

  /**
   * The cursor is the u32 number of the next bucket, as in the kernel: a bucket is returned whole or not at
   * all, so that a batch neither misses nor repeats an element that stays. -ENOSPC when `count` is less than
   * the first bucket holds.
   */
  protected override readBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    if (cursor !== null && cursor.length !== 4) return -EINVAL;
    let bucket = cursor === null ? 0 : indexOf(cursor);
    if (bucket > this.#bucketMask) return -ENOENT;
    const entries: { key: Uint8Array; value: Uint8Array }[] = [];
    for (; (bucket = this.#nextUsed(bucket)) <= this.#bucketMask; bucket++) {
      const chain = this.#chain(bucket, this.#maxEntries - entries.length);
      if (entries.length + chain.length > count) {
        return entries.length === 0 && count > 0 ? -ENOSPC : { entries, next: indexKey(bucket) };
      }
      for (const at of chain) entries.push({ key: this.#readKey(at), value: this.#readValue(at) });
    }
    return { entries, next: null };
  }

  /** Address of the value under a key, or 0, without touching the reference bit. */
  protected valueAddressOf(key: Uint8Array, byProgram = false): number {
    const element = this.#findKey(key, this.#hashOf(key), byProgram);
    return element === 0 ? 0 : element + this.#shape.valueOffset;
  }

  #hash(keyAddress: number): number {
    return this.#keyWords !== 0 && (keyAddress & 3) === 0
      ? hashKeyWords(this.#i32, keyAddress >>> 2, this.#keyWords, this.#seed, this.#multipliers)
      : hashKey(this.#u8, keyAddress, this.#keySize, this.#seed, this.#multipliers);
  }

  #hashOf(key: Uint8Array): number {
    return hashKey(key, 0, this.#keySize, this.#seed, this.#multipliers);
  }

  /** The element of the key at an address, or 0, for a program: a long walk is charged for. */
  #find(keyAddress: number, hash: number): number {
    const i32 = this.#i32;
    const first = this.#elements;
    const lastOffset = this.#lastOffset;
    let element = i32[(this.#buckets >>> 2) + (hash & this.#bucketMask)]!;
    const aligned = this.#keyWords !== 0 && (keyAddress & 3) === 0;
    let left = this.#maxEntries;
    let compared = 0;
    let found = 0;
    while ((element - first) >>> 0 <= lastOffset) {
      const word = element >>> 2;
      left--;
      if (i32[word + HASH] === hash) {
        compared++;
        const equal = aligned
          ? wordsEqual(i32, word + (HASH_ELEMENT_KEY >>> 2), keyAddress >>> 2, this.#keyWords)
          : bytesEqual(this.#u8, (element >>> 0) + HASH_ELEMENT_KEY, this.#u8, keyAddress, this.#keySize);
        if (equal) {
          found = element >>> 0;
          break;
        }
      }
      if (left === 0) break;
      element = i32[word + NEXT]!;
    }
    const passed = this.#maxEntries - left;
    if (passed > CHAIN_WITHIN_CALL || compared > 1) this.#owe(passed, compared);
    return found;
  }

  /** For a walk along a chain that a program had us make. */
  #owe(passed: number, compared: number): void {
    this.runtime.owedInsns += chainCharge(passed, compared, this.#keySize);
  }

  /** As `#find`, of a key outside the space and unless `byProgram` says so, without a charge. */
  #findKey(key: Uint8Array, hash = this.#hashOf(key), byProgram = false): number {
    return this.#findBytes(key, 0, hash, byProgram);
  }

  /** As `#findKey`, of a key that begins at an index. */
  #findBytes(
    bytes: Uint8Array,
    keyAt: number,
    hash = hashKey(bytes, keyAt, this.#keySize, this.#seed, this.#multipliers),
    byProgram = false,
  ): number {
    const i32 = this.#i32;
    let passed = 0;
    let found = 0;
    let at = this.#head(hash & this.#bucketMask);
    for (; at !== 0 && passed < this.#maxEntries; at = this.#after(at)) {
      passed++;
      if (
        i32[(at >>> 2) + HASH] === hash &&
        bytesEqual(this.#u8, at + HASH_ELEMENT_KEY, bytes, keyAt, this.#keySize)
      ) {
        found = at;
        break;
      }
    }
    if (byProgram && passed > CHAIN_WITHIN_CALL) this.#owe(passed, 0);
    return found;
  }

  /**
   * An element that is in no chain, or 0 when the map is full (never for an LRU map). A program is charged for taking
   * it out of a long one.
   */
  #take(byProgram: boolean): number {
    const i32 = this.#i32;
    const free = i32[this.header + OWN.free]! >>> 0;
    const offset = free - this.#elements;
    if (offset >= 0 && offset <= this.#lastOffset && offset % this.#shape.stride === 0) {
      i32[this.header + OWN.free] = i32[(free >>> 2) + NEXT]!;
      return free;
    }
    const fresh = i32[this.header + OWN.fresh]! >>> 0;
    if (fresh < this.#maxEntries) {
      i32[this.header + OWN.fresh] = fresh + 1;
      return this.#elements + fresh * this.#shape.stride;
    }
    return this.#usedWord < 0 ? 0 : this.#evict(byProgram);
  }

  /**
   * Takes the element that the clock selects out of its chain. All elements are in use. The hand passes no more than
   * MOST_SPARED of them, so that one update does not pay for all look-ups since the last.
   */
  #evict(byProgram: boolean): number {
    const i32 = this.#i32;
    let hand = i32[this.header + OWN.hand]! >>> 0;
    if (hand >= this.#maxEntries) hand = 0;
    for (let spared = 0; ; spared++) {
      const element = this.#elements + hand * this.#shape.stride;
      hand = hand + 1 === this.#maxEntries ? 0 : hand + 1;
      const used = (element >>> 2) + this.#usedWord;
      if (i32[used] === 0 || spared === MOST_SPARED) {
        i32[this.header + OWN.hand] = hand;
        const passed = this.#unlink(element);
        if (byProgram && passed > CHAIN_WITHIN_CALL) this.#owe(passed, 0);
        return element;
      }
      i32[used] = 0;
    }
  }

  /** Puts an element whose key is written at the head of its chain. */
  #link(element: number, hash: number): void {
    const i32 = this.#i32;
    const word = element >>> 2;
    const bucket = (this.#buckets >>> 2) + (hash & this.#bucketMask);
    i32[word + HASH] = hash;
    i32[word + NEXT] = i32[bucket]!;
    if (this.#usedWord >= 0) i32[word + this.#usedWord] = 0;
    i32[bucket] = element;
    i32[this.header + HEADER_WORD.count]!++;
  }

  /** Returns how many elements it passed. */
  #unlink(element: number): number {
    const i32 = this.#i32;
    const word = element >>> 2;
    // A word that holds an address: first the bucket, then the `next` of each element before ours.
    let link = (this.#buckets >>> 2) + (i32[word + HASH]! & this.#bucketMask);
    let passed = 0;
    for (; i32[link]! >>> 0 !== element; passed++) {
      const before = this.#elementIn(link);
      if (before === 0 || passed === this.#maxEntries) return passed;
      link = (before >>> 2) + NEXT;
    }
    i32[link] = i32[word + NEXT]!;
    i32[this.header + HEADER_WORD.count]!--;
    return passed;
  }

  /** The value's bytes stay as they are until an insert reuses the element, as a program may still hold them. */
  #remove(element: number): void {
    this.#unlink(element);
    // Its hash leads to no bucket of its own any more: so a walk that holds it sees that it was deleted.
    this.#i32[(element >>> 2) + HASH] = ~this.#i32[(element >>> 2) + HASH]!;
    this.#i32[(element >>> 2) + NEXT] = this.#i32[this.header + OWN.free]!;
    this.#i32[this.header + OWN.free] = element;
  }

  /** A program's insert gives its own CPU the value and all others zero, as the kernel does. */
  #initialisePerCpuValue(element: number, valueAddress: number): void {
    const { valueOffset, cpuStride, lanes } = this.#shape;
    const cpu = this.#lane();
    // Own value first: its source may lie in the element, if that was just evicted.
    const own = element + valueOffset + cpu * cpuStride;
    copyBytes(this.space, valueAddress, own, this.#valueSize);
    this.clearSpecial(own);
    for (let lane = 0; lane < lanes; lane++) {
      const at = element + valueOffset + lane * cpuStride;
      this.#u8.fill(0, lane === cpu ? at + this.#valueSize : at, at + cpuStride);
    }
  }

  #valueOf(element: number): number {
    const value = element + this.#shape.valueOffset;
    return this.#shape.cpuStride === 0 ? value : value + this.#lane() * this.#shape.cpuStride;
  }

  #lane(): number {
    return currentLane(this.#i32, this.#cpuWord, this.#shape.lanes);
  }

  #writeValue(element: number, value: Uint8Array): void {
    const at = element + this.#shape.valueOffset;
    this.#u8.set(value, at);
    for (let lane = 0; lane < this.#shape.lanes; lane++) this.clearSpecial(at + lane * this.#shape.cpuStride);
  }

  #readKey(element: number): Uint8Array {
    return this.space.read(element + HASH_ELEMENT_KEY, this.#keySize);
  }

  #readValue(element: number): Uint8Array {
    const bytes = this.space.read(element + this.#shape.valueOffset, this.syscallValueSize);
    return this.withoutSpecial(bytes, this.#shape.cpuStride || bytes.length);
  }

  /** The element that a word of `space.i32` leads to, or 0. */
  #elementIn(word: number): number {
    const address = this.#i32[word]! >>> 0;
    return (address - this.#elements) >>> 0 > this.#lastOffset ? 0 : address;
  }

  /**
   * The first bucket from this one on that is not empty, or how many there are. Empty ones are passed by comparing many at once
   * with none: a map of millions of buckets takes 1 to 2 ms.
   */
  #nextUsed(bucket: number): number {
    const i32 = this.#i32;
    const buckets = this.#buckets >>> 2;
    const end = this.#bucketMask + 1;
    let at = bucket;
    // The next is nearly always near.
    for (const near = Math.min(at + BUCKETS_NEAR, end); at < near; at++)
      if (i32[buckets + at] !== 0) return at;
    while (at < end) {
      const stop = Math.min(at + BUCKETS_AT_ONCE, end);
      const from = this.#buckets + 4 * at;
      if (this.space.bytes.compare(NO_BUCKETS, 0, 4 * (stop - at), from, this.#buckets + 4 * stop) === 0) {
        at = stop;
        continue;
      }
      while (i32[buckets + at] === 0) at++;
      return at;
    }
    return end;
  }

  #head(bucket: number): number {
    return this.#elementIn((this.#buckets >>> 2) + bucket);
  }

  #after(element: number): number {
    return this.#elementIn((element >>> 2) + NEXT);
  }

  /** Whether a look-up of an element's key finds it, in this bucket. */
  #isFoundIn(bucket: number, element: number): boolean {
    const key = element + HASH_ELEMENT_KEY;
    const hash = this.#hash(key);
    return (
      (hash & this.#bucketMask) === bucket &&
      this.#findKey(this.#u8.subarray(key, key + this.#keySize), hash) === element
    );
  }

  /** Whether the bucket's chain comes to one element before it comes to another that is in it. */
  #isBefore(bucket: number, element: number, other: number): boolean {
    let at = this.#head(bucket);
    while (at !== element && at !== other) at = this.#after(at);
    return at === element;
  }

  /** The elements of a bucket, `limit` at most. */
  #chain(bucket: number, limit: number): number[] {
    const chain: number[] = [];
    for (let at = this.#head(bucket); at !== 0 && chain.length < limit; at = this.#after(at)) chain.push(at);
    return chain;
  }
}

function wordsEqual(i32: Int32Array, a: number, b: number, words: number): boolean {
  for (let i = 0; i < words; i++) if (i32[a + i] !== i32[b + i]) return false;
  return true;
}

function bytesEqual(u8: Uint8Array, at: number, other: Uint8Array, otherAt: number, size: number): boolean {
  for (let i = 0; i < size; i++) if (u8[at + i] !== other[otherAt + i]) return false;
  return true;
}
