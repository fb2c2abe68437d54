import { E2BIG, EBADF, EINVAL, ENOENT, ENOSPC, ENOTSUPP, EOPNOTSUPP } from '../../src/bpf/errno.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import { roundUp } from '../../src/bpf/runtime/address-space.js';
import type { MapRecord, RecordRoom } from '../../src/bpf/runtime/bpf-map.js';
import type { MapLayout } from '../../src/bpf/runtime/map-layout.js';
import {
  BPF_F_PRESERVE_ELEMS,
  NUMA_AND_SYSCALL_ACCESS,
  U32_SIZE,
  accessFlagsOk,
  onlyFlags,
} from './kernel-limits.js';
import { HEADER_WORD, type MapKind } from './map-plan.js';
import { MemoryMap, cpuWordOf, indexAfter, indexOf, type MapPlacement } from './memory-map.js';

/** Header word: number of the next record, over all CPUs. */
const SEQUENCE = HEADER_WORD.own;

/** Words of a CPU's buffer in front of its data: position of the oldest record, bytes used, records lost. */
const OLDEST = 0;
const USED = 1;
const LOST = 2;
const BUFFER_HEADER_SIZE = 16;
/** Words of a record's header: size of the data, records lost before it, sequence number. */
const RECORD_HEADER_SIZE = 16;

function buffersFor(attributes: MapAttributes, cpus: number): number {
  return Math.min(attributes.maxEntries, cpus);
}

/**
 * PERF_EVENT_ARRAY: one word per entry (1: an event is open there), then one buffer for each CPU that has
 * an entry, as entry n holds the event of CPU n.
 */
export const PERF_EVENT_ARRAY_KIND: MapKind = {
  check({ keySize, valueSize, maxEntries, flags }) {
    if (maxEntries === 0 || keySize !== U32_SIZE || valueSize !== U32_SIZE) return -EINVAL;
    const allowed = NUMA_AND_SYSCALL_ACCESS | BPF_F_PRESERVE_ELEMS;
    return onlyFlags(flags, allowed) && accessFlagsOk(flags) ? 0 : -EINVAL;
  },
  regions(attributes, { label, cpus, perfBufferBytes }) {
    const access = 'none';
    return [
      {
        size: U32_SIZE * attributes.maxEntries,
        description: { kind: 'map', label: `the events of ${label}`, access },
      },
      {
        size: (BUFFER_HEADER_SIZE + perfBufferBytes) * buffersFor(attributes, cpus),
        description: { kind: 'map', label: `the records of ${label}`, access },
      },
    ];
  },
};

/**
 * PERF_EVENT_ARRAY. An update opens the event of the CPU that the key names (any fd that is not negative will
 * do; there is nothing behind it but the map's own buffer), a deletion closes it.
 */
export class PerfEventArray extends MemoryMap {
  readonly layout: MapLayout = { kind: 'opaque' };
  readonly #events: number;
  readonly #buffers: number;
  readonly #bufferCount: number;
  readonly #bufferBytes: number;
  readonly #cpuWord: number;

  constructor(placement: MapPlacement) {
    super(placement, U32_SIZE);
    this.#events = placement.regions[1]!.start >>> 2;
    this.#buffers = placement.regions[2]!.start;
    this.#bufferCount = buffersFor(this.attributes, this.runtime.cpus);
    this.#bufferBytes = placement.regions[2]!.size / this.#bufferCount - BUFFER_HEADER_SIZE;
    this.#cpuWord = cpuWordOf(this.runtime);
  }

  /**
   * -E2BIG for an index beyond the map, -ENOENT for an entry without an event, -EOPNOTSUPP for the event of
   * another CPU, -ENOSPC (and one more record lost) when the buffer has no room.
   */
  outputRecord(index: number, data: Uint8Array): number {
    const { i32 } = this.space;
    if (index >= this.attributes.maxEntries) return -E2BIG;
    if (i32[this.#events + index] === 0) return -ENOENT;
    if (index !== i32[this.#cpuWord]! || index >= this.#bufferCount) return -EOPNOTSUPP;
    const buffer = this.#bufferWord(index);
    const used = this.#used(buffer);
    const total = roundUp(RECORD_HEADER_SIZE + data.length, 8);
    if (used + total > this.#bufferBytes) {
      i32[buffer + LOST]!++;
      return -ENOSPC;
    }
    const at = i32[buffer + OLDEST]! + used;
    const header = Uint32Array.of(data.length, i32[buffer + LOST]!, i32[this.header + SEQUENCE]!, 0);
    this.#store(buffer, at, new Uint8Array(header.buffer));
    this.#store(buffer, at + RECORD_HEADER_SIZE, data);
    i32[buffer + USED] = used + total;
    i32[buffer + LOST] = 0;
    i32[this.header + SEQUENCE]!++;
    return 0;
  }

  drainRecords(room?: RecordRoom): MapRecord[] {
    const records: MapRecord[] = [];
    let left = room?.bytes ?? Infinity;
    const beside = room?.recordBytes ?? 0;
    const fronts = this.#fronts();
    for (let cpu = oldestOf(fronts); cpu >= 0; cpu = oldestOf(fronts)) {
      const { size, lost, total, oldest } = fronts[cpu]!;
      left -= beside + size;
      if (left < 0 || records.length === room?.records) break;
      const buffer = this.#bufferWord(cpu);
      records.push({ cpu, data: this.#load(buffer, oldest + RECORD_HEADER_SIZE, size), lost });
      this.#drop(buffer, total);
      fronts[cpu] = this.#front(buffer);
    }
    return records;
  }

  nextRecordBytes(): number | undefined {
    const fronts = this.#fronts();
    return fronts[oldestOf(fronts)]?.size;
  }

  skipRecord(): void {
    const fronts = this.#fronts();
    const cpu = oldestOf(fronts);
    const front = fronts[cpu];
    if (front === undefined) return;
    const { i32 } = this.space;
    const buffer = this.#bufferWord(cpu);
    const lost = front.lost + 1;
    this.#drop(buffer, front.total);
    const next = this.#front(buffer);
    if (next === undefined) {
      i32[buffer + LOST] = (i32[buffer + LOST]! >>> 0) + lost;
      return;
    }
    const count = Uint32Array.of(next.lost + lost);
    this.#store(buffer, next.oldest + Uint32Array.BYTES_PER_ELEMENT, new Uint8Array(count.buffer));
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

  protected readEntry(): number {
    return -ENOTSUPP;
  }

  protected writeEntry(key: Uint8Array, value: Uint8Array, flags: number): number {
    if (flags !== 0) return -EINVAL;
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    if ((indexOf(value) | 0) < 0) return -EBADF;
    this.#setEvent(index, 1);
    return 0;
  }

  protected removeEntry(key: Uint8Array): number {
    const index = indexOf(key);
    if (index >= this.attributes.maxEntries) return -E2BIG;
    return this.#setEvent(index, 0) === 0 ? -ENOENT : 0;
  }

  protected keyAfter(key: Uint8Array | null): Uint8Array | number {
    return indexAfter(key, this.attributes.maxEntries);
  }

  #setEvent(index: number, open: number): number {
    const { i32 } = this.space;
    const before = i32[this.#events + index]!;
    i32[this.#events + index] = open;
    i32[this.header + HEADER_WORD.count]! += open - before;
    return before;
  }

  #bufferWord(cpu: number): number {
    return (this.#buffers + cpu * (BUFFER_HEADER_SIZE + this.#bufferBytes)) >>> 2;
  }

  /** The oldest record of each CPU. */
  #fronts(): (Front | undefined)[] {
    return Array.from({ length: this.#bufferCount }, (_, cpu) => this.#front(this.#bufferWord(cpu)));
  }

  /** The oldest record of a CPU's buffer, which is emptied when it cannot be true. */
  #front(buffer: number): Front | undefined {
    const { i32 } = this.space;
    const used = this.#used(buffer);
    if (used === 0) return undefined;
    const oldest = i32[buffer + OLDEST]!;
    const header = new Uint32Array(this.#load(buffer, oldest, RECORD_HEADER_SIZE).buffer);
    const [size, lost, sequence] = [header[0]!, header[1]!, header[2]!];
    const total = roundUp(RECORD_HEADER_SIZE + size, 8);
    if (total <= used) return { size, lost, sequence, total, oldest };
    i32[buffer + USED] = 0;
    return undefined;
  }

  /** Takes away the `total` bytes of the oldest record. */
  #drop(buffer: number, total: number): void {
    const { i32 } = this.space;
    i32[buffer + OLDEST] = (i32[buffer + OLDEST]! + total) % this.#bufferBytes;
    i32[buffer + USED]! -= total;
  }

  /** Bytes in use of a CPU's buffer, which is emptied when its words cannot be true. */
  #used(buffer: number): number {
    const { i32 } = this.space;
    const oldest = i32[buffer + OLDEST]! >>> 0;
    const used = i32[buffer + USED]! >>> 0;
    if (oldest < this.#bufferBytes && used <= this.#bufferBytes && ((oldest | used) & 7) === 0) return used;
    i32[buffer + OLDEST] = 0;
    i32[buffer + USED] = 0;
    return 0;
  }

  /** Copies into a CPU's buffer from a position that counts on past its end. */
  #store(buffer: number, position: number, bytes: Uint8Array): void {
    const base = 4 * buffer + BUFFER_HEADER_SIZE;
    const at = position % this.#bufferBytes;
    const room = this.#bufferBytes - at;
    this.space.write(base + at, bytes.subarray(0, room));
    this.space.write(base, bytes.subarray(room));
  }

  #load(buffer: number, position: number, size: number): Uint8Array {
    const base = 4 * buffer + BUFFER_HEADER_SIZE;
    const at = position % this.#bufferBytes;
    const bytes = new Uint8Array(size);
    const head = Math.min(size, this.#bufferBytes - at);
    bytes.set(this.space.u8.subarray(base + at, base + at + head));
    bytes.set(this.space.u8.subarray(base, base + size - head), head);
    return bytes;
  }
}

/** A record as it lies in a CPU's buffer. */
interface Front {
  /** Bytes of its data. */
  readonly size: number;
  readonly lost: number;
  readonly sequence: number;
  /** Bytes that it takes. */
  readonly total: number;
  /** Where it begins. */
  readonly oldest: number;
}

/** The CPU whose record came first; -1: there is none. */
function oldestOf(fronts: readonly (Front | undefined)[]): number {
  let oldest = -1;
  fronts.forEach((front, cpu) => {
    if (front === undefined) return;
    // Sequence numbers wrap at 2^32; there are never that many records at a time.
    if (oldest < 0 || ((front.sequence - fronts[oldest]!.sequence) | 0) < 0) oldest = cpu;
  });
  return oldest;
}
