/**
 * The driver's side of a split virtqueue.
 *
 * It keeps its own record of what it gave to the device and never reads the descriptor table back: a device
 * that writes where it should not can spoil data, but cannot make the driver follow a forged link.
 */

import { XdpbedError } from '../core/diagnostic.js';
import { checkChainBytes, CheckedRequest, checkPart, MAX_CHAIN_BYTES } from './buffer-request.js';
import {
  DESCRIPTOR_BYTES,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_WRITE,
  writeElement,
} from './descriptor-format.js';
import type { GuestAllocator, GuestMemory } from './guest-memory.js';
import {
  AVAIL_ENTRY_BYTES,
  crossedEvent,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_NEXT,
  openSplitRings,
  RING_ENTRIES,
  RING_FLAGS,
  RING_IDX,
  type SplitLayout,
  type SplitRings,
  USED_ELEMENT_BYTES,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_USED_F_NO_NOTIFY,
} from './split-layout.js';
import type { DriverQueueOptions } from './queue-options.js';
import type { DeviceViolation, DeviceViolationReason } from './violation.js';
import { StateReader } from './state-reader.js';
import type {
  AddResult,
  BufferPart,
  BufferRequest,
  DriverQueue,
  QueueState,
  UsedResult,
} from './virtqueue.js';

/** What the driver knows about a buffer it has added. One for each head, used again and again. */
class Outstanding {
  /** Whether there is one. */
  isThere = false;
  /** Last descriptor of the chain in the queue's own table. */
  tail = 0;
  /** Descriptors taken from the queue's own table. */
  descriptors = 0;
  /** Bytes the device may write. */
  writableBytes = 0;
  indirectTable: number | undefined = undefined;
  published = false;
}

const EMPTY = { kind: 'empty' } as const;
const FULL = { kind: 'full' } as const;

export class SplitDriverQueue implements DriverQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #layout: SplitLayout;
  readonly #rings: SplitRings;
  readonly #eventIdx: boolean;
  readonly #indirectTables: GuestAllocator | undefined;

  /** Links the free descriptors, and those of each chain; the `next` fields in memory are only copies. */
  readonly #link: Uint16Array;
  #freeHead = 0;
  #freeDescriptors = 0;
  readonly #outstanding: readonly Outstanding[];
  #added: number[] = [];
  /** Published buffers that the device has not returned. */
  #inDevice = 0;
  /** Next avail ring position to write, modulo 2^16. */
  #nextAvail = 0;
  /** Next used ring position to read, modulo 2^16. */
  #nextUsed = 0;
  /** Avail entries published since `shouldKick` last looked. */
  #publishedSinceCheck = 0;
  #interruptsEnabled = true;
  #violation: DeviceViolation | undefined;

  /**
   * Sets up the queue: clears all three parts, as a driver has to (virtio 1.3, 2.7.10.1).
   * @throws XdpbedError `virtio-violation` when the layout is not a valid one
   */
  constructor(
    memory: GuestMemory,
    layout: SplitLayout,
    options: DriverQueueOptions = {},
    state?: QueueState,
  ) {
    const opened = openSplitRings(memory, layout);
    if (!opened.ok) throw new XdpbedError('virtio-violation', opened.violation.message);
    this.#memory = memory;
    this.#rings = opened.rings;
    this.#eventIdx = options.eventIdx ?? false;
    this.#indirectTables = options.indirectTables;
    this.size = layout.size;
    this.#layout = layout;
    this.#link = new Uint16Array(layout.size);
    this.#outstanding = Array.from({ length: layout.size }, () => new Outstanding());
    if (state === undefined) this.reset();
    else this.#restore(new StateReader('the driver queue', state));
  }

  save(): QueueState {
    return {
      link: [...this.#link],
      freeHead: this.#freeHead,
      freeDescriptors: this.#freeDescriptors,
      added: [...this.#added],
      inDevice: this.#inDevice,
      nextAvail: this.#nextAvail,
      nextUsed: this.#nextUsed,
      publishedSinceCheck: this.#publishedSinceCheck,
      interruptsEnabled: this.#interruptsEnabled,
      outstanding: this.#outstanding.flatMap(({ isThere, ...buffer }, head) =>
        isThere ? [{ head, ...buffer, indirectTable: buffer.indirectTable ?? null }] : [],
      ),
    };
  }

  #restore(state: StateReader): void {
    const { size } = this;
    const link = state.integers('link', size, size);
    if (link.length !== size) throw state.invalid('link');
    this.#link.set(link);
    this.#freeHead = state.integer('freeHead', size);
    this.#freeDescriptors = state.integer('freeDescriptors', size);
    this.#added = state.integers('added', size, size - 1);
    this.#inDevice = state.integer('inDevice', size);
    this.#nextAvail = state.integer('nextAvail', 0xffff);
    this.#nextUsed = state.integer('nextUsed', 0xffff);
    this.#publishedSinceCheck = state.integer('publishedSinceCheck', Number.MAX_SAFE_INTEGER);
    this.#interruptsEnabled = state.boolean('interruptsEnabled');
    state.list('outstanding', size, (item) => {
      const head = item.integer('head', size - 1);
      const buffer = this.#outstanding[head]!;
      if (buffer.isThere) throw state.invalid('outstanding');
      buffer.isThere = true;
      buffer.tail = item.integer('tail', size - 1);
      buffer.descriptors = item.integer('descriptors', size);
      buffer.writableBytes = item.integer('writableBytes', MAX_CHAIN_BYTES);
      buffer.indirectTable =
        item.state['indirectTable'] === null
          ? undefined
          : item.integer('indirectTable', Number.MAX_SAFE_INTEGER);
      buffer.published = item.boolean('published');
    });
    this.#checkRestored(state);
  }

  /**
   * Every descriptor is free or part of one chain, what was added is what was not published, and each indirect table
   * is this queue's own: without that, later calls would write where they should not, or throw.
   */
  #checkRestored(state: StateReader): void {
    const seen = new Set<number>();
    /** The last of `count` descriptors from `first` on. */
    const walk = (field: string, first: number, count: number): number | undefined => {
      let last: number | undefined;
      for (let index = first, visited = 0; visited < count; visited++) {
        if (index >= this.size || seen.has(index)) throw state.invalid(field);
        seen.add(index);
        last = index;
        index = this.#link[index]!;
      }
      return last;
    };
    walk('freeHead', this.#freeHead, this.#freeDescriptors);
    let published = 0;
    for (const [head, buffer] of this.#outstanding.entries()) {
      if (!buffer.isThere) continue;
      if (walk('outstanding', head, buffer.descriptors) !== buffer.tail) throw state.invalid('outstanding');
      if (buffer.published) published++;
      const { indirectTable } = buffer;
      if (
        indirectTable !== undefined &&
        this.#indirectTables?.claim(indirectTable, DESCRIPTOR_BYTES) !== true
      ) {
        throw state.invalid('outstanding');
      }
    }
    if (seen.size !== this.size) throw state.invalid('link');
    if (this.#inDevice !== published) throw state.invalid('inDevice');
    const added = new Set(this.#added);
    if (added.size !== this.#added.length || added.size !== this.buffers().length - published) {
      throw state.invalid('added');
    }
    for (const head of added) {
      const { isThere, published } = this.#outstanding[head]!;
      if (!isThere || published) throw state.invalid('added');
    }
  }

  reset(): void {
    for (const buffer of this.#outstanding) {
      if (buffer.isThere && buffer.indirectTable !== undefined)
        this.#indirectTables?.free(buffer.indirectTable);
      buffer.isThere = false;
    }
    for (let index = 0; index < this.size; index++) this.#link[index] = index + 1;
    this.#freeHead = 0;
    this.#freeDescriptors = this.size;
    this.#added = [];
    this.#inDevice = 0;
    this.#nextAvail = 0;
    this.#nextUsed = 0;
    this.#publishedSinceCheck = 0;
    this.#interruptsEnabled = true;
    this.#violation = undefined;
    this.#memory.fill(this.#layout.descriptorTable, this.#rings.descriptors.byteLength);
    this.#memory.fill(this.#layout.availRing, this.#rings.avail.byteLength);
    this.#memory.fill(this.#layout.usedRing, this.#rings.used.byteLength);
  }

  get freeDescriptors(): number {
    return this.#freeDescriptors;
  }

  get violation(): DeviceViolation | undefined {
    return this.#violation;
  }

  buffers(): { readonly token: number; readonly writableBytes: number }[] {
    return this.#outstanding.flatMap((buffer, token) =>
      buffer.isThere ? [{ token, writableBytes: buffer.writableBytes }] : [],
    );
  }

  addBuffer(request: BufferRequest): AddResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const parts = new CheckedRequest(request, this.#memory, this.size);
    const { count, writableBytes } = parts;

    let indirectTable: number | undefined;
    let descriptors = count;
    if (request.indirect === true) {
      if (this.#indirectTables === undefined) {
        throw new XdpbedError('virtio-violation', 'VIRTIO_F_INDIRECT_DESC is not negotiated');
      }
      descriptors = 1;
      if (this.#freeDescriptors === 0) return FULL;
      indirectTable = this.#indirectTables.allocate(count * DESCRIPTOR_BYTES);
      if (indirectTable === undefined) return FULL;
    } else if (this.#freeDescriptors < count) {
      return FULL;
    }

    const head = this.#freeHead;
    let tail = head;
    if (indirectTable === undefined) {
      let index = head;
      for (let i = 0; i < count; i++) {
        tail = index;
        const next = this.#link[index]!;
        writePart(this.#rings.descriptors, index, parts, i, next);
        index = next;
      }
    } else {
      const length = count * DESCRIPTOR_BYTES;
      const table = this.#memory.window(indirectTable, length)!;
      for (let i = 0; i < count; i++) writePart(table, i, parts, i, i + 1);
      writeDescriptor(this.#rings.descriptors, head, indirectTable, length, VIRTQ_DESC_F_INDIRECT, 0);
    }
    return this.#enter(head, tail, descriptors, writableBytes, indirectTable);
  }

  addPart(part: BufferPart, writable: boolean): AddResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const { address, length } = part;
    checkPart(part, this.#memory);
    checkChainBytes(length);
    if (this.#freeDescriptors === 0) return FULL;
    const head = this.#freeHead;
    writeDescriptor(this.#rings.descriptors, head, address, length, writable ? VIRTQ_DESC_F_WRITE : 0, 0);
    return this.#enter(head, head, 1, writable ? length : 0, undefined);
  }

  /** Enters a buffer whose descriptors are written, and puts it into the avail ring. */
  #enter(
    head: number,
    tail: number,
    descriptors: number,
    writableBytes: number,
    indirectTable: number | undefined,
  ): AddResult {
    this.#freeHead = this.#link[tail]!;
    this.#freeDescriptors -= descriptors;
    const buffer = this.#outstanding[head]!;
    buffer.isThere = true;
    buffer.tail = tail;
    buffer.descriptors = descriptors;
    buffer.writableBytes = writableBytes;
    buffer.indirectTable = indirectTable;
    buffer.published = false;
    const position = (this.#nextAvail + this.#added.length) & (this.size - 1);
    this.#rings.avail.setUint16(RING_ENTRIES + AVAIL_ENTRY_BYTES * position, head, true);
    this.#added.push(head);
    return { kind: 'added', token: head };
  }

  publish(): void {
    if (this.#violation !== undefined || this.#added.length === 0) return;
    for (const head of this.#added) this.#outstanding[head]!.published = true;
    this.#inDevice += this.#added.length;
    this.#publishedSinceCheck += this.#added.length;
    this.#nextAvail = (this.#nextAvail + this.#added.length) & 0xffff;
    this.#added.length = 0;
    // Descriptors and ring entries are written before idx exposes them. (One thread: no barrier needed.)
    this.#rings.avail.setUint16(RING_IDX, this.#nextAvail, true);
  }

  shouldKick(): boolean {
    const count = this.#publishedSinceCheck;
    this.#publishedSinceCheck = 0;
    if (count === 0 || this.#violation !== undefined) return false;
    const { used } = this.#rings;
    if (this.#eventIdx) {
      const availEvent = used.getUint16(RING_ENTRIES + USED_ELEMENT_BYTES * this.size, true);
      return crossedEvent(availEvent, this.#nextAvail, count);
    }
    return (used.getUint16(RING_FLAGS, true) & VIRTQ_USED_F_NO_NOTIFY) === 0;
  }

  getUsed(): UsedResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const { used } = this.#rings;
    const usedIdx = used.getUint16(RING_IDX, true);
    const pending = (usedIdx - this.#nextUsed) & 0xffff;
    if (pending === 0) return EMPTY;
    if (pending > this.#inDevice) {
      return this.#break(
        'used-idx-jump',
        `used idx ${usedIdx} is ${pending} ahead, the device holds ${this.#inDevice} buffers`,
      );
    }

    const element = RING_ENTRIES + USED_ELEMENT_BYTES * (this.#nextUsed & (this.size - 1));
    const id = used.getUint32(element, true);
    const written = used.getUint32(element + 4, true);
    if (id >= this.size) {
      return this.#break('used-id-out-of-range', `used id ${id} is not below the queue size ${this.size}`);
    }
    const buffer = this.#outstanding[id]!;
    if (!buffer.isThere || !buffer.published) {
      return this.#break('used-id-not-outstanding', `used id ${id} names no buffer that the device holds`);
    }
    if (written > buffer.writableBytes) {
      return this.#break(
        'used-len-over-writable',
        `used len ${written} exceeds the ${buffer.writableBytes} writable bytes of buffer ${id}`,
      );
    }

    buffer.isThere = false;
    this.#link[buffer.tail] = this.#freeHead;
    this.#freeHead = id;
    this.#freeDescriptors += buffer.descriptors;
    this.#inDevice -= 1;
    if (buffer.indirectTable !== undefined) this.#indirectTables?.free(buffer.indirectTable);
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    this.#updateUsedEvent();
    return { kind: 'used', token: id, written };
  }

  enableInterrupts(): boolean {
    if (this.#violation !== undefined) return false;
    this.#interruptsEnabled = true;
    if (this.#eventIdx) this.#updateUsedEvent();
    else this.#rings.avail.setUint16(RING_FLAGS, 0, true);
    // The device may have pushed, and not interrupted, between the last getUsed and the line above.
    return this.#rings.used.getUint16(RING_IDX, true) !== this.#nextUsed;
  }

  disableInterrupts(): void {
    if (this.#violation !== undefined) return;
    this.#interruptsEnabled = false;
    // With EVENT_IDX the flags stay 0 (virtio 1.3, 2.7.7.1); the event index alone suppresses.
    if (this.#eventIdx) this.#updateUsedEvent();
    else this.#rings.avail.setUint16(RING_FLAGS, VIRTQ_AVAIL_F_NO_INTERRUPT, true);
  }

  /** Half the index space away, and moved along with every buffer, an event index is never reached. */
  #updateUsedEvent(): void {
    if (!this.#eventIdx) return;
    const event = this.#interruptsEnabled ? this.#nextUsed : (this.#nextUsed + 0x8000) & 0xffff;
    this.#rings.avail.setUint16(RING_ENTRIES + AVAIL_ENTRY_BYTES * this.size, event, true);
  }

  #break(reason: DeviceViolationReason, message: string): Extract<UsedResult, { kind: 'violation' }> {
    this.#violation = { reason, message };
    return { kind: 'violation', violation: this.#violation };
  }
}

function writePart(table: DataView, index: number, parts: CheckedRequest, part: number, next: number): void {
  const { address, length } = parts.part(part);
  const more = parts.nextFlag(part);
  writeDescriptor(table, index, address, length, parts.writeFlag(part) | more, more === 0 ? 0 : next);
}

function writeDescriptor(
  table: DataView,
  index: number,
  address: number,
  length: number,
  flags: number,
  next: number,
): void {
  const at = index * DESCRIPTOR_BYTES;
  writeElement(table, at, address, length);
  table.setUint16(at + DESCRIPTOR_FLAGS, flags, true);
  table.setUint16(at + DESCRIPTOR_NEXT, next, true);
}
