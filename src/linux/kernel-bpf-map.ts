import { EBADF, EINVAL } from '../bpf/errno.js';
import { BPF_MAP_TYPE as T, type MapAttributes } from '../bpf/map-spec.js';
import type { BpfMap, MapBatch, MapRecord, RecordRoom } from '../bpf/runtime/bpf-map.js';
import {
  closeFd,
  mapDelete,
  mapFreeze,
  mapLookup,
  mapLookupAndDelete,
  mapLookupBatch,
  mapNextKey,
  mapUpdate,
} from './bpf-syscall.js';
import { fdValue, kernelValueSize, PAGE_SIZE } from './kernel-map.js';
import { KernelPerfBuffer } from './kernel-perf-buffer.js';
import { KernelRingBuffer } from './kernel-ring-buffer.js';
import type { NetworkNamespace } from './network-namespace.js';
import { programFd } from './program-registry.js';

/** Of a record's header, in either kind of buffer. */
const RECORD_HEADER_BYTES = 8;

export interface KernelBpfMapOptions {
  /** Where the devices are that entries of a DEVMAP name; default: where the calling thread is. */
  readonly namespace?: NetworkNamespace | undefined;
  /** Bytes of each CPU's buffer of a PERF_EVENT_ARRAY: a power of two of whole pages; default 64 KiB. */
  readonly perfBufferBytes?: number | undefined;
  /** Called once, when it is closed. */
  readonly onClose?: (() => void) | undefined;
  /** Called once, when neither this nor a map of maps that it was put into holds the map any more. */
  readonly onRelease?: (() => void) | undefined;
}

/** Types whose values are file descriptors. */
const FD_VALUES: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_PROG_ARRAY,
  T.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
  T.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  T.BPF_MAP_TYPE_HASH_OF_MAPS,
  T.BPF_MAP_TYPE_XSKMAP,
]);
/** Types whose values may have the file descriptor of a program behind their first four bytes. */
const PROGRAM_VALUES: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_DEVMAP,
  T.BPF_MAP_TYPE_DEVMAP_HASH,
  T.BPF_MAP_TYPE_CPUMAP,
]);
/** Types whose entries the kernel looks up in the network namespace of who sets them. */
const NAMESPACE_TYPES: ReadonlySet<number> = new Set([...PROGRAM_VALUES, T.BPF_MAP_TYPE_XSKMAP]);

/** Bytes: 16 pages, what most readers of perf buffers ask for. */
export const DEFAULT_PERF_BUFFER_BYTES = 65_536;

/** A file descriptor that nobody can have open, below 0 and above: the kernel takes those below 0 for none at all. */
const NO_FD = fdValue(0xffff_ffff);
const UNKNOWN_FD = 0x7fff_ffff;

/**
 * A map of the kernel, by its file descriptor, which it owns. Every operation is one bpf(2) call, and what it says is
 * what the kernel says, but for file descriptors: whoever uses a {@link BpfMap} has none, so those in values are not
 * believed.
 * - PROG_ARRAY, maps of maps and XSKMAP: `update` says EBADF where the kernel would have looked the value up;
 *   `setProgram` and `setInnerMap` put something in.
 * - PERF_EVENT_ARRAY: `update` with any value that could be a file descriptor opens an event of the CPU that the key
 *   names, as whoever reads records does first.
 * - DEVMAP and CPUMAP: a program stands in a value by its id (`LoadedProgram.id`) when it is set, as when it is read.
 *
 * After `close` every operation says EBADF.
 */
export class KernelBpfMap implements BpfMap {
  readonly syscallValueSize: number;
  readonly drainRecords?: (room?: RecordRoom) => MapRecord[];
  readonly nextRecordBytes?: () => number | undefined;
  readonly skipRecord?: () => void;
  readonly #namespace: NetworkNamespace | undefined;
  readonly #onClose: (() => void) | undefined;
  readonly #onRelease: (() => void) | undefined;
  /** Of a map of maps: what was put under which key, in hex. */
  readonly #inner = new Map<string, KernelBpfMap>();
  /** 1 for `fd`, + 1 for each entry of a map of maps. */
  #references = 1;
  #fd: number;
  #ring: KernelRingBuffer | undefined;
  /** Of a PERF_EVENT_ARRAY, by CPU. */
  readonly #events = new Map<number, KernelPerfBuffer>();
  readonly #perfBufferBytes: number;

  constructor(
    readonly name: string,
    readonly attributes: MapAttributes,
    fd: number,
    options: KernelBpfMapOptions = {},
  ) {
    this.#fd = fd;
    this.#onClose = options.onClose;
    this.#onRelease = options.onRelease;
    this.#namespace = NAMESPACE_TYPES.has(attributes.type) ? options.namespace : undefined;
    this.syscallValueSize = kernelValueSize(attributes);
    this.#perfBufferBytes = options.perfBufferBytes ?? DEFAULT_PERF_BUFFER_BYTES;
    const { type } = attributes;
    if (type === T.BPF_MAP_TYPE_RINGBUF || type === T.BPF_MAP_TYPE_PERF_EVENT_ARRAY) {
      this.drainRecords = (room) => this.#drainRecords(room);
      this.nextRecordBytes = () => this.#recordsWithNext()?.next;
      this.skipRecord = () => this.#recordsWithNext()?.skip();
    }
  }

  /** -1 once it is closed. */
  get fd(): number {
    return this.#fd;
  }

  lookup(key: Uint8Array, flags = 0n): Uint8Array | number {
    if (key.length !== this.attributes.keySize) return -EINVAL;
    return mapLookup(this.#fd, key, this.syscallValueSize, flags);
  }

  update(key: Uint8Array, value: Uint8Array, flags: bigint): number {
    // The kernel reads as much as the map says, whatever there is.
    if (key.length !== this.attributes.keySize || value.length !== this.syscallValueSize) return -EINVAL;
    if (this.attributes.type === T.BPF_MAP_TYPE_PERF_EVENT_ARRAY && flags === 0n) {
      const cpu = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
      const fd = new DataView(value.buffer, value.byteOffset).getInt32(0, true);
      if (fd >= 0 && cpu < this.attributes.maxEntries) return this.#openEvent(cpu, key);
    }
    const own = this.#withOwnFds(value);
    return this.#inNamespace(() => mapUpdate(this.#fd, key, own, flags));
  }

  delete(key: Uint8Array): number {
    if (key.length !== this.attributes.keySize) return -EINVAL;
    const status = mapDelete(this.#fd, key);
    if (status === 0) this.#letGo(key);
    return status;
  }

  nextKey(key: Uint8Array | null): Uint8Array | number {
    if (key !== null && key.length !== this.attributes.keySize) return -EINVAL;
    return mapNextKey(this.#fd, key, this.attributes.keySize);
  }

  lookupAndDelete(key: Uint8Array): Uint8Array | number {
    if (key.length !== this.attributes.keySize) return -EINVAL;
    return mapLookupAndDelete(this.#fd, key, this.syscallValueSize);
  }

  lookupBatch(cursor: Uint8Array | null, count: number): MapBatch | number {
    const { keySize, maxEntries } = this.attributes;
    const valueSize = this.syscallValueSize;
    if (cursor !== null && cursor.length !== Math.max(4, keySize)) return -EINVAL;
    const most = Math.min(count, maxEntries);
    const batch = mapLookupBatch({ fd: this.#fd, keySize, valueSize }, cursor, most);
    if (typeof batch === 'number') return batch;
    const entries = Array.from({ length: batch.count }, (_, index) => ({
      key: batch.keys.slice(index * keySize, (index + 1) * keySize),
      value: batch.values.slice(index * valueSize, (index + 1) * valueSize),
    }));
    return { entries, next: most === 0 ? cursor : batch.cursor };
  }

  freeze(): number {
    return mapFreeze(this.#fd);
  }

  /** EINVAL also for a program that does not go with those that the map has had. */
  setProgram(index: number, programId: number): number {
    if (this.attributes.type !== T.BPF_MAP_TYPE_PROG_ARRAY) return -EINVAL;
    return mapUpdate(this.#fd, fdValue(index), fdValue(programFd(programId) ?? UNKNOWN_FD));
  }

  /** EBADF for a map that is not the kernel's; EINVAL for one of other attributes than the template's. */
  setInnerMap(key: Uint8Array, inner: BpfMap): number {
    const { type, keySize } = this.attributes;
    if (type !== T.BPF_MAP_TYPE_ARRAY_OF_MAPS && type !== T.BPF_MAP_TYPE_HASH_OF_MAPS) return -EINVAL;
    if (key.length !== keySize) return -EINVAL;
    if (!isKernelMap(inner)) return -EBADF;
    const status = mapUpdate(this.#fd, key, fdValue(inner.fd));
    if (status === 0) this.#setInner(key, inner);
    return status;
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#ring?.close();
    this.#ring = undefined;
    for (const event of this.#events.values()) event.close();
    this.#events.clear();
    closeFd(this.#fd);
    this.#fd = -1;
    this.#onClose?.();
    this.#release();
  }

  #openEvent(cpu: number, key: Uint8Array): number {
    const event = KernelPerfBuffer.open(cpu, this.#perfBufferBytes, PAGE_SIZE);
    if (typeof event === 'number') return event;
    const status = mapUpdate(this.#fd, key, fdValue(event.fd));
    if (status < 0) {
      event.close();
      return status;
    }
    this.#events.get(cpu)?.close();
    this.#events.set(cpu, event);
    return 0;
  }

  /** Of what stood under a key that is deleted. */
  #letGo(key: Uint8Array): void {
    this.#setInner(key, undefined);
    if (this.#events.size === 0) return;
    const cpu = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
    this.#events.get(cpu)?.close();
    this.#events.delete(cpu);
  }

  /** The kernel keeps an inner map for as long as an entry refers to it, whoever has closed it. */
  #setInner(key: Uint8Array, inner: KernelBpfMap | undefined): void {
    const name = Buffer.from(key).toString('hex');
    const before = this.#inner.get(name);
    if (inner !== undefined) {
      inner.#references++;
      this.#inner.set(name, inner);
    } else {
      this.#inner.delete(name);
    }
    if (before !== undefined) before.#release();
  }

  #release(): void {
    if (--this.#references > 0) return;
    for (const inner of this.#inner.values()) inner.#release();
    this.#inner.clear();
    this.#onRelease?.();
  }

  #inNamespace(work: () => number): number {
    return this.#namespace === undefined ? work() : this.#namespace.run(work);
  }

  #withOwnFds(value: Uint8Array): Uint8Array {
    const { type } = this.attributes;
    if (FD_VALUES.has(type)) return NO_FD;
    if (!PROGRAM_VALUES.has(type) || value.length <= 4) return value;
    const own = value.slice();
    const field = new DataView(own.buffer, 4);
    const id = field.getInt32(0, true);
    if (id > 0) field.setInt32(0, programFd(id) ?? UNKNOWN_FD, true);
    return own;
  }

  #drainRecords(room?: RecordRoom): MapRecord[] {
    const records: MapRecord[] = [];
    let left = room?.bytes ?? Infinity;
    const beside = room?.recordBytes ?? 0;
    for (const buffer of this.#recordBuffers()) {
      // No more than there can be at once: programs go on meanwhile.
      let most = buffer.size;
      for (let bytes = buffer.next; bytes !== undefined && most > 0; bytes = buffer.next) {
        left -= beside + bytes;
        if (left < 0 || records.length === room?.records) return records;
        records.push(buffer.take());
        most -= RECORD_HEADER_BYTES + bytes;
      }
    }
    return records;
  }

  #recordsWithNext(): KernelRecords | undefined {
    return this.#recordBuffers().find(({ next }) => next !== undefined);
  }

  /** Of a PERF_EVENT_ARRAY one for each CPU: the kernel tells no order between their records. */
  #recordBuffers(): KernelRecords[] {
    if (this.attributes.type !== T.BPF_MAP_TYPE_RINGBUF) return [...this.#events.values()];
    if (this.#fd < 0) return [];
    return [(this.#ring ??= new KernelRingBuffer(this.#fd, this.attributes.maxEntries, PAGE_SIZE))];
  }
}

/** The reading side of a buffer of records. */
interface KernelRecords {
  /** Bytes of records, with their headers, that it can hold. */
  readonly size: number;
  /** Bytes of data of the oldest record; undefined when there is none. */
  readonly next: number | undefined;
  /** Takes it out; there is one. */
  take(): MapRecord;
  /** Drops it, if there is one: it counts as lost. */
  skip(): void;
}

export function isKernelMap(map: BpfMap): map is KernelBpfMap {
  return map instanceof KernelBpfMap;
}
