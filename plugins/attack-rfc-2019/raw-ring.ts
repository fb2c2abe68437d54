import type { ControlRing } from '../../src/core/contract/transport.js';
import { VIRTQ_DESC_F_NEXT, VIRTQ_DESC_F_WRITE } from '../../src/virtio/index.js';

/** Bytes at the end of the guest's memory that are the attacker's: the driver's own buffers lie before them. */
const OWN_BYTES = 1 << 20;
const DESCRIPTOR_BYTES = 16;
const RING_IDX = 2;
const RING_ENTRIES = 4;
const USED_ELEMENT_BYTES = 8;

export interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}

/** A used element, with the bytes that the device wrote. */
export interface Used {
  readonly head: number;
  readonly length: number;
}

/**
 * The driver's end of a split control queue without a driver: descriptors, rings and buffers are written as the attacker
 * likes. Nothing else may use the queue meanwhile, nor afterwards before a reset: a driver does not know of it.
 */
export class RawRing {
  #next: number;
  #avail: number;
  #used: number;

  constructor(readonly ring: ControlRing) {
    this.#next = this.#begin;
    this.#avail = this.#u16(ring.layout.availRing + RING_IDX);
    this.#used = this.usedIndex;
  }

  get size(): number {
    return this.ring.layout.size;
  }

  /** Takes some of the attacker's own memory; starts over when there is no more. */
  allocate(length: number): number {
    if (length > OWN_BYTES) throw new RangeError(`${length} bytes are more than the attacker has`);
    const end = this.ring.memory.base + this.ring.memory.size;
    if (this.#next + length > end) this.#next = this.#begin;
    const address = this.#next;
    this.#next = Math.ceil((address + length) / 64) * 64;
    return address;
  }

  write(address: number, bytes: Uint8Array): void {
    if (!this.ring.memory.write(address, bytes)) throw new RangeError('beyond the guest’s memory');
  }

  read(address: number, length: number): Uint8Array {
    return this.ring.memory.read(address, length)!;
  }

  /** A copy of the bytes in the attacker's memory: where it lies. */
  place(bytes: Uint8Array): number {
    const address = this.allocate(bytes.length);
    this.write(address, bytes);
    return address;
  }

  /** Writes an entry of the descriptor table, or of another table. */
  describe(index: number, { address, length, flags = 0, next = 0 }: Descriptor, table?: number): void {
    const bytes = new Uint8Array(DESCRIPTOR_BYTES);
    const view = new DataView(bytes.buffer);
    view.setBigUint64(0, BigInt(address), true);
    view.setUint32(8, length, true);
    view.setUint16(12, flags, true);
    view.setUint16(14, next, true);
    this.write((table ?? this.ring.layout.descriptorTable) + DESCRIPTOR_BYTES * index, bytes);
  }

  /** A chain of one readable and, where there is room, one writable descriptor, from entry `head` on. */
  describeCommand(head: number, command: number, length: number, room: number, answer: number): void {
    const flags = room > 0 ? VIRTQ_DESC_F_NEXT : 0;
    this.describe(head, { address: command, length, flags, next: head + 1 });
    if (room > 0) this.describe(head + 1, { address: answer, length: room, flags: VIRTQ_DESC_F_WRITE });
  }

  /** Makes chains available. */
  offer(...heads: readonly number[]): void {
    const { availRing, size } = this.ring.layout;
    for (const head of heads) {
      this.#setU16(availRing + RING_ENTRIES + 2 * (this.#avail % size), head);
      this.#avail = (this.#avail + 1) & 0xffff;
    }
    this.#setU16(availRing + RING_IDX, this.#avail);
  }

  /** Moves `avail.idx` without anything being there. */
  jumpAvail(by: number): void {
    this.#avail = (this.#avail + by) & 0xffff;
    this.#setU16(this.ring.layout.availRing + RING_IDX, this.#avail);
  }

  kick(): void {
    this.ring.kick();
  }

  /** `used.idx` as it is in memory. */
  get usedIndex(): number {
    return this.#u16(this.ring.layout.usedRing + RING_IDX);
  }

  usedElement(index: number): Used {
    const { usedRing, size } = this.ring.layout;
    const element = usedRing + RING_ENTRIES + USED_ELEMENT_BYTES * ((index & 0xffff) % size);
    const view = new DataView(this.read(element, USED_ELEMENT_BYTES).buffer);
    return { head: view.getUint32(0, true), length: view.getUint32(4, true) };
  }

  /** Used elements since it was last asked. */
  takeUsed(): Used[] {
    const idx = this.usedIndex;
    const taken: Used[] = [];
    while (this.#used !== idx && taken.length <= this.size) {
      taken.push(this.usedElement(this.#used));
      this.#used = (this.#used + 1) & 0xffff;
    }
    return taken;
  }

  get #begin(): number {
    return this.ring.memory.base + this.ring.memory.size - OWN_BYTES;
  }

  #u16(address: number): number {
    return new DataView(this.read(address, 2).buffer).getUint16(0, true);
  }

  #setU16(address: number, value: number): void {
    this.write(address, Uint8Array.of(value & 0xff, (value >> 8) & 0xff));
  }
}
