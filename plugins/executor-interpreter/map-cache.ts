import { BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { AddressSpace } from '../../src/bpf/runtime/address-space.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BYTES_WITHIN_CALL } from '../../src/bpf/runtime/insn-budget.js';
import { hashMultipliers } from '../../src/bpf/runtime/map-layout.js';
import { MACHINE, MACHINE_SIZE, MAP_CACHE, mapCacheOffset } from './machine-layout.js';

/** The entries for maps in a machine: see MAP_CACHE. */
export class MapCache {
  readonly #stopListening: () => void;

  /** @param machine address of the machine */
  constructor(
    readonly space: AddressSpace,
    readonly machine: number,
  ) {
    // Another map may come to lie where one was; any map is in its entry again after one lookup.
    this.#stopListening = space.onRelease(() => this.#clear());
  }

  /** Has lookups in a map served by the loop from now on, if they are such as it can serve. */
  add(map: ResidentMap): void {
    const { layout } = map;
    const { keySize } = map.attributes;
    if (layout.kind !== 'array' && (layout.kind !== 'hash' || keySize % 4 !== 0)) return;
    if (keySize > BYTES_WITHIN_CALL) return;
    const at = (this.machine + mapCacheOffset(map.address)) >> 2;
    if (this.space.i32[at] === map.address) return;
    const set = (field: number, value: number): void => {
      this.space.i32[at + (field >> 2)] = value;
    };
    const { readable, writable } = valueAccess(map);
    set(MAP_CACHE.address, map.address);
    set(MAP_CACHE.keySize, keySize);
    set(MAP_CACHE.readable, readable);
    set(MAP_CACHE.writable, writable);
    set(MAP_CACHE.cpuStride, layout.cpuStride);
    const isPlain = layout.plainValues && map.syscallValueSize <= BYTES_WITHIN_CALL;
    set(MAP_CACHE.plainValue, isPlain ? map.attributes.valueSize : 0);
    if (layout.kind === 'array') {
      set(MAP_CACHE.maxEntries, layout.maxEntries);
      set(MAP_CACHE.values, layout.values);
      set(MAP_CACHE.stride, layout.stride);
      return;
    }
    const { first, second } = hashMultipliers(layout.seed);
    set(MAP_CACHE.values, 0);
    set(MAP_CACHE.buckets, layout.buckets);
    set(MAP_CACHE.bucketMask, layout.bucketCount - 1);
    set(MAP_CACHE.valueOffset, layout.valueOffset);
    set(MAP_CACHE.usedOffset, Math.max(0, layout.usedOffset));
    set(MAP_CACHE.seed, layout.seed);
    set(MAP_CACHE.first, first);
    set(MAP_CACHE.second, second);
  }

  close(): void {
    this.#stopListening();
  }

  #clear(): void {
    this.space.i32.fill(0, (this.machine + MACHINE.maps) >> 2, (this.machine + MACHINE_SIZE) >> 2);
  }
}

/** Bytes of what a lookup in a map finds that a program may read, and write. */
export function valueAccess(map: ResidentMap): { readonly readable: number; readonly writable: number } {
  const { type, valueSize, flags } = map.attributes;
  // Of other kinds, what is found is not the value.
  if (map.layout.kind !== 'array' && map.layout.kind !== 'hash') return { readable: 0, writable: 0 };
  const readOnly = (flags & BPF_F_RDONLY_PROG) !== 0 || type === BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH;
  return {
    readable: (flags & BPF_F_WRONLY_PROG) !== 0 ? 0 : valueSize,
    writable: readOnly ? 0 : valueSize,
  };
}
