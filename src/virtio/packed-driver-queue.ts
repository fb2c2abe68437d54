/**
 * The driver's side of a packed virtqueue.
 *
 * As with a split one, it keeps its own record of what it gave to the device: of a used descriptor it believes the
 * buffer ID when a buffer of that ID is with the device, and the length up to the buffer's own.
 */

import { XdpbedError } from '../core/diagnostic.js';
import { checkChainBytes, CheckedRequest, checkPart, MAX_CHAIN_BYTES } from './buffer-request.js';
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_LENGTH,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_WRITE,
  writeElement,
} from './descriptor-format.js';
import type { GuestAllocator, GuestMemory } from './guest-memory.js';
import {
  advance,
  availableFlags,
  DESCRIPTOR_FLAGS,
  DESCRIPTOR_ID,
  DESCRIPTOR_OWNER,
  descriptorAt,
  disableEvents,
  distance,
  enableEvents,
  openPackedRings,
  type PackedLayout,
  type PackedRings,
  usedFlags,
  wantsEvent,
} from './packed-layout.js';
import type { DriverQueueOptions } from './queue-options.js';
import { StateReader } from './state-reader.js';
import type { DeviceViolation, DeviceViolationReason } from './violation.js';
import type {
  AddResult,
  BufferPart,
  BufferRequest,
  DriverQueue,
  QueueState,
  UsedResult,
} from './virtqueue.js';

/** What the driver knows about a buffer it has added. */
interface Outstanding {
  /** Descriptors of the ring that it takes. */
  readonly descriptors: number;
  /** Bytes the device may write. */
  readonly writableBytes: number;
  readonly indirectTable: number | undefined;
  published: boolean;
}

/** A buffer whose first descriptor is not available yet. */
interface Added {
  readonly id: number;
  /** Of its first descriptor. */
  readonly position: number;
  /** Of its first descriptor: what makes it, and with it the whole list, the device's. */
  readonly flags: number;
}

const EMPTY = { kind: 'empty' } as const;
const FULL = { kind: 'full' } as const;

export class PackedDriverQueue implements DriverQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #layout: PackedLayout;
  readonly #rings: PackedRings;
  readonly #eventIdx: boolean;
  readonly #indirectTables: GuestAllocator | undefined;

  /** Buffer IDs that are free; the last is given out first. */
  #freeIds: number[] = [];
  #freeDescriptors = 0;
  /** By buffer ID. */
  readonly #outstanding: (Outstanding | undefined)[];
  #added: Added[] = [];
  /** Position of the next descriptor to write. */
  #nextAvail = 0;
  /** Position of the next used descriptor to read. */
  #nextUsed = 0;
  /** Descriptors published since `shouldKick` last looked. */
  #publishedSinceCheck = 0;
  #interruptsEnabled = true;
  #violation: DeviceViolation | undefined;

  /**
   * Sets up the queue: clears all three parts (virtio 1.3, 2.8.13: "the descriptor ring is zero-initialized").
   * @throws XdpbedError `virtio-violation` when the layout is not a valid one
   */
  constructor(
    memory: GuestMemory,
    layout: PackedLayout,
    options: DriverQueueOptions = {},
    state?: QueueState,
  ) {
    const opened = openPackedRings(memory, layout);
    if (!opened.ok) throw new XdpbedError('virtio-violation', opened.violation.message);
    this.#memory = memory;
    this.#layout = layout;
    this.#rings = opened.rings;
    this.#eventIdx = options.eventIdx ?? false;
    this.#indirectTables = options.indirectTables;
    this.size = layout.size;
    this.#outstanding = new Array<Outstanding | undefined>(layout.size).fill(undefined);
    if (state === undefined) this.reset();
    else this.#restore(new StateReader('the driver queue', state));
  }

  save(): QueueState {
    return {
      freeIds: [...this.#freeIds],
      added: this.#added.map((each) => ({ ...each })),
      nextAvail: this.#nextAvail,
      nextUsed: this.#nextUsed,
      publishedSinceCheck: this.#publishedSinceCheck,
      interruptsEnabled: this.#interruptsEnabled,
      outstanding: this.#outstanding.flatMap((buffer, id) =>
        buffer === undefined ? [] : [{ id, ...buffer, indirectTable: buffer.indirectTable ?? null }],
      ),
    };
  }

  #restore(state: StateReader): void {
    const { size } = this;
    this.#freeIds = state.integers('freeIds', size, size - 1);
    this.#nextAvail = state.integer('nextAvail', 2 * size - 1);
    this.#nextUsed = state.integer('nextUsed', 2 * size - 1);
    this.#publishedSinceCheck = state.integer('publishedSinceCheck', Number.MAX_SAFE_INTEGER);
    this.#interruptsEnabled = state.boolean('interruptsEnabled');
    this.#added = state.list('added', size, (item) => ({
      id: item.integer('id', size - 1),
      position: item.integer('position', 2 * size - 1),
      flags: item.integer('flags', 0xffff),
    }));
    let descriptors = 0;
    state.list('outstanding', size, (item) => {
      const id = item.integer('id', size - 1);
      if (this.#outstanding[id] !== undefined) throw state.invalid('outstanding');
      const buffer: Outstanding = {
        descriptors: item.integer('descriptors', size),
        writableBytes: item.integer('writableBytes', MAX_CHAIN_BYTES),
        indirectTable:
          item.state['indirectTable'] === null
            ? undefined
            : item.integer('indirectTable', Number.MAX_SAFE_INTEGER),
        published: item.boolean('published'),
      };
      if (buffer.descriptors === 0) throw item.invalid('descriptors');
      descriptors += buffer.descriptors;
      this.#outstanding[id] = buffer;
    });
    this.#freeDescriptors = size - descriptors;
    this.#checkRestored(state, descriptors);
  }

  /**
   * Every ID is free or a buffer's, the buffers' descriptors are those between the two positions, what was added is
   * what was not published, and each indirect table is this queue's own: without that, later calls would write where
   * they should not, or throw.
   */
  #checkRestored(state: StateReader, descriptors: number): void {
    const { size } = this;
    if (descriptors > size || distance(this.#nextUsed, this.#nextAvail, size) !== descriptors) {
      throw state.invalid('nextUsed');
    }
    const free = new Set(this.#freeIds);
    const buffers = this.buffers();
    if (free.size !== this.#freeIds.length || free.size + buffers.length !== size) {
      throw state.invalid('freeIds');
    }
    let unpublished = 0;
    for (const { token } of buffers) {
      if (free.has(token)) throw state.invalid('freeIds');
      const { indirectTable, published } = this.#outstanding[token]!;
      if (!published) unpublished++;
      if (
        indirectTable !== undefined &&
        this.#indirectTables?.claim(indirectTable, DESCRIPTOR_BYTES) !== true
      ) {
        throw state.invalid('outstanding');
      }
    }
    // They lie one behind the other, the last of them before the next that will be added.
    let end = this.#nextAvail;
    for (const { id, position, flags } of this.#added.toReversed()) {
      const buffer = this.#outstanding[id];
      if (buffer?.published !== false || advance(end, -buffer.descriptors, size) !== position) {
        throw state.invalid('added');
      }
      if ((flags & DESCRIPTOR_OWNER) !== availableFlags(position, size)) throw state.invalid('added');
      end = position;
    }
    const ids = new Set(this.#added.map(({ id }) => id));
    if (ids.size !== this.#added.length || ids.size !== unpublished) throw state.invalid('added');
  }

  reset(): void {
    for (const [id, buffer] of this.#outstanding.entries()) {
      if (buffer?.indirectTable !== undefined) this.#indirectTables?.free(buffer.indirectTable);
      this.#outstanding[id] = undefined;
    }
    this.#freeIds = Array.from({ length: this.size }, (_, index) => this.size - 1 - index);
    this.#freeDescriptors = this.size;
    this.#added = [];
    this.#nextAvail = 0;
    this.#nextUsed = 0;
    this.#publishedSinceCheck = 0;
    this.#interruptsEnabled = true;
    this.#violation = undefined;
    this.#memory.fill(this.#layout.descriptorRing, this.#rings.descriptors.byteLength);
    this.#memory.fill(this.#layout.driverEvent, this.#rings.driverEvent.byteLength);
    this.#memory.fill(this.#layout.deviceEvent, this.#rings.deviceEvent.byteLength);
  }

  get freeDescriptors(): number {
    return this.#freeDescriptors;
  }

  get violation(): DeviceViolation | undefined {
    return this.#violation;
  }

  buffers(): { readonly token: number; readonly writableBytes: number }[] {
    return this.#outstanding.flatMap((buffer, token) =>
      buffer === undefined ? [] : [{ token, writableBytes: buffer.writableBytes }],
    );
  }

  addBuffer(request: BufferRequest): AddResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const { size } = this;
    const parts = new CheckedRequest(request, this.#memory, size);
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

    // Each buffer takes a descriptor at least, so there is an ID where there is a descriptor.
    const id = this.#freeIds.pop()!;
    const { descriptors: ring } = this.#rings;
    const first = this.#nextAvail;
    let firstFlags = availableFlags(first, size);
    if (indirectTable === undefined) {
      firstFlags |= parts.writeFlag(0) | parts.nextFlag(0);
      let position = first;
      for (let i = 0; i < count; i++) {
        const at = descriptorAt(position, size);
        const { address, length } = parts.part(i);
        writeElement(ring, at, address, length);
        // It counts in the last one; as in the specification's example, all carry it.
        ring.setUint16(at + DESCRIPTOR_ID, id, true);
        // The first one's flags are written by publish: until then the device sees nothing of the list.
        if (i > 0) {
          const flags = parts.writeFlag(i) | parts.nextFlag(i) | availableFlags(position, size);
          ring.setUint16(at + DESCRIPTOR_FLAGS, flags, true);
        }
        position = advance(position, 1, size);
      }
    } else {
      firstFlags |= VIRTQ_DESC_F_INDIRECT;
      const length = count * DESCRIPTOR_BYTES;
      const table = this.#memory.window(indirectTable, length)!;
      for (let i = 0; i < count; i++) {
        const at = i * DESCRIPTOR_BYTES;
        const part = parts.part(i);
        writeElement(table, at, part.address, part.length);
        table.setUint16(at + DESCRIPTOR_ID, 0, true);
        // No other flag may be set in a table (virtio 1.3, 2.8.19).
        table.setUint16(at + DESCRIPTOR_FLAGS, parts.writeFlag(i), true);
      }
      const at = descriptorAt(first, size);
      writeElement(ring, at, indirectTable, length);
      ring.setUint16(at + DESCRIPTOR_ID, id, true);
    }
    return this.#enter(id, firstFlags, descriptors, writableBytes, indirectTable);
  }

  addPart(part: BufferPart, writable: boolean): AddResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const { address, length } = part;
    checkPart(part, this.#memory);
    checkChainBytes(length);
    if (this.#freeDescriptors === 0) return FULL;
    const id = this.#freeIds.pop()!;
    const { descriptors: ring } = this.#rings;
    const at = descriptorAt(this.#nextAvail, this.size);
    writeElement(ring, at, address, length);
    ring.setUint16(at + DESCRIPTOR_ID, id, true);
    const flags = availableFlags(this.#nextAvail, this.size) | (writable ? VIRTQ_DESC_F_WRITE : 0);
    return this.#enter(id, flags, 1, writable ? length : 0, undefined);
  }

  /** Enters a buffer whose descriptors are written, all but the flags of the first. */
  #enter(
    id: number,
    flags: number,
    descriptors: number,
    writableBytes: number,
    indirectTable: number | undefined,
  ): AddResult {
    const position = this.#nextAvail;
    this.#nextAvail = advance(position, descriptors, this.size);
    this.#freeDescriptors -= descriptors;
    this.#outstanding[id] = { descriptors, writableBytes, indirectTable, published: false };
    this.#added.push({ id, position, flags });
    return { kind: 'added', token: id };
  }

  publish(): void {
    if (this.#violation !== undefined) return;
    const { size } = this;
    // The first one last: the device goes on where it stopped, and then sees all of them.
    for (let index = this.#added.length - 1; index >= 0; index--) {
      const { id, position, flags } = this.#added[index]!;
      const buffer = this.#outstanding[id]!;
      buffer.published = true;
      this.#publishedSinceCheck += buffer.descriptors;
      this.#rings.descriptors.setUint16(descriptorAt(position, size) + DESCRIPTOR_FLAGS, flags, true);
    }
    this.#added.length = 0;
  }

  shouldKick(): boolean {
    const count = this.#publishedSinceCheck;
    this.#publishedSinceCheck = 0;
    if (count === 0 || this.#violation !== undefined) return false;
    return wantsEvent(this.#rings.deviceEvent, this.#eventIdx, this.#publishedEnd(), count, this.size);
  }

  getUsed(): UsedResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const { size } = this;
    const { descriptors: ring } = this.#rings;
    const at = descriptorAt(this.#nextUsed, size);
    const flags = ring.getUint16(at + DESCRIPTOR_FLAGS, true);
    if ((flags & DESCRIPTOR_OWNER) !== usedFlags(this.#nextUsed, size)) return EMPTY;

    const id = ring.getUint16(at + DESCRIPTOR_ID, true);
    // Without WRITE nothing was written, and the length is reserved (virtio 1.3, 2.8.4).
    const written = (flags & VIRTQ_DESC_F_WRITE) === 0 ? 0 : ring.getUint32(at + DESCRIPTOR_LENGTH, true);
    if (id >= size) {
      return this.#break('used-id-out-of-range', `used id ${id} is not below the queue size ${size}`);
    }
    const buffer = this.#outstanding[id];
    if (buffer?.published !== true) {
      return this.#break('used-id-not-outstanding', `used id ${id} names no buffer that the device holds`);
    }
    if (written > buffer.writableBytes) {
      return this.#break(
        'used-len-over-writable',
        `used len ${written} exceeds the ${buffer.writableBytes} writable bytes of buffer ${id}`,
      );
    }

    this.#outstanding[id] = undefined;
    this.#freeIds.push(id);
    this.#freeDescriptors += buffer.descriptors;
    if (buffer.indirectTable !== undefined) this.#indirectTables?.free(buffer.indirectTable);
    this.#nextUsed = advance(this.#nextUsed, buffer.descriptors, size);
    if (this.#eventIdx && this.#interruptsEnabled) {
      enableEvents(this.#rings.driverEvent, true, this.#nextUsed, size);
    }
    return { kind: 'used', token: id, written };
  }

  enableInterrupts(): boolean {
    if (this.#violation !== undefined) return false;
    const { size } = this;
    this.#interruptsEnabled = true;
    enableEvents(this.#rings.driverEvent, this.#eventIdx, this.#nextUsed, size);
    // The device may have pushed, and not interrupted, between the last getUsed and the line above.
    const flags = this.#rings.descriptors.getUint16(
      descriptorAt(this.#nextUsed, size) + DESCRIPTOR_FLAGS,
      true,
    );
    return (flags & DESCRIPTOR_OWNER) === usedFlags(this.#nextUsed, size);
  }

  disableInterrupts(): void {
    if (this.#violation !== undefined) return;
    this.#interruptsEnabled = false;
    disableEvents(this.#rings.driverEvent);
  }

  /** Position behind the last descriptor that the device may see. */
  #publishedEnd(): number {
    return this.#added[0]?.position ?? this.#nextAvail;
  }

  #break(reason: DeviceViolationReason, message: string): Extract<UsedResult, { kind: 'violation' }> {
    this.#violation = { reason, message };
    return { kind: 'violation', violation: this.#violation };
  }
}
