import { EINVAL, ENOTSUPP } from '../../src/bpf/errno.js';
import { BPF_F_INNER_MAP, BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { specialFields } from '../../src/bpf/special-fields.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { MemoryMap } from './memory-map.js';

/**
 * Whether maps of these attributes may be held by a map-in-map: 0 or -errno. Kernel `bpf_map_meta_alloc`
 * refuses a second level with EINVAL, and a PROG_ARRAY (whose owner must be known at load) with ENOTSUPP.
 */
export function checkInnerTemplate(inner: MapAttributes | undefined): number {
  switch (inner?.type) {
    case undefined:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS:
    case BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS:
      return -EINVAL;
    case BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY:
      return -ENOTSUPP;
    default:
      return 0;
  }
}

/**
 * Whether a map may stand where the template says (kernel `bpf_map_meta_equal`): the verifier judged programs
 * by the template. The number of entries matters only where code is generated with it.
 */
function matchesTemplate(template: MapAttributes, inner: MapAttributes): boolean {
  if (
    template.type !== inner.type ||
    template.keySize !== inner.keySize ||
    template.valueSize !== inner.valueSize ||
    template.flags !== inner.flags
  ) {
    return false;
  }
  if (!sameSpecialFields(template, inner)) return false;
  const sizeMatters =
    template.type === BPF_MAP_TYPE.BPF_MAP_TYPE_XSKMAP ||
    (template.type === BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY && (template.flags & BPF_F_INNER_MAP) === 0);
  return !sizeMatters || template.maxEntries === inner.maxEntries;
}

/** Where a lock is, a program was told by the template. */
function sameSpecialFields(template: MapAttributes, inner: MapAttributes): boolean {
  const places = (map: MapAttributes): string =>
    specialFields(map)
      .fields.map(({ type, offset }) => `${type}@${offset}`)
      .join(' ');
  return template.btf === inner.btf || places(template) === places(inner);
}

/** A map of this backend and runtime that the template allows, or -EINVAL. */
export function acceptInnerMap(
  runtime: BpfRuntime,
  template: MapAttributes,
  inner: ResidentMap,
): MemoryMap | number {
  if (!(inner instanceof MemoryMap) || runtime.maps.get(inner.address) !== inner) return -EINVAL;
  return matchesTemplate(template, inner.attributes) ? inner : -EINVAL;
}

/**
 * Which inner map each place of a map-in-map holds a reference on. A place is whatever numbers the outer map's
 * entries. Kept beside the addresses in memory, which say what programs find: were references dropped by what
 * memory says, who spoils it could free a map that others still use.
 */
export class InnerMapReferences {
  readonly #held = new Map<number, MemoryMap>();

  /** Puts a map in a place; what was there is let go of. */
  hold(place: number, inner: MemoryMap): void {
    inner.retain();
    this.letGo(place);
    this.#held.set(place, inner);
  }

  letGo(place: number): void {
    const inner = this.#held.get(place);
    this.#held.delete(place);
    inner?.release();
  }

  letAllGo(): void {
    for (const place of [...this.#held.keys()]) this.letGo(place);
  }
}
