import { E2BIG, EINVAL, ENOENT } from '../../src/bpf/errno.js';
import { BPF_EXIST, BPF_F_NUMA_NODE, BPF_MAP_TYPE, BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { copyBytes } from './copy-bytes.js';
import { ACCESS_FLAGS, KMALLOC_MAX_SIZE, accessFlagsOk, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MAX_UPDATE_FLAG, MemoryMap, type MapPlacement } from './memory-map.js';

/** Header word: index of the oldest element. */
const OLDEST = HEADER_WORD.own;

/** QUEUE and STACK: a ring of `maxEntries` values, each rounded up to 8 bytes. Programs get copies only. */
export const QUEUE_STACK_KIND: MapKind = {
  check({ keySize, valueSize, maxEntries, flags }) {
    if (maxEntries === 0 || keySize !== 0 || valueSize === 0) return -EINVAL;
    if (!onlyFlags(flags, ACCESS_FLAGS | BPF_F_NUMA_NODE) || !accessFlagsOk(flags)) return -EINVAL;
    return valueSize > KMALLOC_MAX_SIZE ? -E2BIG : 0;
  },
  regions({ valueSize, maxEntries }, { label }) {
    const description = { kind: 'map', label: `the elements of ${label}`, access: 'none' } as const;
    return [{ size: roundUp(valueSize, 8) * maxEntries, description }];
  },
};

/** QUEUE (first in, first out) and STACK (last in, first out). A full one drops its oldest on BPF_EXIST. */
export class QueueStack extends MemoryMap {
  readonly layout: MapLayout = { kind: 'opaque' };
  readonly #isStack: boolean;
  readonly #elements: number;
  readonly #stride: number;

  constructor(placement: MapPlacement) {
    super(placement, placement.attributes.valueSize);
    this.#isStack = this.attributes.type === BPF_MAP_TYPE.BPF_MAP_TYPE_STACK;
    this.#elements = placement.regions[1]!.start;
    this.#stride = roundUp(this.attributes.valueSize, 8);
  }

  pushElem(valueAddress: number, flags: number): number {
    const to = this.#push(flags);
    if (to < 0) return to;
    copyBytes(this.space, valueAddress, to, this.attributes.valueSize);
    return 0;
  }

  popElem(valueAddress: number): number {
    const result = this.peekElem(valueAddress);
    if (result === 0) this.#drop();
    return result;
  }

  peekElem(valueAddress: number): number {
    const from = this.#front();
    if (from !== 0) {
      copyBytes(this.space, from, valueAddress, this.attributes.valueSize);
      return 0;
    }
    // As in the kernel, so that a program that ignores the result does not read its own uninitialised stack.
    this.space.u8.fill(0, valueAddress, valueAddress + this.attributes.valueSize);
    return -ENOENT;
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -EINVAL;
  }

  deleteElem(): number {
    return -EINVAL;
  }

  protected readEntry(): Uint8Array | number {
    const from = this.#front();
    return from === 0 ? -ENOENT : this.space.read(from, this.attributes.valueSize);
  }

  protected writeEntry(_key: Uint8Array, value: Uint8Array, flags: number): number {
    const to = this.#push(flags);
    if (to < 0) return to;
    this.space.write(to, value);
    return 0;
  }

  protected removeEntry(): number {
    return -EINVAL;
  }

  protected keyAfter(): number {
    return -EINVAL;
  }

  protected override takeEntry(): Uint8Array | number {
    const value = this.readEntry();
    if (typeof value !== 'number') this.#drop();
    return value;
  }

  /** Makes room for a value: its address, or -errno. */
  #push(flags: number): number {
    if (flags < 0 || flags > MAX_UPDATE_FLAG || flags === BPF_NOEXIST) return -EINVAL;
    const { i32 } = this.space;
    const { maxEntries } = this.attributes;
    const count = this.#count;
    if (count === maxEntries) {
      if (flags !== BPF_EXIST) return -E2BIG;
      i32[this.header + OLDEST] = ((i32[this.header + OLDEST]! >>> 0) + 1) % maxEntries;
    } else {
      i32[this.header + HEADER_WORD.count] = count + 1;
    }
    return this.#elementAt(Math.min(count, maxEntries - 1));
  }

  /** Address of the element that pop would return, 0 when empty. */
  #front(): number {
    const count = this.#count;
    return count === 0 ? 0 : this.#elementAt(this.#isStack ? count - 1 : 0);
  }

  #drop(): void {
    const { i32 } = this.space;
    i32[this.header + HEADER_WORD.count] = this.#count - 1;
    if (!this.#isStack) {
      i32[this.header + OLDEST] = ((i32[this.header + OLDEST]! >>> 0) + 1) % this.attributes.maxEntries;
    }
  }

  get #count(): number {
    return Math.min(this.entryCount, this.attributes.maxEntries);
  }

  /** Address of the n-th oldest element. */
  #elementAt(n: number): number {
    const oldest = this.space.i32[this.header + OLDEST]! >>> 0;
    return this.#elements + ((oldest + n) % this.attributes.maxEntries) * this.#stride;
  }
}
