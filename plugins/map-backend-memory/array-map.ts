import { E2BIG, EEXIST, EINVAL, ENOENT, EOPNOTSUPP, EPERM } from '../../src/bpf/errno.js';
import {
  BPF_F_INNER_MAP,
  BPF_F_LOCK,
  BPF_F_MMAPABLE,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY_PROG,
  BPF_MAP_TYPE,
  BPF_NOEXIST,
  type MapAttributes,
} from '../../src/bpf/map-spec.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import type { BpfMap, CopiedElements, MapBatch } from '../../src/bpf/runtime/bpf-map.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { copyBytes } from './copy-bytes.js';
import {
  ACCESS_FLAGS,
  INT_MAX,
  PCPU_MIN_UNIT_SIZE,
  U32_SIZE,
  accessFlagsOk,
  onlyFlags,
} from './kernel-limits.js';
import type { MapKind } from './map-plan.js';
import {
  MAX_UPDATE_FLAG,
  MemoryMap,
  cpuWordOf,
  currentLane,
  indexAfter,
  indexOf,
  loadU32,
  type MapPlacement,
} from './memory-map.js';

function isPerCpu(attributes: MapAttributes): boolean {
  return attributes.type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY;
}

/**
 * ARRAY and PERCPU_ARRAY: one region of values, `stride` = valueSize rounded up to 8; a PERCPU_ARRAY has one
 * such array per CPU, one behind the other.
 */
export const ARRAY_KIND: MapKind = {
  check(attributes) {
    const { keySize, valueSize, maxEntries, flags } = attributes;
    const perCpu = isPerCpu(attributes);
    const allowed = ACCESS_FLAGS | (perCpu ? 0 : BPF_F_NUMA_NODE | BPF_F_MMAPABLE | BPF_F_INNER_MAP);
    if (maxEntries === 0 || keySize !== U32_SIZE || valueSize === 0) return -EINVAL;
    if (!onlyFlags(flags, allowed) || !accessFlagsOk(flags)) return -EINVAL;
    if (valueSize > INT_MAX) return -E2BIG;
    return perCpu && roundUp(valueSize, 8) > PCPU_MIN_UNIT_SIZE ? -E2BIG : 0;
  },
  regions(attributes, { label, cpus }) {
    const stride = roundUp(attributes.valueSize, 8);
    const count = attributes.maxEntries * (isPerCpu(attributes) ? cpus : 1);
    return [
      {
        size: stride * count,
        description: {
          kind: 'map-element',
          label: `the value of ${label}`,
          access: (attributes.flags & BPF_F_RDONLY_PROG) === 0 ? 'read-write' : 'read',
          elements: { first: 0, stride, size: attributes.valueSize, count },
        },
      },
    ];
  },
};

/** Bytes that are compared at once when an array is copied. */
const BYTES_AT_ONCE = 4096;

export class ArrayMap extends MemoryMap {
  readonly layout: MapLayout & { kind: 'array' };
  readonly #values: number;
  readonly #stride: number;
  readonly #maxEntries: number;
  readonly #valueSize: number;
  /** 0 when all CPUs share the values. */
  readonly #cpuStride: number;
  /** Index of the run state's CPU number in `space.i32`. */
  readonly #cpuWord: number;
  readonly #lanes: number;

  constructor(placement: MapPlacement) {
    const { attributes, runtime } = placement;
    const perCpu = isPerCpu(attributes);
    const stride = roundUp(attributes.valueSize, 8);
    super(placement, perCpu ? stride * runtime.cpus : attributes.valueSize);
    this.#values = placement.regions[1]!.start;
    this.#stride = stride;
    this.#maxEntries = attributes.maxEntries;
    this.#valueSize = attributes.valueSize;
    this.#cpuStride = perCpu ? stride * attributes.maxEntries : 0;
    this.#lanes = perCpu ? runtime.cpus : 1;
    this.#cpuWord = cpuWordOf(runtime);
    this.layout = {
      kind: 'array',
      values: this.#values,
      stride,
      maxEntries: attributes.maxEntries,
      cpuStride: this.#cpuStride,
      plainValues: this.hasPlainValues,
    };
  }

  lookupElem(keyAddress: number): number {
    const index = loadU32(this.space, keyAddress);
    return index < this.#maxEntries ? this.#valueAt(index) : 0;
  }

  updateElem(keyAddress: number, valueAddress: number, flags: number): number {
    // Whether there is a lock in the value is looked at last.
    const plain = flags >= BPF_F_LOCK ? flags - BPF_F_LOCK : flags;
    if (plain < 0 || plain > MAX_UPDATE_FLAG) return -EINVAL;
    const index = loadU32(this.space, keyAddress);
    if (index >= this.#maxEntries) return -E2BIG;
    if (plain === BPF_NOEXIST) return -EEXIST;
    if (plain !== flags && !this.hasSpinLock) return -EINVAL;
    const value = this.#valueAt(index);
    copyBytes(this.space, valueAddress, value, this.#valueSize);
    this.clearSpecial(value);
    return 0;
  }

  deleteElem(_keyAddress: number): number {
    return -EINVAL;
  }

  /** Only an array of one element has a value that an `lddw` can name, as in the kernel. */
  override directValueAddress(offset: number): number {
    return this.#cpuStride === 0 && this.#maxEntries === 1 && offset >= 0 && offset < this.#valueSize
      ? this.#values + offset
      : 0;
  }

  lookupPercpuElem(keyAddress: number, cpu: number): number {
    const index = loadU32(this.space, keyAddress);
    if (this.#cpuStride === 0 || cpu >= this.#lanes || index >= this.#maxEntries) return 0;
    return this.#laneOf(cpu, index);
  }

  copyElements(from: BpfMap): CopiedElements | number {
    if (!(from instanceof ArrayMap) || from.#maxEntries !== this.#maxEntries) return -EOPNOTSUPP;
    if (from.#valueSize !== this.#valueSize || from.syscallValueSize !== this.syscallValueSize)
      return -EOPNOTSUPP;
    if (!from.mayRead || !this.mayRead) return -EPERM;
    const size = this.#laneSize;
    const atOnce = Math.max(1, Math.floor(BYTES_AT_ONCE / this.#stride));
    let elements = 0;
    for (let first = 0; first < this.#maxEntries; first += atOnce) {
      const end = Math.min(first + atOnce, this.#maxEntries);
      if (this.#equal(from, first, (end - first) * this.#stride)) continue;
      for (let index = first; index < end; index++) {
        if (this.#equal(from, index, size)) continue;
        if (!this.mayWrite) return -EPERM;
        for (let lane = 0; lane < this.#lanes; lane++) {
          const source = from.#laneOf(lane, index);
          const target = this.#laneOf(lane, index);
          this.space.u8.set(from.space.u8.subarray(source, source + size), target);
          this.clearSpecial(target);
        }
        elements++;
      }
    }
    return { elements, bytes: elements * (this.attributes.keySize + this.syscallValueSize) };
  }

  /** Whether so many bytes of all CPUs' values, from an element on, are the same in another. */
  #equal(other: ArrayMap, index: number, size: number): boolean {
    for (let lane = 0; lane < this.#lanes; lane++) {
      if (!this.sameBytes(this.#laneOf(lane, index), other, other.#laneOf(lane, index), size)) return false;
    }
    return true;
  }

  protected readEntry(key: Uint8Array): Uint8Array | number {
    const index = indexOf(key);
    if (index >= this.#maxEntries) return -ENOENT;
    const value = new Uint8Array(this.syscallValueSize);
    const size = this.#laneSize;
    for (let lane = 0; lane < this.#lanes; lane++) {
      const from = this.#laneOf(lane, index);
      value.set(this.space.u8.subarray(from, from + size), lane * size);
    }
    return this.withoutSpecial(value, size);
  }

  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = indexOf(key);
    if (index >= this.#maxEntries) return -E2BIG;
    if (flags === BPF_NOEXIST) return -EEXIST;
    const size = this.#laneSize;
    for (let lane = 0; lane < this.#lanes; lane++) {
      const to = this.#laneOf(lane, index);
      this.space.u8.set(value.subarray(lane * size, (lane + 1) * size), to);
      this.clearSpecial(to);
    }
    return 0;
  }

  protected removeEntry(_key: Uint8Array): number {
    return -EINVAL;
  }

  protected keyAfter(key: Uint8Array | null): Uint8Array | number {
    return indexAfter(key, this.#maxEntries);
  }

  protected override readBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    return this.readBatchByKey(cursor, count);
  }

  /** Bytes of one CPU's value as bpf(2) passes it. */
  get #laneSize(): number {
    return this.#cpuStride === 0 ? this.#valueSize : this.#stride;
  }

  #laneOf(lane: number, index: number): number {
    return this.#values + lane * this.#cpuStride + index * this.#stride;
  }

  #valueAt(index: number): number {
    const value = this.#values + index * this.#stride;
    if (this.#cpuStride === 0) return value;
    return value + currentLane(this.space.i32, this.#cpuWord, this.#lanes) * this.#cpuStride;
  }
}
