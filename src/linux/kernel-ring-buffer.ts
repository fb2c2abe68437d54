import { errnoName } from '../bpf/errno.js';
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
  readonly #size: number;

  /** `size` is the map's max_entries. Throws `host-unsupported` where it cannot be mapped. */
  constructor(fd: number, size: number, pageSize: number) {
    this.#size = size;
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

  /** Records that are there now, oldest first, up to one that is still being written. */
  drain(): Uint8Array[] {
    const records: Uint8Array[] = [];
    let consumer = Atomics.load(this.#consumerPosition, 0);
    const producer = Atomics.load(this.#producerPosition, 0);
    while (consumer < producer) {
      const at = Number(consumer & BigInt(this.#size - 1));
      const length = Atomics.load(this.#lengths, at >> 2);
      if ((length & BUSY) !== 0) break;
      const bytes = length & ~DISCARDED;
      const start = at + HEADER;
      if ((length & DISCARDED) === 0) records.push(this.#data.slice(start, start + bytes));
      consumer += BigInt(HEADER + bytes + 7) & ~7n;
      Atomics.store(this.#consumerPosition, 0, consumer);
    }
    return records;
  }

  close(): void {
    libc().munmap(this.#consumer);
    libc().munmap(this.#producer);
  }
}

function map(fd: number, at: number, length: number, protection: number): MappedMemory {
  const mapped = libc().mmap(fd, at, length, protection);
  if (typeof mapped === 'number') {
    throw new XdpbedError('host-unsupported', `a ring buffer cannot be mapped: ${errnoName(mapped)}`);
  }
  return mapped;
}
