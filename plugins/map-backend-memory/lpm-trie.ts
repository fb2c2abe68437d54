import { EEXIST, EINVAL, ENOENT, ENOSPC } from '../../src/bpf/errno.js';
import {
  BPF_EXIST,
  BPF_F_NO_PREALLOC,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY_PROG,
  BPF_NOEXIST,
  type MapAttributes,
} from '../../src/bpf/map-spec.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import type { MapBatch } from '../../src/bpf/runtime/bpf-map.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { copyBytes } from './copy-bytes.js';
import { ACCESS_FLAGS, KMALLOC_MAX_SIZE, U32_SIZE, accessFlagsOk, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MAX_UPDATE_FLAG, MemoryMap, indexOf, loadU32, type MapPlacement } from './memory-map.js';

/** A key is `{ u32 prefixlen; u8 data[1 … 256] }`. */
const MIN_KEY_SIZE = U32_SIZE + 1;
const MAX_KEY_SIZE = U32_SIZE + 256;
/** Kernel LPM_VAL_SIZE_MAX: KMALLOC_MAX_SIZE less the largest key and `sizeof(struct lpm_trie_node)`. */
const MAX_VALUE_SIZE = KMALLOC_MAX_SIZE - MAX_KEY_SIZE - 20;

/** Word offsets in a node. */
const CHILD = 0;
const PREFIX_LENGTH = 2;
/** Byte offset of the key's data in a node. */
const DATA = 16;

/**
 * Header words. Each free list, chained through the first child of its nodes, is followed by a word that counts
 * the nodes of its region that were ever used.
 */
const ROOT = HEADER_WORD.own;
const FREE_VALUE = HEADER_WORD.own + 1;
const FREE_FORK = HEADER_WORD.own + 3;

interface NodeShape {
  readonly dataSize: number;
  readonly valueOffset: number;
  readonly valueStride: number;
  readonly forkStride: number;
}

function nodeShape({ keySize, valueSize }: MapAttributes): NodeShape {
  const dataSize = keySize - U32_SIZE;
  const valueOffset = DATA + roundUp(dataSize, 8);
  return { dataSize, valueOffset, valueStride: valueOffset + roundUp(valueSize, 8), forkStride: valueOffset };
}

/**
 * LPM_TRIE: `maxEntries` nodes with a value, then `maxEntries - 1` forks, which is as many as a trie of that
 * many entries can need, because a fork always has two children.
 *
 * ```
 *   node:  +0   u32 child[2]      address of the subtree whose next bit is 0 or 1, 0 for none
 *          +8   u32 prefixlen     in bits
 *          +12  4 bytes unused
 *          +16  data              the key's bytes
 *          +valueOffset           entries only: the value, 8-byte aligned
 * ```
 * Which of the two a node is, its address says. A link counts only if it leads to a node with a longer prefix, so
 * that whoever follows links is at the end after as many steps as a key has bits, whatever memory says.
 */
export const LPM_TRIE_KIND: MapKind = {
  check({ keySize, valueSize, maxEntries, flags }) {
    const allowed = ACCESS_FLAGS | BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE;
    const sizesOk =
      maxEntries > 0 &&
      keySize >= MIN_KEY_SIZE &&
      keySize <= MAX_KEY_SIZE &&
      valueSize > 0 &&
      valueSize <= MAX_VALUE_SIZE;
    const flagsOk = (flags & BPF_F_NO_PREALLOC) !== 0 && onlyFlags(flags, allowed) && accessFlagsOk(flags);
    return sizesOk && flagsOk ? 0 : -EINVAL;
  },
  regions(attributes, { label }) {
    const shape = nodeShape(attributes);
    const count = attributes.maxEntries;
    return [
      {
        size: shape.valueStride * count,
        description: {
          kind: 'map-element',
          label: `the value of ${label}`,
          access: (attributes.flags & BPF_F_RDONLY_PROG) === 0 ? 'read-write' : 'read',
          elements: {
            first: shape.valueOffset,
            stride: shape.valueStride,
            size: attributes.valueSize,
            count,
          },
        },
      },
      {
        size: shape.forkStride * Math.max(count - 1, 0),
        description: { kind: 'map', label: `the forks of ${label}`, access: 'none' },
      },
    ];
  },
};

/** Where a walk ended: the word that holds the node's address, the node (0 for none), and how much matched. */
interface Position {
  link: number;
  node: number;
  matched: number;
  /** The word that holds the address of the node that `link` belongs to; 0 when `link` is the root. */
  parentLink: number;
}

export class LpmTrie extends MemoryMap {
  readonly layout: MapLayout = { kind: 'opaque' };
  readonly #shape: NodeShape;
  readonly #maxPrefix: number;
  readonly #values: number;
  readonly #forks: number;
  /** Offsets of the last entry and the last fork from the first; that of the forks is negative without any. */
  readonly #lastValue: number;
  readonly #lastFork: number;
  readonly #i32: Int32Array;
  readonly #u8: Uint8Array;
  /** The result of `#walk`, reused because walks must not allocate; meaningless between calls. */
  readonly #at: Position = { link: 0, node: 0, matched: 0, parentLink: 0 };
  /** Nodes that the last way down came to. */
  #passed = 0;

  constructor(placement: MapPlacement) {
    super(placement, placement.attributes.valueSize);
    this.#shape = nodeShape(this.attributes);
    this.#maxPrefix = this.#shape.dataSize * 8;
    this.#values = placement.regions[1]!.start;
    this.#forks = placement.regions[2]!.start;
    this.#lastValue = this.#shape.valueStride * (this.attributes.maxEntries - 1);
    this.#lastFork = this.#shape.forkStride * (this.attributes.maxEntries - 2);
    this.#i32 = this.space.i32;
    this.#u8 = this.space.u8;
  }

  lookupElem(keyAddress: number): number {
    const value = this.#longestMatch(this.#u8, keyAddress + U32_SIZE, loadU32(this.space, keyAddress));
    this.#owe();
    return value;
  }

  updateElem(keyAddress: number, valueAddress: number, flags: number): number {
    if (flags < 0 || flags > MAX_UPDATE_FLAG) return -EINVAL;
    const value = this.#insert(this.#u8, keyAddress + U32_SIZE, loadU32(this.space, keyAddress), flags);
    this.#owe();
    if (value < 0) return value;
    copyBytes(this.space, valueAddress, value, this.attributes.valueSize);
    return 0;
  }

  deleteElem(keyAddress: number): number {
    const status = this.#delete(this.#u8, keyAddress + U32_SIZE, loadU32(this.space, keyAddress));
    this.#owe();
    return status;
  }

  protected readEntry(key: Uint8Array): Uint8Array | number {
    const value = this.#longestMatch(key, U32_SIZE, indexOf(key));
    return value === 0 ? -ENOENT : this.space.read(value, this.attributes.valueSize);
  }

  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    const at = this.#insert(key, U32_SIZE, indexOf(key), flags);
    if (at < 0) return at;
    this.space.write(at, value);
    return 0;
  }

  protected removeEntry(key: Uint8Array): number {
    return this.#delete(key, U32_SIZE, indexOf(key));
  }

  /**
   * Post-order, as in the kernel: longer prefixes before the shorter ones that contain them, and those whose
   * next bit is 0 before those whose next bit is 1. A key that is not there starts over. A key that does not come
   * later in that order, or that a look-up would not find, ends the walk.
   */
  protected keyAfter(key: Uint8Array | null): Uint8Array | number {
    const path = key === null ? [] : this.#pathTo(key);
    let next = path.length === 0 ? this.#firstBelow(this.#nodeIn(this.header + ROOT, -1)) : 0;
    for (let depth = path.length - 1; next === 0 && depth > 0; depth--) {
      const parent = path[depth - 1]!;
      const sibling = this.#child(parent, 1);
      if (sibling !== 0 && sibling !== path[depth]) next = this.#firstBelow(sibling);
      else if (this.#isEntry(parent)) next = parent;
    }
    if (!this.#isEntry(next) || (next - this.#values) % this.#shape.valueStride !== 0) return -ENOENT;
    const result = new Uint8Array(this.attributes.keySize);
    new DataView(result.buffer).setUint32(0, this.#i32[(next >>> 2) + PREFIX_LENGTH]!, true);
    result.set(this.#u8.subarray(next + DATA, next + DATA + this.#shape.dataSize), U32_SIZE);
    const inOrder = path.length === 0 || comesBefore(key!, result);
    return inOrder && this.#pathTo(result).at(-1) === next ? result : -ENOENT;
  }

  protected override readBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    return this.readBatchByKey(cursor, count);
  }

  /** For the way down that a program had us go: see `longestTrieWay`. */
  #owe(): void {
    this.runtime.owedInsns += this.#passed;
  }

  /** Address of the value of the longest prefix in the trie that the key's first `length` bits begin with. */
  #longestMatch(bytes: Uint8Array, at: number, length: number): number {
    this.#passed = 0;
    if (length > this.#maxPrefix) return 0;
    const i32 = this.#i32;
    let found = 0;
    let known = 0;
    let passed = 0;
    let node = this.#nodeIn(this.header + ROOT, -1);
    while (node !== 0) {
      passed++;
      const word = node >>> 2;
      const nodeLength = i32[word + PREFIX_LENGTH]!;
      if (this.#commonBits(node, bytes, at, length, known) < nodeLength) break;
      known = nodeLength;
      if (this.#isEntry(node)) found = node;
      if (nodeLength >= length) break;
      node = this.#nodeIn(word + CHILD + bitAt(bytes, at, nodeLength), nodeLength);
    }
    this.#passed = passed;
    return found === 0 ? 0 : found + this.#shape.valueOffset;
  }

  /** Address of the value to be filled in, or -errno. */
  #insert(bytes: Uint8Array, at: number, length: number, flags: number): number {
    this.#passed = 0;
    if (length > this.#maxPrefix) return -EINVAL;
    const i32 = this.#i32;
    this.#walk(bytes, at, length);
    const { link, node, matched } = this.#at;
    const exact = node !== 0 && matched === length && i32[(node >>> 2) + PREFIX_LENGTH] === length;
    if (exact && this.#isEntry(node)) {
      if (flags === BPF_NOEXIST) return -EEXIST;
      // Bits beyond the prefix do not count, but the kernel keeps those of the last update.
      this.#setData(node, bytes, at);
      return node + this.#shape.valueOffset;
    }
    if (flags === BPF_EXIST) return -ENOENT;
    const entry = this.#take(FREE_VALUE, this.#values, this.#shape.valueStride, this.attributes.maxEntries);
    if (entry === 0) return -ENOSPC;
    const fork = exact || node === 0 || matched === length ? 0 : this.#newFork(bytes, at, matched);
    if (fork === undefined) {
      this.#give(FREE_VALUE, entry);
      return -ENOSPC;
    }
    this.#setData(entry, bytes, at);
    const word = entry >>> 2;
    i32[word + CHILD] = 0;
    i32[word + CHILD + 1] = 0;
    i32[word + PREFIX_LENGTH] = length;
    i32[this.header + HEADER_WORD.count]!++;
    if (exact) {
      // A fork stands where the entry belongs.
      i32[word + CHILD] = i32[(node >>> 2) + CHILD]!;
      i32[word + CHILD + 1] = i32[(node >>> 2) + CHILD + 1]!;
      i32[link] = entry;
      this.#give(FREE_FORK, node);
    } else if (node === 0) {
      i32[link] = entry;
    } else if (matched === length) {
      i32[word + CHILD + bitAt(this.#u8, node + DATA, matched)] = node;
      i32[link] = entry;
    } else {
      const bit = bitAt(this.#u8, entry + DATA, matched);
      i32[(fork >>> 2) + CHILD + bit] = entry;
      i32[(fork >>> 2) + CHILD + (1 - bit)] = node;
      i32[link] = fork;
    }
    return entry + this.#shape.valueOffset;
  }

  #delete(bytes: Uint8Array, at: number, length: number): number {
    this.#passed = 0;
    if (length > this.#maxPrefix) return -EINVAL;
    const i32 = this.#i32;
    this.#walk(bytes, at, length);
    const { link, node, matched, parentLink } = this.#at;
    const word = node >>> 2;
    const exact = node !== 0 && matched === length && i32[word + PREFIX_LENGTH] === length;
    if (!exact || !this.#isEntry(node)) return -ENOENT;
    const left = this.#child(node, 0);
    const right = this.#child(node, 1);
    if (left !== 0 && right !== 0) {
      const fork = this.#newFork(this.#u8, node + DATA, length);
      if (fork === undefined) return -ENOSPC;
      i32[(fork >>> 2) + CHILD] = left;
      i32[(fork >>> 2) + CHILD + 1] = right;
      i32[link] = fork;
    } else {
      i32[link] = left === 0 ? right : left;
      const parent = parentLink === 0 ? 0 : i32[parentLink]! >>> 0;
      if (i32[link] === 0 && parent !== 0 && !this.#isEntry(parent)) {
        // The fork above lost one of its two children: the other takes its place.
        i32[parentLink] = this.#child(parent, 0) || this.#child(parent, 1);
        this.#give(FREE_FORK, parent);
      }
    }
    this.#give(FREE_VALUE, node);
    i32[this.header + HEADER_WORD.count]!--;
    return 0;
  }

  /** Goes down as far as nodes are prefixes of the key and shorter than it. */
  #walk(bytes: Uint8Array, at: number, length: number): void {
    const i32 = this.#i32;
    const position = this.#at;
    position.link = this.header + ROOT;
    position.parentLink = 0;
    position.matched = 0;
    for (let nodeLength = -1; ;) {
      position.node = this.#nodeIn(position.link, nodeLength);
      if (position.node === 0) return;
      this.#passed++;
      const word = position.node >>> 2;
      nodeLength = i32[word + PREFIX_LENGTH]!;
      position.matched = this.#commonBits(position.node, bytes, at, length, position.matched);
      if (position.matched < nodeLength || nodeLength === length) return;
      position.parentLink = position.link;
      position.link = word + CHILD + bitAt(bytes, at, nodeLength);
    }
  }

  /** Nodes from the root to the entry of exactly this key; empty when there is none. */
  #pathTo(key: Uint8Array): number[] {
    const i32 = this.#i32;
    const length = indexOf(key);
    const path: number[] = [];
    let known = 0;
    let node = length > this.#maxPrefix ? 0 : this.#nodeIn(this.header + ROOT, -1);
    while (node !== 0) {
      const word = node >>> 2;
      const nodeLength = i32[word + PREFIX_LENGTH]!;
      path.push(node);
      if (this.#commonBits(node, key, U32_SIZE, length, known) < nodeLength) return [];
      known = nodeLength;
      if (nodeLength === length) return this.#isEntry(node) ? path : [];
      node = this.#nodeIn(word + CHILD + bitAt(key, U32_SIZE, nodeLength), nodeLength);
    }
    return [];
  }

  /** The first entry of a subtree in post-order, 0 for an empty one. */
  #firstBelow(root: number): number {
    for (let node = root; ;) {
      const next = node === 0 ? 0 : this.#child(node, 0) || this.#child(node, 1);
      if (next === 0) return node;
      node = next;
    }
  }

  #child(node: number, bit: number): number {
    const word = node >>> 2;
    return this.#nodeIn(word + CHILD + bit, this.#i32[word + PREFIX_LENGTH]!);
  }

  /** The node that a word of `space.i32` leads to if its prefix is longer than `above` bits, else 0. */
  #nodeIn(word: number, above: number): number {
    const i32 = this.#i32;
    const node = i32[word]! >>> 0;
    if (!this.#isEntry(node) && !this.#isFork(node)) return 0;
    const length = i32[(node >>> 2) + PREFIX_LENGTH]!;
    return length > above && length <= this.#maxPrefix ? node : 0;
  }

  /**
   * Whether an entry may lie at an address: all of it is then in the entries' region. That it lies where one
   * starts is seen to where a node is taken into use and where a key is handed out.
   */
  #isEntry(node: number): boolean {
    return (node - this.#values) >>> 0 <= this.#lastValue;
  }

  #isFork(node: number): boolean {
    return (node - this.#forks) >>> 0 <= this.#lastFork;
  }

  /**
   * How many leading bits a node's prefix and the first `length` bits of a key have in common. The first `known` are those
   * of the node above, which has them in common with both: a walk down compares each byte once.
   */
  #commonBits(node: number, bytes: Uint8Array, at: number, length: number, known: number): number {
    const limit = Math.min(this.#i32[(node >>> 2) + PREFIX_LENGTH]!, length);
    return commonBits(this.#u8, node + DATA, bytes, at, limit, known);
  }

  /**
   * A fork at the first `length` bits of a key. There is one left (see LPM_TRIE_KIND) unless memory was
   * overwritten: then undefined.
   */
  #newFork(bytes: Uint8Array, at: number, length: number): number | undefined {
    const fork = this.#take(FREE_FORK, this.#forks, this.#shape.forkStride, this.attributes.maxEntries - 1);
    if (fork === 0) return undefined;
    this.#setData(fork, bytes, at);
    this.#i32[(fork >>> 2) + PREFIX_LENGTH] = length;
    return fork;
  }

  #setData(node: number, bytes: Uint8Array, at: number): void {
    for (let i = 0; i < this.#shape.dataSize; i++) this.#u8[node + DATA + i] = bytes[at + i]!;
  }

  /** Takes a node from a free list, or the next that was never used; 0 when there is none. */
  #take(freeWord: number, nodes: number, stride: number, count: number): number {
    const i32 = this.#i32;
    const free = i32[this.header + freeWord]! >>> 0;
    const offset = free - nodes;
    if (offset >= 0 && offset < stride * count && offset % stride === 0) {
      i32[this.header + freeWord] = i32[(free >>> 2) + CHILD]!;
      return free;
    }
    const fresh = i32[this.header + freeWord + 1]! >>> 0;
    if (fresh >= count) return 0;
    i32[this.header + freeWord + 1] = fresh + 1;
    return nodes + fresh * stride;
  }

  #give(freeWord: number, node: number): void {
    this.#i32[(node >>> 2) + CHILD] = this.#i32[this.header + freeWord]!;
    this.#i32[this.header + freeWord] = node;
  }
}

/** Whether a key comes before another in post-order: longer prefixes first, then the next bit 0 before 1. */
function comesBefore(key: Uint8Array, other: Uint8Array): boolean {
  const [length, otherLength] = [indexOf(key), indexOf(other)];
  const limit = Math.min(length, otherLength);
  const common = commonBits(key, U32_SIZE, other, U32_SIZE, limit, 0);
  if (common < limit) return bitAt(key, U32_SIZE, common) === 0;
  return length > otherLength;
}

/** How many of the first `limit` bits of two keys' data are the same; the first `known` are. */
function commonBits(
  a: Uint8Array,
  atA: number,
  b: Uint8Array,
  atB: number,
  limit: number,
  known: number,
): number {
  for (let byte = known >>> 3; byte * 8 < limit; byte++) {
    const difference = a[atA + byte]! ^ b[atB + byte]!;
    if (difference !== 0) return Math.min(limit, byte * 8 + Math.clz32(difference) - 24);
  }
  return limit;
}

/** Bit `n` of a key's data, the most significant bit of the first byte being bit 0. */
function bitAt(bytes: Uint8Array, at: number, n: number): number {
  return (bytes[at + (n >>> 3)]! >>> (7 - (n & 7))) & 1;
}
