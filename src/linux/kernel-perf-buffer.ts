import type { MapRecord } from '../bpf/runtime/bpf-map.js';
import { closeFd } from './bpf-attr.js';
import { libc, type MappedMemory } from './libc.js';

/** `struct perf_event_attr` (include/uapi/linux/perf_event.h), as long as its first version. */
const ATTR_SIZE = 64;
const ATTR = { type: 0, size: 4, config: 8, sample_period: 16, sample_type: 24, wakeup_events: 48 } as const;
const PERF_TYPE_SOFTWARE = 1;
const PERF_COUNT_SW_BPF_OUTPUT = 10n;
const PERF_SAMPLE_RAW = 1n << 10n;
const PERF_FLAG_FD_CLOEXEC = 8;

/** `struct perf_event_mmap_page`: positions in the data, which begins a page later, both only growing. */
const DATA_HEAD = 1024;
const DATA_TAIL = 1032;

/** `struct perf_event_header`: type u32, misc u16, size u16, the header included. */
const HEADER = 8;
/** Bytes of a sample's length, in front of its data. */
const DATA_LENGTH = 4;
const PERF_RECORD_LOST = 2;
const PERF_RECORD_SAMPLE = 9;

const PROT_READ_WRITE = 3;

/** What programs on one CPU send into a PERF_EVENT_ARRAY: a software event and its ring of records. */
export class KernelPerfBuffer {
  readonly #memory: MappedMemory;
  readonly #head: BigInt64Array;
  readonly #tail: BigInt64Array;
  readonly #data: Uint8Array;
  #lost = 0;

  /** `size` is a power of two of whole pages. Gives `-errno` where the event cannot be had (ENODEV: no such CPU). */
  static open(cpu: number, size: number, pageSize: number): KernelPerfBuffer | number {
    const attr = new Uint8Array(ATTR_SIZE);
    const view = new DataView(attr.buffer);
    view.setUint32(ATTR.type, PERF_TYPE_SOFTWARE, true);
    view.setUint32(ATTR.size, ATTR_SIZE, true);
    view.setBigUint64(ATTR.config, PERF_COUNT_SW_BPF_OUTPUT, true);
    view.setBigUint64(ATTR.sample_period, 1n, true);
    view.setBigUint64(ATTR.sample_type, PERF_SAMPLE_RAW, true);
    view.setUint32(ATTR.wakeup_events, 1, true);
    const fd = libc().perfEventOpen(attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0) return fd;
    const memory = libc().mmap(fd, 0, pageSize + size, PROT_READ_WRITE);
    if (typeof memory === 'number') {
      closeFd(fd);
      return memory;
    }
    return new KernelPerfBuffer(cpu, fd, memory, pageSize);
  }

  /** Bytes of records, with their headers. */
  get size(): number {
    return this.#data.length;
  }

  private constructor(
    readonly cpu: number,
    readonly fd: number,
    memory: MappedMemory,
    pageSize: number,
  ) {
    const { buffer } = memory.bytes;
    this.#memory = memory;
    this.#head = new BigInt64Array(buffer, DATA_HEAD, 1);
    this.#tail = new BigInt64Array(buffer, DATA_TAIL, 1);
    this.#data = new Uint8Array(buffer, pageSize);
  }

  /**
   * Bytes of data of the oldest record; undefined when there is none. With its length of 4 bytes each is a multiple of 8
   * long: up to 7 bytes at its end are no data, and mean nothing.
   */
  get next(): number | undefined {
    const head = Atomics.load(this.#head, 0);
    for (;;) {
      const tail = Atomics.load(this.#tail, 0);
      if (tail >= head) return undefined;
      const { type, size } = this.#header(tail);
      // Nobody but the kernel writes here; a length that is none would never end.
      if (size < HEADER) return undefined;
      if (type === PERF_RECORD_SAMPLE) return this.#u32(tail + BigInt(HEADER));
      if (type === PERF_RECORD_LOST) {
        const body = this.#read(tail + BigInt(HEADER), size - HEADER);
        this.#lost += Number(new DataView(body.buffer).getBigUint64(8, true));
      }
      this.#pass(tail);
    }
  }

  /** Takes out the oldest record; there is one. */
  take(): MapRecord {
    const bytes = this.next!;
    const tail = Atomics.load(this.#tail, 0);
    const data = this.#read(tail + BigInt(HEADER + DATA_LENGTH), bytes);
    const record = { cpu: this.cpu, data, lost: this.#lost };
    this.#lost = 0;
    this.#pass(tail);
    return record;
  }

  /** Drops the oldest record, if there is one: it counts as lost. */
  skip(): void {
    if (this.next === undefined) return;
    this.#lost++;
    this.#pass(Atomics.load(this.#tail, 0));
  }

  close(): void {
    libc().munmap(this.#memory);
    closeFd(this.fd);
  }

  #header(tail: bigint): { readonly type: number; readonly size: number } {
    const view = new DataView(this.#read(tail, HEADER).buffer);
    return { type: view.getUint32(0, true), size: view.getUint16(6, true) };
  }

  #u32(position: bigint): number {
    return new DataView(this.#read(position, 4).buffer).getUint32(0, true);
  }

  #pass(tail: bigint): void {
    Atomics.store(this.#tail, 0, tail + BigInt(this.#header(tail).size));
  }

  /** A copy of what may run over the end. */
  #read(position: bigint, length: number): Uint8Array {
    const size = this.#data.length;
    const at = Number(position & BigInt(size - 1));
    const bytes = new Uint8Array(length);
    const first = Math.min(length, size - at);
    bytes.set(this.#data.subarray(at, at + first));
    bytes.set(this.#data.subarray(0, length - first), first);
    return bytes;
  }
}
