import type { GuestAllocator } from './guest-memory.js';
import { GuestMemory } from './guest-memory.js';
import { PACKED_QUEUE, SPLIT_QUEUE, type QueueFormat } from './queue-format.js';
import type { DeviceQueueOptions, DriverQueueOptions } from './queue-options.js';
import type { DescriptorChain } from './descriptor-chain.js';
import type { DeviceQueue, DriverQueue } from './virtqueue.js';

// For tests: queues written and read byte by byte, from the tables of virtio 1.3, with no code of those under test.

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;
/** Of packed queues. */
export const AVAIL = 0x80;
export const USED = 0x8000;

/** Guest memory that counts what is read through its windows, as `offset of the byte in memory → reads`. */
export class CountingMemory extends GuestMemory {
  readonly reads = new Map<number, number>();
  total = 0;

  override window(address: number | bigint, length: number): DataView | undefined {
    const window = super.window(address, length);
    if (window === undefined) return undefined;
    const base = Number(address);
    const count = (offset: number): void => {
      this.total += 1;
      this.reads.set(base + offset, (this.reads.get(base + offset) ?? 0) + 1);
    };
    const getUint16 = window.getUint16.bind(window);
    const getUint32 = window.getUint32.bind(window);
    window.getUint16 = (offset, littleEndian) => {
      count(offset);
      return getUint16(offset, littleEndian);
    };
    window.getUint32 = (offset, littleEndian) => {
      count(offset);
      return getUint32(offset, littleEndian);
    };
    return window;
  }
}

export interface RawDescriptor {
  readonly address: number | bigint;
  readonly length: number;
  /** WRITE, INDIRECT; NEXT comes by itself. */
  readonly flags?: number;
}

/** A queue at the beginning of a memory, of which a test is one side. */
export abstract class RawQueue {
  readonly memory: CountingMemory;
  /** Of all of the memory. Reads through it count as well. */
  readonly view: DataView;

  constructor(
    readonly format: QueueFormat,
    readonly size: number,
    backing: number | Uint8Array,
  ) {
    this.memory = new CountingMemory(backing);
    this.view = this.memory.window(0, this.memory.size)!;
  }

  /** Makes a buffer available, as a driver does. Its descriptors, in their order; and what the device will name it. */
  abstract offer(descriptors: readonly RawDescriptor[], head: number): void;
  /** Writes an indirect table. */
  abstract table(address: number, descriptors: readonly RawDescriptor[]): void;
  /** Offsets of all fields that a device reads when it pops what was offered last, of which each has to be read once. */
  abstract get fields(): readonly number[];
  /** The same for an indirect table at an address. */
  abstract tableFields(address: number, count: number): number[];
  /** What the device has used, oldest first, and not more than it has used by what the ring says. */
  abstract used(): { id: number; len: number }[];
  /** Marks a buffer of so many descriptors used, as a device does. */
  abstract use(id: number, len: number, descriptors: number): void;
  /** Bytes of the ring that a mutation should often hit. */
  abstract mutable(pick: (below: number) => number): number;

  openDevice(options: DeviceQueueOptions = {}): DeviceQueue {
    const opened = this.format.openDevice(this.memory, 0, this.size, options);
    if (!opened.ok) throw new Error(opened.violation.message);
    return opened.queue;
  }

  openDriver(options: { eventIdx?: boolean; indirectTables?: GuestAllocator } = {}): DriverQueue {
    const given: DriverQueueOptions = options;
    return this.format.openDriver(this.memory, 0, this.size, given);
  }

  protected element(at: number, { address, length }: RawDescriptor): void {
    this.view.setBigUint64(at, BigInt.asUintN(64, BigInt(address)), true);
    this.view.setUint32(at + 8, length, true);
  }
}

/** virtio 1.3, 2.7: descriptor table, avail ring of 6 + 2 × size bytes, used ring of 6 + 8 × size at a multiple of 4. */
export class RawSplitQueue extends RawQueue {
  readonly avail: number;
  readonly usedRing: number;
  #availIdx = 0;
  #usedIdx = 0;
  #fields: number[] = [];

  constructor(size: number, backing: number | Uint8Array = 0x10000) {
    super(SPLIT_QUEUE, size, backing);
    this.avail = 16 * size;
    this.usedRing = Math.ceil((this.avail + 6 + 2 * size) / 4) * 4;
  }

  descriptor(index: number, described: RawDescriptor, next = 0, table = 0): void {
    const at = table + 16 * index;
    this.element(at, described);
    this.view.setUint16(at + 12, described.flags ?? 0, true);
    this.view.setUint16(at + 14, next, true);
  }

  offer(descriptors: readonly RawDescriptor[], head: number): void {
    const slot = this.#availIdx % this.size;
    this.#fields = [this.avail + 2, this.avail + 4 + 2 * slot];
    for (const [i, each] of descriptors.entries()) {
      const last = i === descriptors.length - 1;
      // The first where the device will look for it; the others one after the other, behind those of other buffers.
      const index = i === 0 ? head : (head + i) % this.size;
      const flags = (each.flags ?? 0) | (last ? 0 : NEXT);
      this.descriptor(index, { ...each, flags }, (index + 1) % this.size);
      this.#fields.push(...[0, 4, 8, 12, 14].map((field) => 16 * index + field));
    }
    this.view.setUint16(this.avail + 4 + 2 * slot, head, true);
    this.#availIdx = (this.#availIdx + 1) & 0xffff;
    this.view.setUint16(this.avail + 2, this.#availIdx, true);
  }

  table(address: number, descriptors: readonly RawDescriptor[]): void {
    for (const [i, each] of descriptors.entries()) {
      const last = i === descriptors.length - 1;
      const flags = (each.flags ?? 0) | (last ? 0 : NEXT);
      this.descriptor(i, { ...each, flags }, last ? 0 : i + 1, address);
    }
  }

  get fields(): readonly number[] {
    return this.#fields;
  }

  tableFields(address: number, count: number): number[] {
    return Array.from({ length: count }, (_, i) =>
      [0, 4, 8, 12, 14].map((field) => address + 16 * i + field),
    ).flat();
  }

  used(): { id: number; len: number }[] {
    const idx = this.view.getUint16(this.usedRing + 2, true);
    return Array.from({ length: idx }, (_, i) => {
      const at = this.usedRing + 4 + 8 * (i % this.size);
      return { id: this.view.getUint32(at, true), len: this.view.getUint32(at + 4, true) };
    });
  }

  use(id: number, len: number): void {
    const at = this.usedRing + 4 + 8 * (this.#usedIdx % this.size);
    this.view.setUint32(at, id, true);
    this.view.setUint32(at + 4, len, true);
    this.#usedIdx = (this.#usedIdx + 1) & 0xffff;
    this.view.setUint16(this.usedRing + 2, this.#usedIdx, true);
  }

  mutable(pick: (below: number) => number): number {
    return pick(2) === 0 ? pick(16 * this.size) : this.avail + pick(6 + 2 * this.size);
  }
}

/** virtio 1.3, 2.8: descriptor ring, then the driver's and the device's event suppression of 4 bytes each. */
export class RawPackedQueue extends RawQueue {
  readonly driverEvent: number;
  readonly deviceEvent: number;
  /** Where the driver goes on, and its ring wrap counter. */
  #slot = 0;
  #wrap = 1;
  /** Where the device's next used descriptor is, and its ring wrap counter. */
  #usedSlot = 0;
  #usedWrap = 1;
  /** Descriptors of each buffer, by ID. */
  readonly #counts = new Map<number, number>();
  #fields: number[] = [];

  constructor(size: number, backing: number | Uint8Array = 0x10000) {
    super(PACKED_QUEUE, size, backing);
    this.driverEvent = 16 * size;
    this.deviceEvent = 16 * size + 4;
  }

  /** Writes all of a descriptor of the ring. */
  descriptor(slot: number, described: RawDescriptor, id: number, flags: number): void {
    const at = 16 * slot;
    this.element(at, described);
    this.view.setUint16(at + 12, id, true);
    this.view.setUint16(at + 14, flags, true);
  }

  flags(slot: number): number {
    return this.view.getUint16(16 * slot + 14, true);
  }

  offer(descriptors: readonly RawDescriptor[], head: number): void {
    this.#fields = [];
    for (const [i, each] of descriptors.entries()) {
      const last = i === descriptors.length - 1;
      const flags = (each.flags ?? 0) | (last ? 0 : NEXT) | (this.#wrap === 1 ? AVAIL : USED);
      // "Buffer ID is included in the last descriptor in the list": elsewhere something that is no ID of this queue.
      this.descriptor(this.#slot, each, last ? head : 0xeeee, flags);
      this.#fields.push(...[0, 4, 8, 14, ...(last ? [12] : [])].map((field) => 16 * this.#slot + field));
      this.#slot += 1;
      if (this.#slot < this.size) continue;
      this.#slot = 0;
      this.#wrap ^= 1;
    }
    this.#counts.set(head, descriptors.length);
  }

  table(address: number, descriptors: readonly RawDescriptor[]): void {
    for (const [i, each] of descriptors.entries()) {
      this.element(address + 16 * i, each);
      this.view.setUint16(address + 16 * i + 12, 0xeeee, true);
      this.view.setUint16(address + 16 * i + 14, each.flags ?? 0, true);
    }
  }

  get fields(): readonly number[] {
    return this.#fields;
  }

  tableFields(address: number, count: number): number[] {
    return Array.from({ length: count }, (_, i) =>
      [0, 4, 8, 14].map((field) => address + 16 * i + field),
    ).flat();
  }

  used(): { id: number; len: number }[] {
    const found: { id: number; len: number }[] = [];
    let slot = 0;
    let wrap = 1;
    while (found.length <= this.size) {
      const flags = this.flags(slot);
      if ((flags & (AVAIL | USED)) !== (wrap === 1 ? AVAIL | USED : 0)) return found;
      const id = this.view.getUint16(16 * slot + 12, true);
      const written = (flags & WRITE) !== 0;
      found.push({ id, len: written ? this.view.getUint32(16 * slot + 8, true) : 0 });
      slot += this.#counts.get(id)!;
      if (slot < this.size) continue;
      slot -= this.size;
      wrap ^= 1;
    }
    throw new Error('more used descriptors than the ring has');
  }

  use(id: number, len: number, descriptors: number): void {
    const at = 16 * this.#usedSlot;
    this.view.setUint32(at + 8, len, true);
    this.view.setUint16(at + 12, id, true);
    this.view.setUint16(at + 14, (this.#usedWrap === 1 ? AVAIL | USED : 0) | (len > 0 ? WRITE : 0), true);
    this.#usedSlot += descriptors;
    if (this.#usedSlot < this.size) return;
    this.#usedSlot -= this.size;
    this.#usedWrap ^= 1;
  }

  mutable(pick: (below: number) => number): number {
    return pick(4) === 0 ? this.driverEvent + pick(8) : pick(16 * this.size);
  }
}

export const RAW_QUEUES: readonly (readonly [
  name: string,
  make: (size: number, backing?: number | Uint8Array) => RawQueue,
])[] = [
  ['split', (size, backing) => new RawSplitQueue(size, backing)],
  ['packed', (size, backing) => new RawPackedQueue(size, backing)],
];

/** The next chain, which there has to be. */
export function popped(queue: DeviceQueue): DescriptorChain {
  const result = queue.popChain();
  if (result.kind !== 'chain') throw new Error(`expected a chain, got ${JSON.stringify(result)}`);
  return result.chain;
}
