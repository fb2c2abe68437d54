import { EINVAL, ENOTSUPP, EOPNOTSUPP } from '../../src/bpf/errno.js';
import { BPF_F_NUMA_NODE } from '../../src/bpf/map-spec.js';
import type { BpfMap, MapRecord, RecordRoom } from '../../src/bpf/runtime/bpf-map.js';
import {
  BPF_RINGBUF_BUSY_BIT,
  BPF_RINGBUF_DISCARD_BIT,
  RING_LENGTH_MASK,
  type MapLayout,
} from '../../src/bpf/runtime/map-layout.js';
import { PAGE_SIZE, onlyFlags } from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, cpuWordOf, type MapPlacement } from './memory-map.js';

/** Bytes in front of each record (`BPF_RINGBUF_HDR_SZ`). */
export const RINGBUF_HEADER_SIZE = 8;
/** What `ringQuery` is asked for (`bpf_ringbuf_query`). */
export const BPF_RB_AVAIL_DATA = 0;
export const BPF_RB_RING_SIZE = 1;
export const BPF_RB_CONS_POS = 2;
export const BPF_RB_PROD_POS = 3;

/** `RINGBUF_MAX_RECORD_SZ` of the kernel. */
const MAX_RECORD_SIZE = 0x3fff_ffff;
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
  readonly layout: MapLayout;
  readonly #data: number;
  readonly #size: number;
  readonly #cpuWord: number;

  constructor(placement: MapPlacement) {
    super(placement, 0);
    this.#data = placement.regions[1]!.start;
    this.#size = this.attributes.maxEntries;
    this.#cpuWord = cpuWordOf(this.runtime);
    this.layout = {
      kind: 'ring',
      data: this.#data,
      size: this.#size,
      producer: 4 * (this.header + PRODUCER),
      consumer: 4 * (this.header + CONSUMER),
      lost: 4 * (this.header + LOST),
    };
  }

  ringReserve(size: number): number {
    const { i32 } = this.space;
    const total = totalBytes(size);
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
  drainRecords(room?: RecordRoom): MapRecord[] {
    const { i32, u8 } = this.space;
    const records: MapRecord[] = [];
    let left = room?.bytes ?? Infinity;
    const beside = room?.recordBytes ?? 0;
    // One buffer for all: of their own they would take most of the time.
    let data: Uint8Array | undefined;
    let end = 0;
    for (let length = this.nextRecordBytes(); length !== undefined; length = this.nextRecordBytes()) {
      left -= beside + length;
      if (left < 0 || records.length === room?.records) break;
      data ??= new Uint8Array(Math.min(this.#used(), room?.bytes ?? Infinity));
      const record = this.#recordAt(CONSUMER);
      const origin = i32[(record >>> 2) + 1]!;
      const cpu = origin & 0xffff;
      const start = record + RINGBUF_HEADER_SIZE;
      data.set(u8.subarray(start, start + length), end);
      records.push({
        cpu: cpu < this.runtime.cpus ? cpu : 0,
        data: data.subarray(end, end + length),
        lost: origin >>> 16,
      });
      end += length;
      this.#advance(CONSUMER, totalBytes(length));
    }
    return records;
  }

  /** Drops what was discarded in front of it. */
  nextRecordBytes(): number | undefined {
    const { i32 } = this.space;
    // A program may have discarded as many as the ring can hold: each takes a few nanoseconds.
    const consumer = i32[this.header + CONSUMER]!;
    const there = this.#used();
    const data = this.#data;
    const mask = this.#size - 8;
    let used = there > this.#size ? 0 : there;
    let lost = 0;
    let next: number | undefined;
    while (used > 0) {
      const record = (data + ((consumer + there - used) & mask)) >>> 2;
      const header = i32[record]! >>> 0;
      if (header >= BPF_RINGBUF_BUSY_BIT) break;
      const length = header & RING_LENGTH_MASK;
      const total = totalBytes(length);
      if (total > used) {
        // Only a program that wrote beyond its record can bring this about; what follows cannot be told apart.
        used = 0;
      } else if ((header & BPF_RINGBUF_DISCARD_BIT) === 0) {
        next = length;
        break;
      } else {
        used -= total;
        lost += i32[record + 1]! >>> 16;
      }
    }
    if (used !== there) this.#pass(there - used, lost);
    return next;
  }

  skipRecord(): void {
    const length = this.nextRecordBytes();
    if (length === undefined) return;
    const before = this.space.i32[(this.#recordAt(CONSUMER) >>> 2) + 1]! >>> 16;
    this.#pass(totalBytes(length), before + 1);
  }

  copyRecords(from: BpfMap): number {
    if (!(from instanceof RingBuffer) || from.#size !== this.#size) return -EOPNOTSUPP;
    for (const word of [PRODUCER, PRODUCER + 1, CONSUMER, CONSUMER + 1, LOST]) {
      this.space.i32[this.header + word] = from.space.i32[from.header + word]!;
    }
    const used = this.#used();
    // As if it were empty: see `nextRecordBytes`.
    if (used > this.#size) return 0;
    const start = this.#recordAt(CONSUMER) - this.#data;
    this.#copy(from, start, start + used);
    // What begins at the end runs on behind it, and the next record begins at the start all the same.
    if (start + used > this.#size) this.#copy(from, 0, start + used - this.#size);
    return used;
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

  /** Goes on by so many bytes; what was lost up to there is told with what comes next. */
  #pass(bytes: number, lost: number): void {
    const { i32 } = this.space;
    this.#advance(CONSUMER, bytes);
    if (lost === 0) return;
    if (this.#used() === 0) {
      i32[this.header + LOST] = Math.min((i32[this.header + LOST]! >>> 0) + lost, MAX_LOST);
      return;
    }
    const origin = (this.#recordAt(CONSUMER) >>> 2) + 1;
    i32[origin] = (i32[origin]! & 0xffff) | (Math.min((i32[origin]! >>> 16) + lost, MAX_LOST) << 16);
  }

  #copy(from: RingBuffer, start: number, end: number): void {
    this.space.write(this.#data + start, from.space.u8.subarray(from.#data + start, from.#data + end));
  }

  #commit(recordAddress: number, discard: number): void {
    const offset = recordAddress - RINGBUF_HEADER_SIZE - this.#data;
    if (offset < 0 || offset >= this.#size || (offset & 7) !== 0) return;
    const word = (recordAddress - RINGBUF_HEADER_SIZE) >>> 2;
    this.space.i32[word] = (this.space.i32[word]! & RING_LENGTH_MASK) | discard;
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

/** Bytes that a record of that length takes of the ring. */
function totalBytes(length: number): number {
  return (length + RINGBUF_HEADER_SIZE + 7) & ~7;
}
