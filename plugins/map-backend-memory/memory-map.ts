import { EINVAL, ENOENT, ENOTSUPP, EPERM } from '../../src/bpf/errno.js';
import { BPF_F_LOCK, BPF_F_RDONLY, BPF_F_WRONLY, type MapAttributes } from '../../src/bpf/map-spec.js';
import { specialFields, type SpecialField } from '../../src/bpf/special-fields.js';
import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import type { MapBatch, ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { HEADER_WORD } from './map-plan.js';

/** What the backend hands to a map's constructor: attributes that were checked and memory for them. */
export interface MapPlacement {
  readonly runtime: BpfRuntime;
  readonly name: string;
  readonly attributes: MapAttributes;
  /** The header first, then the regions of the kind's plan, in order. All zeroed. */
  readonly regions: readonly Region[];
}

/** The largest update flag without BPF_F_LOCK, which needs a `struct bpf_spin_lock` in the value. */
export const MAX_UPDATE_FLAG = 2;

/**
 * What all maps of this backend share: the header, the permissions of the system call side, freezing, and the
 * life of the memory. A subclass implements the element operations without looking at permissions.
 *
 * Everything that may change while programs run lies in the address space. What only the system call side changes
 * (the frozen flag, references, which inner maps are held) is kept in these objects.
 *
 * The memory may have been overwritten by a program that a verifier wrongly let pass, so nothing read from it is
 * trusted before it is checked against the map's geometry, which is kept here. All maps go by these rules:
 * - A link that does not lead to an element of the map ends its chain, free list or tree; an index, position or
 *   CPU number that is out of range is taken for 0, a count for as many as fit.
 * - A walk takes at most as many steps as the map has entries (a trie: bits in a key).
 * - `nextKey` hands out only keys that a look-up finds, in a fixed order, so that a walk over keys ends.
 * - What a record's header says is believed if the record ends within what was written; else all that was
 *   written is dropped.
 * So a spoilt map loses elements or shows the wrong ones of its own: an operation finds nothing or has no room,
 * with the errno that says so, and touches no memory but the map's.
 */
export abstract class MemoryMap implements ResidentMap {
  readonly name: string;
  readonly attributes: MapAttributes;
  readonly space: AddressSpace;
  readonly address: number;
  abstract readonly layout: MapLayout;
  readonly syscallValueSize: number;

  protected readonly runtime: BpfRuntime;
  protected readonly regions: readonly Region[];
  /** Index of the header's first word in `space.i32`. */
  protected readonly header: number;
  /**
   * Parts of a value that nobody copies, in or out (kernel `copy_map_value`, `check_and_init_map_value`). No lock is
   * held while elements are copied, and nothing else here ever sets such a field: what is there is all 0.
   */
  readonly #special: readonly SpecialField[];
  /** Whether BPF_F_LOCK has something to lock. Under one thread of control it then changes nothing. */
  protected readonly hasSpinLock: boolean;
  /** Whether `close` was called: a fact about the handle, not about the map. */
  #closed = false;
  /** 1 for the map's own handle, + 1 for each slot of a map-in-map that holds it. */
  #references = 1;
  #frozen = false;

  constructor(placement: MapPlacement, syscallValueSize: number) {
    this.name = placement.name;
    this.attributes = placement.attributes;
    this.runtime = placement.runtime;
    this.space = placement.runtime.space;
    this.regions = placement.regions;
    this.address = placement.regions[0]!.start;
    this.header = this.address >>> 2;
    this.syscallValueSize = syscallValueSize;
    this.#special = specialFields(placement.attributes).fields;
    this.hasSpinLock = this.#special.some((field) => field.type === 'bpf_spin_lock');
    this.runtime.maps.set(this.address, this);
  }

  /** Elements in use; for arrays, whose elements always exist, 0. */
  get entryCount(): number {
    return this.space.i32[this.header + HEADER_WORD.count]! >>> 0;
  }

  lookup(key: Uint8Array, flags = 0n): Uint8Array | number {
    // BPF_F_LOCK is the only flag bpf(2) knows here.
    if (flags !== 0n && !(flags === BigInt(BPF_F_LOCK) && this.hasSpinLock)) return -EINVAL;
    if (!this.mayRead) return -EPERM;
    return key.length === this.attributes.keySize ? this.readEntry(key) : -EINVAL;
  }

  update(key: Uint8Array, value: Uint8Array, flags: bigint): number {
    if (!this.mayWrite) return -EPERM;
    if (key.length !== this.attributes.keySize || value.length !== this.syscallValueSize) return -EINVAL;
    const plain =
      flags < 0n || flags > BigInt(BPF_F_LOCK + MAX_UPDATE_FLAG) ? -1 : this.plainFlags(Number(flags));
    return plain < 0 ? -EINVAL : this.writeEntry(key, value, plain);
  }

  delete(key: Uint8Array): number {
    if (!this.mayWrite) return -EPERM;
    return key.length === this.attributes.keySize ? this.removeEntry(key) : -EINVAL;
  }

  nextKey(key: Uint8Array | null): Uint8Array | number {
    if (!this.mayRead) return -EPERM;
    return key === null || key.length === this.attributes.keySize ? this.keyAfter(key) : -EINVAL;
  }

  lookupAndDelete(key: Uint8Array): Uint8Array | number {
    if (!this.mayRead || !this.mayWrite) return -EPERM;
    return key.length === this.attributes.keySize ? this.takeEntry(key) : -EINVAL;
  }

  lookupBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    if (!this.mayRead) return -EPERM;
    return this.readBatch(cursor, count);
  }

  freeze(): number {
    if (!this.mayWrite) return -EPERM;
    this.#frozen = true;
    return 0;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.release();
  }

  /** A map-in-map holds this map: it lives until that lets go, even when its own handle is closed. */
  retain(): void {
    this.#references++;
  }

  /** Drops one reference; the last one frees the memory. */
  release(): void {
    if (--this.#references > 0) return;
    this.dropEntries();
    this.runtime.maps.delete(this.address);
    for (const region of this.regions) this.space.free(region);
  }

  abstract lookupElem(keyAddress: number): number;
  abstract updateElem(keyAddress: number, valueAddress: number, flags: number): number;
  abstract deleteElem(keyAddress: number): number;

  directValueAddress(_offset: number): number {
    return 0;
  }

  /** The element operations of bpf(2); sizes and permissions were checked, update flags are 0 … 2. */
  protected abstract readEntry(key: Uint8Array): Uint8Array | number;
  protected abstract writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number;
  protected abstract removeEntry(key: Uint8Array): number;
  protected abstract keyAfter(key: Uint8Array | null): Uint8Array | number;

  protected takeEntry(_key: Uint8Array): Uint8Array | number {
    return -ENOTSUPP;
  }

  protected readBatch(_cursor: Uint8Array | null, _count: number): MapBatch | number {
    return -ENOTSUPP;
  }

  /** Lets go of what the elements refer to; the memory itself goes with the regions. */
  protected dropEntries(): void {}

  /** Update flags without BPF_F_LOCK, 0 … 2; -1 for flags that the map does not take. */
  protected plainFlags(flags: number): number {
    const plain = flags >= BPF_F_LOCK && this.hasSpinLock ? flags - BPF_F_LOCK : flags;
    return plain >= 0 && plain <= MAX_UPDATE_FLAG ? plain : -1;
  }

  /** Whether values have no fields that `clearSpecial` clears. */
  protected get hasPlainValues(): boolean {
    return this.#special.length === 0;
  }

  /** After a value was copied to an address of the space. */
  protected clearSpecial(address: number): void {
    for (const { offset, size } of this.#special) {
      this.space.u8.fill(0, address + offset, address + offset + size);
    }
  }

  /** What the system call side sees of values that lie `stride` bytes apart in `bytes`, or of the one that is it. */
  protected withoutSpecial(bytes: Uint8Array, stride: number): Uint8Array {
    if (this.#special.length === 0) return bytes;
    for (let at = 0; at < bytes.length; at += stride) {
      for (const { offset, size } of this.#special) bytes.fill(0, at + offset, at + offset + size);
    }
    return bytes;
  }

  /** Whether bytes of this map's space are those of another's. */
  protected sameBytes(at: number, other: MemoryMap, otherAt: number, size: number): boolean {
    return other.space.bytes.compare(this.space.bytes, at, at + size, otherAt, otherAt + size) === 0;
  }

  protected get mayRead(): boolean {
    return (this.attributes.flags & BPF_F_WRONLY) === 0;
  }

  protected get mayWrite(): boolean {
    return (this.attributes.flags & BPF_F_RDONLY) === 0 && !this.#frozen;
  }

  /**
   * The batch of maps whose kernel type uses `generic_map_lookup_batch`: the cursor is the last key that was
   * returned.
   */
  protected readBatchByKey(cursor: Uint8Array | null, count: number): MapBatch | number {
    if (cursor !== null && cursor.length !== this.attributes.keySize) return -EINVAL;
    const entries: { key: Uint8Array; value: Uint8Array }[] = [];
    let last = cursor;
    while (entries.length < count) {
      const key = this.keyAfter(last);
      if (typeof key === 'number') return key === -ENOENT ? { entries, next: null } : key;
      const value = this.readEntry(key);
      if (typeof value !== 'number') entries.push({ key, value });
      last = key;
    }
    return { entries, next: last };
  }
}

/** The u32 index that is an array's key. */
export function indexOf(key: Uint8Array): number {
  return (key[0]! | (key[1]! << 8) | (key[2]! << 16) | (key[3]! << 24)) >>> 0;
}

export function indexKey(index: number): Uint8Array {
  return Uint8Array.of(index & 0xff, (index >>> 8) & 0xff, (index >>> 16) & 0xff, index >>> 24);
}

/** get_next_key of everything that is indexed by u32: each index in turn, whether or not it is set. */
export function indexAfter(key: Uint8Array | null, maxEntries: number): Uint8Array | number {
  const index = key === null ? maxEntries : indexOf(key);
  if (index >= maxEntries) return indexKey(0);
  return index === maxEntries - 1 ? -ENOENT : indexKey(index + 1);
}

/** Index in `space.i32` of the number of the CPU that runs: what per-CPU maps go by. */
export function cpuWordOf(runtime: BpfRuntime): number {
  return (runtime.state.address + RUN_STATE.cpu) >>> 2;
}

/** The number of the CPU that runs, when the map has that many values of an element, else 0. */
export function currentLane(i32: Int32Array, cpuWord: number, lanes: number): number {
  const cpu = i32[cpuWord]! >>> 0;
  return cpu < lanes ? cpu : 0;
}

/** A u32 at any address of a space, aligned or not. */
export function loadU32(space: AddressSpace, address: number): number {
  return (address & 3) === 0 ? space.i32[address >>> 2]! >>> 0 : space.view.getUint32(address, true);
}
