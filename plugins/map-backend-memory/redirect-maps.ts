import { E2BIG, EBADF, EEXIST, EINVAL, ENODEV, ENOENT, ENOTSUPP, EOPNOTSUPP } from '../../src/bpf/errno.js';
import {
  BPF_ANY,
  BPF_EXIST,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY_PROG,
  BPF_NOEXIST,
  type MapAttributes,
} from '../../src/bpf/map-spec.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { HASH_KIND, HashMap } from './hash-map.js';
import { NUMA_AND_SYSCALL_ACCESS, U32_SIZE, accessFlagsOk, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, indexAfter, indexKey, indexOf, loadU32, type MapPlacement } from './memory-map.js';

/** Not among the errnos of bpf(2) elsewhere: what CPUMAP says to a queue that is too long. */
export const EOVERFLOW = 75;

/** `NR_CPUS` of Debian's x86-64 kernels, the most entries a CPUMAP may have. */
export const NR_CPUS = 8192;
/** The longest queue of a CPUMAP entry, in frames. */
export const CPUMAP_MAX_QSIZE = 16_384;

/** An entry: `+0 u32` what the map's type says, `+4 u32` program id or 0. */
const ENTRY_SIZE = 8;

function checkRedirectMap(attributes: MapAttributes, valueSizes: readonly number[], flags: number): number {
  const { keySize, valueSize, maxEntries } = attributes;
  const sizesOk = maxEntries > 0 && keySize === U32_SIZE && valueSizes.includes(valueSize);
  return sizesOk && onlyFlags(attributes.flags, flags) && accessFlagsOk(attributes.flags) ? 0 : -EINVAL;
}

/** DEVMAP, CPUMAP and XSKMAP: `maxEntries` entries of 8 bytes, which programs may read and only bpf(2) writes. */
function entryRegions(attributes: MapAttributes, label: string): ReturnType<MapKind['regions']> {
  return [
    {
      size: ENTRY_SIZE * attributes.maxEntries,
      description: {
        kind: 'map-element',
        label: `the value of ${label}`,
        access: 'read',
        elements: {
          first: 0,
          stride: ENTRY_SIZE,
          size: attributes.valueSize,
          count: attributes.maxEntries,
        },
      },
    },
  ];
}

export const DEVMAP_KIND: MapKind = {
  check: (attributes) => checkRedirectMap(attributes, [4, 8], NUMA_AND_SYSCALL_ACCESS),
  regions: (attributes, { label }) => entryRegions(attributes, label),
};

export const CPUMAP_KIND: MapKind = {
  check(attributes) {
    const refusal = checkRedirectMap(attributes, [4, 8], BPF_F_NUMA_NODE);
    return refusal === 0 && attributes.maxEntries > NR_CPUS ? -E2BIG : refusal;
  },
  regions: (attributes, { label }) => entryRegions(attributes, label),
};

export const XSKMAP_KIND: MapKind = {
  check: (attributes) => checkRedirectMap(attributes, [4], NUMA_AND_SYSCALL_ACCESS),
  regions: (attributes, { label }) => entryRegions(attributes, label),
};

export const DEVMAP_HASH_KIND: MapKind = {
  check(attributes) {
    const refusal = checkRedirectMap(attributes, [4, 8], NUMA_AND_SYSCALL_ACCESS);
    return refusal === 0 && attributes.maxEntries > 2 ** 31 ? -EINVAL : refusal;
  },
  regions: (attributes, environment) =>
    HASH_KIND.regions({ ...attributes, flags: BPF_F_RDONLY_PROG }, environment),
};

/** What DEVMAP, CPUMAP and XSKMAP share: entries by index, some of them empty. */
abstract class RedirectArray extends MemoryMap {
  readonly layout: MapLayout = { kind: 'opaque' };
  readonly #entries: number;

  constructor(placement: MapPlacement) {
    super(placement, placement.attributes.valueSize);
    this.#entries = placement.regions[1]!.start;
  }

  lookupElem(keyAddress: number): number {
    return this.lookupIndex(loadU32(this.space, keyAddress));
  }

  lookupIndex(index: number): number {
    if (index >= this.attributes.maxEntries) return 0;
    const address = this.#entries + index * ENTRY_SIZE;
    return this.isSet(address >>> 2) ? address : 0;
  }

  updateElem(): number {
    return -EINVAL;
  }

  deleteElem(): number {
    return -EINVAL;
  }

  /** Whether the entry at this index of `space.i32` is in use. */
  protected isSet(word: number): boolean {
    return this.space.i32[word] !== 0;
  }

  protected put(index: number, first: number, second: number): void {
    const { i32 } = this.space;
    const word = (this.#entries >>> 2) + index * (ENTRY_SIZE / 4);
    const before = Number(this.isSet(word));
    i32[word] = first;
    i32[word + 1] = second;
    i32[this.header + HEADER_WORD.count]! += Number(this.isSet(word)) - before;
  }

  protected readEntry(key: Uint8Array): Uint8Array | number {
    const address = this.lookupIndex(indexOf(key));
    return address === 0 ? -ENOENT : this.space.read(address, this.syscallValueSize);
  }

  protected removeEntry(key: Uint8Array): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -EINVAL;
    this.put(index, 0, 0);
    return 0;
  }

  protected keyAfter(key: Uint8Array | null): Uint8Array | number {
    return indexAfter(key, this.attributes.maxEntries);
  }
}

/** The second word of a DEVMAP or CPUMAP value: a program id; none when absent, 0 or negative. */
function programIn(value: Uint8Array): number {
  const program = value.length > U32_SIZE ? indexOf(value.subarray(U32_SIZE)) | 0 : 0;
  return program > 0 ? program : 0;
}

/**
 * DEVMAP: `{ u32 ifindex, u32 program id }`. An update passes the id where bpf(2) passes an fd; whether
 * the device exists is for whoever knows the devices.
 */
export class DevMap extends RedirectArray {
  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    if (flags === BPF_NOEXIST) return -EEXIST;
    const ifindex = indexOf(value);
    const program = programIn(value);
    // Ifindex 0 empties the entry, and an empty entry runs no program.
    if (ifindex === 0 && program > 0) return -EINVAL;
    this.put(index, ifindex, program);
    return 0;
  }
}

/** CPUMAP: `{ u32 qsize, u32 program id }`; qsize 0 empties the entry. */
export class CpuMap extends RedirectArray {
  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const cpu = indexOf(key);
    if (cpu >= this.attributes.maxEntries) return -E2BIG;
    if (flags === BPF_NOEXIST) return -EEXIST;
    const qsize = indexOf(value);
    if (qsize > CPUMAP_MAX_QSIZE) return -EOVERFLOW;
    if (cpu >= this.runtime.cpus) return -ENODEV;
    this.put(cpu, qsize, qsize === 0 ? 0 : programIn(value));
    return 0;
  }
}

/**
 * XSKMAP: `{ u32 queue_id, u32 socket + 1 }`. A program that looks an entry up sees the first field of
 * `struct bpf_xdp_sock`; the socket of entry n is taken to be bound to queue n.
 */
export class XskMap extends RedirectArray {
  /** The socket number that was put under an index, or undefined. */
  socketAt(index: number): number | undefined {
    const address = this.lookupIndex(index);
    return address === 0 ? undefined : this.space.i32[(address >>> 2) + 1]! - 1;
  }

  protected override isSet(word: number): boolean {
    return this.space.i32[word + 1] !== 0;
  }

  /** The kernel does not tell bpf(2) which socket an entry holds. */
  protected override readEntry(): number {
    return -EOPNOTSUPP;
  }

  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    const socket = indexOf(value) | 0;
    if (socket < 0) return -EBADF;
    const set = this.lookupIndex(index) !== 0;
    if (flags === BPF_NOEXIST && set) return -EEXIST;
    if (flags === BPF_EXIST && !set) return -ENOENT;
    this.put(index, index, socket + 1);
    return 0;
  }
}

/** DEVMAP_HASH: the values of a DEVMAP under any u32 key. BPF_EXIST does not ask for the key to exist. */
export class DevMapHash extends HashMap {
  lookupIndex(index: number): number {
    return this.valueAddressOf(indexKey(index));
  }

  override updateElem(): number {
    return -EINVAL;
  }

  override deleteElem(): number {
    return -EINVAL;
  }

  protected override writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    if (indexOf(value) === 0) return -EINVAL;
    const stored = value.slice();
    if (stored.length > U32_SIZE) stored.set(indexKey(programIn(value)), U32_SIZE);
    return super.writeEntry(key, stored, flags === BPF_NOEXIST ? BPF_NOEXIST : BPF_ANY);
  }

  protected override takeEntry(): number {
    return -ENOTSUPP;
  }

  protected override readBatch(): number {
    return -ENOTSUPP;
  }
}
