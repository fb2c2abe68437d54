import { EINVAL, ENOTSUPP } from '../../src/bpf/errno.js';
import { BPF_F_NUMA_NODE } from '../../src/bpf/map-spec.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import type { MapRecord } from '../../src/bpf/runtime/bpf-map.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import { PAGE_SIZE, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, cpuWordOf, type MapPlacement } from './memory-map.js';

/** Bytes in front of each record (`BPF_RINGBUF_HDR_SZ`). */
export const RINGBUF_HEADER_SIZE = 8;
export const BPF_RINGBUF_BUSY_BIT = 0x8000_0000;
export const BPF_RINGBUF_DISCARD_BIT = 0x4000_0000;
/** What `ringQuery` is asked for (`bpf_ringbuf_query`). */
export const BPF_RB_AVAIL_DATA = 0;
export const BPF_RB_RING_SIZE = 1;
export const BPF_RB_CONS_POS = 2;
export const BPF_RB_PROD_POS = 3;

/** `RINGBUF_MAX_RECORD_SZ` of the kernel. */
const MAX_RECORD_SIZE = 0x3fff_ffff;
const LENGTH_MASK = 0x3fff_ffff;
const MAX_LOST = 0xffff;

/** Header words: two positions of 64 bits that only grow, and records lost since the last reservation. */
const PRODUCER = HEADER_WORD.own;
const CONSUMER = HEADER_WORD.own + 2;
const LOST = HEADER_WORD.own + 4;

/**
 * RINGBUF: `maxEntries` bytes, of which a record takes 8 (its header) + its size, rounded up to 8.
 *
 * ```
 *   record:  +0  u32 length | busy bit 31 | discard bit 30
 *            +4  u16 CPU that reserved it, u16 records lost before it (65535: that many or more)
 *            +8  data; the address that bpf_ringbuf_reserve returns
 * ```
 * The kernel maps its pages twice in a row so that a record that wraps stays contiguous. A linear memory cannot
 * do that, so the region is twice the size and a record that starts near the end runs on into the second half,
 * which nothing else uses meanwhile: the bytes it stands for at the start are not handed out.
 */
export const RINGBUF_KIND: MapKind = {
  check({ keySize, valueSize, maxEntries, flags }) {
    const powerOfTwo = maxEntries > 0 && (maxEntries & (maxEntries - 1)) === 0;
    if (!onlyFlags(flags, BPF_F_NUMA_NODE) || keySize !== 0 || valueSize !== 0) return -EINVAL;
    return powerOfTwo && maxEntries % PAGE_SIZE === 0 ? 0 : -EINVAL;
  },
  regions({ maxEntries }, { label }) {
    const description = { kind: 'map-element', label: `a record of ${label}`, access: 'read-write' } as const;
    return [{ size: 2 * maxEntries, description }];
  },
};

export class RingBuffer extends MemoryMap {
  readonly layout: MapLayout = { kind: 'opaque' };
  readonly #data: number;
  readonly #size: number;
  readonly #cpuWord: number;

  constructor(placement: MapPlacement) {
    super(placement, 0);
    this.#data = placement.regions[1]!.start;
    this.#size = this.attributes.maxEntries;
    this.#cpuWord = cpuWordOf(this.runtime);
  }

  ringReserve(size: number): number {
    const { i32 } = this.space;
    const total = roundUp(size + RINGBUF_HEADER_SIZE, 8);
    // One byte short of the size at most, as in the kernel: equal positions mean empty.
    if (size < 0 || size > MAX_RECORD_SIZE || this.#used() + total > this.#size - 1) {
      const lost = i32[this.header + LOST]!;
      if (lost < MAX_LOST) i32[this.header + LOST] = lost + 1;
      return 0;
    }
    const record = this.#recordAt(PRODUCER);
    i32[record >>> 2] = size | BPF_RINGBUF_BUSY_BIT;
    i32[(record >>> 2) + 1] = (i32[this.#cpuWord]! & 0xffff) | (i32[this.header + LOST]! << 16);
    i32[this.header + LOST] = 0;
    this.#advance(PRODUCER, total);
    return record + RINGBUF_HEADER_SIZE;
  }

  ringSubmit(recordAddress: number, _flags: number): number {
    this.#commit(recordAddress, 0);
    return 0;
  }

  ringDiscard(recordAddress: number, _flags: number): number {
    this.#commit(recordAddress, BPF_RINGBUF_DISCARD_BIT);
    return 0;
  }

  ringQuery(flags: number): bigint {
    switch (flags) {
      case BPF_RB_AVAIL_DATA:
        return BigInt(this.#used());
      case BPF_RB_RING_SIZE:
        return BigInt(this.#size);
      case BPF_RB_CONS_POS:
        return this.#position(CONSUMER);
      case BPF_RB_PROD_POS:
        return this.#position(PRODUCER);
      default:
        return 0n;
    }
  }

  /** Takes what was submitted, up to the first record that is still being written. */
  drainRecords(): MapRecord[] {
    const { i32 } = this.space;
    const records: MapRecord[] = [];
    if (this.#used() > this.#size) this.#advance(CONSUMER, this.#used());
    for (let used = this.#used(); used > 0; used = this.#used()) {
      const record = this.#recordAt(CONSUMER);
      const header = i32[record >>> 2]! >>> 0;
      if (header >= BPF_RINGBUF_BUSY_BIT) break;
      const length = header & LENGTH_MASK;
      const total = roundUp(length + RINGBUF_HEADER_SIZE, 8);
      if (total > used) {
        // Only a program that wrote beyond its record can bring this about; what follows cannot be told apart.
        this.#advance(CONSUMER, used);
        break;
      }
      if ((header & BPF_RINGBUF_DISCARD_BIT) === 0) {
        const origin = i32[(record >>> 2) + 1]!;
        const data = this.space.read(record + RINGBUF_HEADER_SIZE, length);
        const cpu = origin & 0xffff;
        records.push({ cpu: cpu < this.runtime.cpus ? cpu : 0, data, lost: origin >>> 16 });
      }
      this.#advance(CONSUMER, total);
    }
    return records;
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ENOTSUPP;
  }

  deleteElem(): number {
    return -ENOTSUPP;
  }

  protected readEntry(): number {
    return -ENOTSUPP;
  }

  protected writeEntry(): number {
    return -ENOTSUPP;
  }

  protected removeEntry(): number {
    return -ENOTSUPP;
  }

  protected keyAfter(): number {
    return -ENOTSUPP;
  }

  #commit(recordAddress: number, discard: number): void {
    const offset = recordAddress - RINGBUF_HEADER_SIZE - this.#data;
    if (offset < 0 || offset >= this.#size || (offset & 7) !== 0) return;
    const word = (recordAddress - RINGBUF_HEADER_SIZE) >>> 2;
    this.space.i32[word] = (this.space.i32[word]! & LENGTH_MASK) | discard;
  }

  #used(): number {
    const { i32 } = this.space;
    return (i32[this.header + PRODUCER]! - i32[this.header + CONSUMER]!) >>> 0;
  }

  /** Records start at multiples of 8. */
  #recordAt(position: number): number {
    return this.#data + (this.space.i32[this.header + position]! & (this.#size - 8));
  }

  #advance(position: number, bytes: number): void {
    const { i32 } = this.space;
    const low = i32[this.header + position]! >>> 0;
    i32[this.header + position] = low + bytes;
    if (low + bytes > 0xffff_ffff) i32[this.header + position + 1]!++;
  }

  #position(position: number): bigint {
    const { i32 } = this.space;
    const high = BigInt(i32[this.header + position + 1]! >>> 0);
    return (high << 32n) | BigInt(i32[this.header + position]! >>> 0);
  }
}
