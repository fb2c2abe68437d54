/**
 * How maps lie in the address space, so that an executor can serve the hot lookups without leaving compiled
 * code. A map backend fills this in; an executor that knows the layout may inline it, and one that does not
 * calls `ResidentMap.lookupElem`. Both must see the same bytes.
 *
 * ARRAY and PERCPU_ARRAY (per CPU, `values + cpu * cpuStride`):
 * ```
 *   values + index * stride    the value, 8-byte aligned; stride = valueSize rounded up to 8
 * ```
 *
 * HASH, PERCPU_HASH and the LRU forms: preallocated elements that never move, chained from buckets.
 * ```
 *   buckets + 4 * (hash & (bucketCount - 1))   u32 address of the first element, 0 for none
 *   element:  +0   u32 next         address of the next element in the chain, 0 for none
 *             +4   u32 hash         the full hash, compared before the key; its complement once deleted
 *             +8   key              keySize bytes
 *             +valueOffset          the value, 8-byte aligned: roundUp(8 + keySize, 8)
 *                                   per-CPU: CPU n's value at valueOffset + n * cpuStride
 *             +usedOffset           LRU only: u32 set to 1 by a lookup (the reference bit)
 * ```
 * `hash` is `hashKey` below, over the key's bytes. DEVMAP_HASH lies likewise; HASH_OF_MAPS is opaque, because
 * there a lookup returns what the value says.
 */
export type MapLayout =
  | {
      readonly kind: 'array';
      readonly values: number;
      readonly stride: number;
      readonly maxEntries: number;
      /** 0 for an array that is not per CPU. */
      readonly cpuStride: number;
      /** There is nothing in a value that an update leaves out or clears, such as a lock: it copies `valueSize` bytes. */
      readonly plainValues: boolean;
    }
  | {
      readonly kind: 'hash';
      readonly buckets: number;
      /** A power of two. */
      readonly bucketCount: number;
      /** The first of `maxEntries` elements, which lie `stride` bytes apart. */
      readonly elements: number;
      readonly stride: number;
      /** Also the most elements a chain has, which bounds whoever follows one. */
      readonly maxEntries: number;
      readonly keySize: number;
      /** Start value of `hashKey` for this map. */
      readonly seed: number;
      readonly valueOffset: number;
      readonly cpuStride: number;
      /** -1 for a map that is not LRU. */
      readonly usedOffset: number;
      /** As an array's: all that there is to an update of a key that is there, but the reference bit. */
      readonly plainValues: boolean;
    }
  /**
   * PROG_ARRAY: a u32 program id at `slots + 4 * index`, 0 for none.
   * ARRAY_OF_MAPS: likewise the `address` of the inner map.
   */
  | { readonly kind: 'slots'; readonly slots: number; readonly maxEntries: number }
  /**
   * DEVMAP, CPUMAP and XSKMAP: an entry of 8 bytes at `entries + 8 * index`, which is used where its u32 at `usedOffset` is not
   * 0.
   */
  | {
      readonly kind: 'entries';
      readonly entries: number;
      readonly maxEntries: number;
      readonly usedOffset: number;
    }
  /**
   * RINGBUF: records begin at `data + (position & (size - 8))`, and the last runs on into as many bytes behind `size`.
   * ```
   *   record:  +0  u32 length; bit 31 while it is reserved, bit 30 once it is discarded
   *            +4  u16 CPU, u16 records lost before it
   *            +8  data; with it the record takes 8 + length bytes, rounded up to 8
   * ```
   * A record has room where what is between the positions and itself are below `size`.
   */
  | {
      readonly kind: 'ring';
      readonly data: number;
      /** A power of two. */
      readonly size: number;
      /** Addresses of the positions, u64 each, up to which records were reserved, and read. */
      readonly producer: number;
      readonly consumer: number;
      /** Address of the u32 that the next record has as lost before it. */
      readonly lost: number;
    }
  /** The map is served by calls only. */
  | { readonly kind: 'opaque' };

/**
 * The elements in a bucket, at most `limit`. A link that leads to no element ends the chain: memory may have been
 * overwritten.
 */
export function hashChain(
  i32: Int32Array,
  layout: Extract<MapLayout, { kind: 'hash' }>,
  bucket: number,
  limit: number,
): number[] {
  const chain: number[] = [];
  let element = i32[(layout.buckets >>> 2) + bucket]! >>> 0;
  while (
    chain.length < limit &&
    (element - layout.elements) >>> 0 <= layout.stride * (layout.maxEntries - 1)
  ) {
    chain.push(element);
    element = i32[element >>> 2]! >>> 0;
  }
  return chain;
}

/** Offsets in a record of a ring buffer, and the bits of its length. */
export const RING_RECORD = { length: 0, origin: 4, data: 8 } as const;
export const BPF_RINGBUF_BUSY_BIT = 0x8000_0000;
export const BPF_RINGBUF_DISCARD_BIT = 0x4000_0000;
export const RING_LENGTH_MASK = 0x3fff_ffff;

/** Offset of the key in a hash element. */
export const HASH_ELEMENT_KEY = 8;

/** The secret numbers of `hashKey` for one seed: signed 32-bit integers. */
export interface HashMultipliers {
  readonly first: number;
  readonly second: number;
}

/**
 * ```
 *   first  = mix(seed + 0x9e3779b9) with 5 as its lower three bits
 *   second = mix(seed + 0x3c6ef372) with 5 as its lower three bits
 * ```
 * `mix` is the final mix of MurmurHash3 (32 bits). Both are odd, so that a multiplication loses nothing, and neither
 * is 1 or -1 in any number of its lower bits from three on, which would carry a difference through unchanged.
 */
export function hashMultipliers(seed: number): HashMultipliers {
  return { first: multiplier((seed + 0x9e3779b9) | 0), second: multiplier((seed + 0x3c6ef372) | 0) };
}

function multiplier(x: number): number {
  let h = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return ((h ^ (h >>> 16)) & ~7) | 5;
}

/**
 * The hash of a key, made of operations that wasm and JavaScript compute alike and fast with 32-bit integers
 * (`Math.imul` = i32.mul); keys whose size is not a multiple of 4 end in a word padded with zero bytes:
 *
 * ```
 *   h = seed
 *   for each word w:  g = w * second;  g ^= g >>> 15;  h = (h ^ g) * first;  h ^= h >>> 15
 * ```
 * with `hashMultipliers(seed)`; what is done to the word alone need not wait for the word before. The seed is the map's own, drawn from the run's seed.
 *
 * What that promises: whether two keys collide depends on the seed. What a difference in one word (the highest bit
 * included, which one multiplication by an odd number leaves alone) makes of h is multiplied by a number that the seed
 * decides before the next word can undo it. It does not promise what SipHash does: the seed has 32 bits, and whoever
 * knows it, sees hashes, or may try many maps can prepare keys that collide; the seed of a map with BPF_F_ZERO_SEED
 * is known to all. What a long chain costs is bounded by other means: see `chainCharge` in insn-budget.ts.
 */
export function hashKey(
  u8: Uint8Array,
  at: number,
  keySize: number,
  seed: number,
  { first, second } = hashMultipliers(seed),
): number {
  let h = seed | 0;
  const whole = keySize & ~3;
  for (let i = 0; i < whole; i += 4) {
    const word = u8[at + i]! | (u8[at + i + 1]! << 8) | (u8[at + i + 2]! << 16) | (u8[at + i + 3]! << 24);
    const g = Math.imul(word, second);
    h = Math.imul(h ^ g ^ (g >>> 15), first);
    h ^= h >>> 15;
  }
  if (whole < keySize) {
    let word = 0;
    for (let i = whole; i < keySize; i++) word |= u8[at + i]! << (8 * (i - whole));
    const g = Math.imul(word, second);
    h = Math.imul(h ^ g ^ (g >>> 15), first);
    h ^= h >>> 15;
  }
  return h;
}

/**
 * `hashKey` of a key of whole words that lies at a multiple of 4: `word` is its address divided by 4. Gives
 * the same number, without assembling words from bytes.
 */
export function hashKeyWords(
  i32: Int32Array,
  word: number,
  words: number,
  seed: number,
  { first, second } = hashMultipliers(seed),
): number {
  let h = seed | 0;
  for (let i = word; i < word + words; i++) {
    const g = Math.imul(i32[i]!, second);
    h = Math.imul(h ^ g ^ (g >>> 15), first);
    h ^= h >>> 15;
  }
  return h;
}
