import { E2BIG, EBADF, EINVAL, ENOENT } from '../../src/bpf/errno.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { checkInnerTemplate } from './inner-map.js';
import { NUMA_AND_SYSCALL_ACCESS, U32_SIZE, accessFlagsOk, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, indexAfter, indexKey, indexOf, type MapPlacement } from './memory-map.js';

/** PROG_ARRAY and ARRAY_OF_MAPS: `maxEntries` words of 32 bits, 0 for an empty slot. */
export const SLOT_KIND: MapKind = {
  check(attributes) {
    const { type, keySize, valueSize, maxEntries, flags } = attributes;
    if (maxEntries === 0 || keySize !== U32_SIZE || valueSize !== U32_SIZE) return -EINVAL;
    if (!onlyFlags(flags, NUMA_AND_SYSCALL_ACCESS) || !accessFlagsOk(flags)) return -EINVAL;
    return type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS ? checkInnerTemplate(attributes.inner) : 0;
  },
  regions(attributes, { label }) {
    const description = { kind: 'map', label: `the slots of ${label}`, access: 'none' } as const;
    return [{ size: U32_SIZE * attributes.maxEntries, description }];
  },
};

/** An array of references that only the system call side changes: what a slot means is the subclass's. */
export abstract class SlotMap extends MemoryMap {
  readonly layout: MapLayout & { kind: 'slots' };
  /** Index of the first slot in `space.i32`. */
  readonly #slots: number;

  constructor(placement: MapPlacement) {
    super(placement, U32_SIZE);
    const slots = placement.regions[1]!.start;
    this.#slots = slots >>> 2;
    this.layout = { kind: 'slots', slots, maxEntries: this.attributes.maxEntries };
  }

  abstract override lookupElem(keyAddress: number): number;

  updateElem(): number {
    return -EINVAL;
  }

  deleteElem(): number {
    return -EINVAL;
  }

  protected slot(index: number): number {
    return index < this.attributes.maxEntries ? this.space.i32[this.#slots + index]! >>> 0 : 0;
  }

  /** Sets a slot whose index is in range; returns what it held. */
  protected exchange(index: number, content: number): number {
    const { i32 } = this.space;
    const previous = i32[this.#slots + index]! >>> 0;
    i32[this.#slots + index] = content;
    i32[this.header + HEADER_WORD.count]! += Number(content !== 0) - Number(previous !== 0);
    return previous;
  }

  /** Lets go of what a slot held. */
  protected drop(_index: number): void {}

  protected readEntry(key: Uint8Array): Uint8Array | number {
    const content = this.slot(indexOf(key));
    return content === 0 ? -ENOENT : indexKey(content);
  }

  /** bpf(2) passes an fd, and fds belong to whoever translates them: setProgram and setInnerMap come here. */
  protected writeEntry(key: Uint8Array, _value: Uint8Array, flags: number): number {
    if (flags !== 0) return -EINVAL;
    return indexOf(key) >= this.attributes.maxEntries ? -E2BIG : -EBADF;
  }

  protected removeEntry(key: Uint8Array): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    const previous = this.exchange(index, 0);
    if (previous === 0) return -ENOENT;
    this.drop(index);
    return 0;
  }

  protected keyAfter(key: Uint8Array | null): Uint8Array | number {
    return indexAfter(key, this.attributes.maxEntries);
  }
}
