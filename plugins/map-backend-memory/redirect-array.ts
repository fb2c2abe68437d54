import { EINVAL, ENOENT } from '../../src/bpf/errno.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { U32_SIZE, accessFlagsOk, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, indexAfter, indexOf, loadU32, type MapPlacement } from './memory-map.js';

/** An entry: `+0 u32` what the map's type says, `+4 u32` program id or 0. */
const ENTRY_SIZE = 8;

/** Creation of a map whose entries bpf_redirect_map leads to: 0 or -errno. `flags` are those that it may have. */
export function checkRedirectMap(
  attributes: MapAttributes,
  valueSizes: readonly number[],
  flags: number,
): number {
  const { keySize, valueSize, maxEntries } = attributes;
  const sizesOk = maxEntries > 0 && keySize === U32_SIZE && valueSizes.includes(valueSize);
  return sizesOk && onlyFlags(attributes.flags, flags) && accessFlagsOk(attributes.flags) ? 0 : -EINVAL;
}

/** DEVMAP, CPUMAP and XSKMAP: `maxEntries` entries of 8 bytes, which programs may read and only bpf(2) writes. */
export function entryRegions(attributes: MapAttributes, label: string): ReturnType<MapKind['regions']> {
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

/** What DEVMAP, CPUMAP and XSKMAP share: entries by index, some of them empty. */
export abstract class RedirectArray extends MemoryMap {
  readonly layout: MapLayout;
  readonly #entries: number;
  readonly #usedWord: number;

  /** @param usedOffset of the u32 in an entry that is 0 where the entry is empty: 0 or 4 */
  constructor(placement: MapPlacement, usedOffset = 0) {
    super(placement, placement.attributes.valueSize);
    this.#entries = placement.regions[1]!.start;
    this.#usedWord = usedOffset / 4;
    const { maxEntries } = placement.attributes;
    this.layout = { kind: 'entries', entries: this.#entries, maxEntries, usedOffset };
  }

  lookupElem(keyAddress: number): number {
    return this.lookupIndex(loadU32(this.space, keyAddress));
  }

  lookupIndex(index: number): number {
    if (index >= this.attributes.maxEntries) return 0;
    const address = this.#entries + index * ENTRY_SIZE;
    return this.#isSet(address >>> 2) ? address : 0;
  }

  updateElem(): number {
    return -EINVAL;
  }

  deleteElem(): number {
    return -EINVAL;
  }

  /** Whether the entry at this index of `space.i32` is in use. */
  #isSet(word: number): boolean {
    return this.space.i32[word + this.#usedWord] !== 0;
  }

  protected put(index: number, first: number, second: number): void {
    const { i32 } = this.space;
    const word = (this.#entries >>> 2) + index * (ENTRY_SIZE / 4);
    const before = Number(this.#isSet(word));
    i32[word] = first;
    i32[word + 1] = second;
    i32[this.header + HEADER_WORD.count]! += Number(this.#isSet(word)) - before;
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
export function programIn(value: Uint8Array): number {
  const program = value.length > U32_SIZE ? indexOf(value.subarray(U32_SIZE)) | 0 : 0;
  return program > 0 ? program : 0;
}
