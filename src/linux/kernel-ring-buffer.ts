import { errnoName } from '../bpf/errno.js';
import type { MapRecord } from '../bpf/runtime/bpf-map.js';
import { XdpbedError } from '../core/diagnostic.js';
import { libc, type MappedMemory } from './libc.js';

const PROT_READ = 1;
const PROT_WRITE = 2;

/** Of a record's length, which is 4 bytes in front of 4 others that do not matter here, all before the data. */
const BUSY = 1 << 31;
const DISCARDED = 1 << 30;
const HEADER = 8;

/**
 * The reading side of a BPF_MAP_TYPE_RINGBUF (kernel/bpf/ringbuf.c):
 * ```
 * page 0        +0 consumer_pos u64, written by who reads
 * page 1        +0 producer_pos u64
 * page 2 …      max_entries bytes of data, and the same once more, so that no record wraps
 * ```
 * Positions only grow; a record begins at a multiple of 8.
 */
export class KernelRingBuffer {
  readonly #consumer: MappedMemory;
  readonly #producer: MappedMemory;
  readonly #consumerPosition: BigInt64Array;
  readonly #producerPosition: BigInt64Array;
  readonly #lengths: Int32Array;
  readonly #data: Uint8Array;
  #lost = 0;

  /** `size` is the map's max_entries. Throws `host-unsupported` where it cannot be mapped. */
  constructor(
    fd: number,
    readonly size: number,
    pageSize: number,
  ) {
    this.#consumer = map(fd, 0, pageSize, PROT_READ | PROT_WRITE);
    try {
      this.#producer = map(fd, pageSize, pageSize + 2 * size, PROT_READ);
    } catch (error) {
      libc().munmap(this.#consumer);
      throw error;
    }
    const { buffer } = this.#producer.bytes;
    this.#consumerPosition = new BigInt64Array(this.#consumer.bytes.buffer, 0, 1);
    this.#producerPosition = new BigInt64Array(buffer, 0, 1);
    this.#lengths = new Int32Array(buffer, pageSize);
    this.#data = new Uint8Array(buffer, pageSize);
  }

  /** Bytes of data of the oldest record; undefined when there is none, or it is still being written. Drops what was discarded. */
  get next(): number | undefined {
    // Numbers do: no ring takes 2^53 bytes in its life.
    const producer = Number(Atomics.load(this.#producerPosition, 0));
    const start = this.#consumed;
    let consumer = start;
    let next: number | undefined;
    while (consumer < producer) {
      const length = Atomics.load(this.#lengths, (consumer % this.size) >> 2);
      if ((length & BUSY) !== 0) break;
      const bytes = length & ~DISCARDED;
      if ((length & DISCARDED) === 0) {
        next = bytes;
        break;
      }
      consumer += totalBytes(bytes);
    }
    if (consumer !== start) this.#consumed = consumer;
    return next;
  }

  /**
   * Takes out the oldest record; there is one. The kernel tells neither the CPU that it came from nor how many found no
   * room: 0, and those that were dropped here.
   */
  take(): MapRecord {
    const bytes = this.next!;
    const start = (this.#consumed % this.size) + HEADER;
    const record = { cpu: 0, data: this.#data.slice(start, start + bytes), lost: this.#lost };
    this.#lost = 0;
    this.#consumed += totalBytes(bytes);
    return record;
  }

  /** Drops the oldest record, if there is one: it counts as lost. */
  skip(): void {
    const bytes = this.next;
    if (bytes === undefined) return;
    this.#lost++;
    this.#consumed += totalBytes(bytes);
  }

  close(): void {
    libc().munmap(this.#consumer);
    libc().munmap(this.#producer);
  }

  /** Position up to which records were taken out. */
  get #consumed(): number {
    return Number(Atomics.load(this.#consumerPosition, 0));
  }

  set #consumed(position: number) {
    Atomics.store(this.#consumerPosition, 0, BigInt(position));
  }
}

/** Bytes that a record of so many takes of the ring. */
function totalBytes(bytes: number): number {
  return Math.ceil((HEADER + bytes) / 8) * 8;
}

function map(fd: number, at: number, length: number, protection: number): MappedMemory {
  const mapped = libc().mmap(fd, at, length, protection);
  if (typeof mapped === 'number') {
    throw new XdpbedError('host-unsupported', `a ring buffer cannot be mapped: ${errnoName(mapped)}`);
  }
  return mapped;
}
