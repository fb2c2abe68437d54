/**
 * A driver that works with byte arrays: it copies what it sends into guest memory, and what came back out
 * of it, and recycles the buffers.
 */

import { FreshPiece } from '../core/fresh-bytes.js';
import type { GuestAllocator, GuestMemory } from './guest-memory.js';
import type { DeviceViolation } from './violation.js';
import { StateReader } from './state-reader.js';
import type { AddResult, BufferPart, BufferToken, DriverQueue, QueueState } from './virtqueue.js';

/** What to send and how much room to leave for the answer. At least one part in all, none of them empty. */
export interface CopyRequest {
  /** One descriptor each. */
  readonly readable?: readonly Uint8Array[];
  /** Bytes of each device-writable descriptor. */
  readonly writable?: readonly number[];
  /** Use an indirect table. */
  readonly indirect?: boolean;
}

/** A buffer that came back. */
export class Collected {
  readonly kind = 'used';

  constructor(
    readonly token: BufferToken,
    /** A copy of exactly the bytes that the device says it wrote. */
    readonly copied: FreshPiece,
  ) {}

  /** The same to work with. */
  get response(): Uint8Array {
    return this.copied.from(0);
  }
}

export type CollectResult =
  | Collected
  | { readonly kind: 'empty' }
  | { readonly kind: 'violation'; readonly violation: DeviceViolation };

interface Held {
  readonly readable: readonly BufferPart[];
  readonly writable: readonly BufferPart[];
}

const FULL = { kind: 'full' } as const;
const NO_PARTS: readonly BufferPart[] = [];
const NOTHING = new FreshPiece(0);

export class CopyingDriver {
  readonly #memory: GuestMemory;
  readonly #queue: DriverQueue;
  readonly #buffers: GuestAllocator;
  /** What is in the queue, by its token. */
  readonly #held: (Held | undefined)[];

  constructor(memory: GuestMemory, queue: DriverQueue, buffers: GuestAllocator, state?: QueueState) {
    this.#memory = memory;
    this.#queue = queue;
    this.#buffers = buffers;
    this.#held = new Array<Held | undefined>(queue.size).fill(undefined);
    if (state !== undefined) this.#restore(new StateReader('the driver', state));
  }

  /** The buffers that are in the queue; the queue's own state is apart from it. */
  save(): QueueState {
    return {
      held: this.#held.flatMap((buffer, token) => (buffer === undefined ? [] : [{ token, ...buffer }])),
    };
  }

  /** Holds exactly the queue's buffers, each in pieces of guest memory that nobody else holds. */
  #restore(state: StateReader): void {
    const parts = (item: StateReader, field: string): BufferPart[] =>
      item.list(field, this.#queue.size, (part) => {
        const address = part.integer('address', Number.MAX_SAFE_INTEGER);
        const length = part.integer('length', Number.MAX_SAFE_INTEGER);
        if (!this.#buffers.claim(address, length)) throw part.invalid('address');
        return { address, length };
      });
    const writableBytes = new Map(
      this.#queue.buffers().map((buffer) => [buffer.token, buffer.writableBytes]),
    );
    const held = state.list('held', this.#queue.size, (item) => {
      const token = item.integer('token', this.#queue.size - 1);
      const buffer = { readable: parts(item, 'readable'), writable: parts(item, 'writable') };
      const bytes = buffer.writable.reduce((total, part) => total + part.length, 0);
      if (this.#held[token] !== undefined || bytes !== writableBytes.get(token)) throw item.invalid('token');
      this.#held[token] = buffer;
    });
    if (held.length !== writableBytes.size) throw state.invalid('held');
  }

  get queue(): DriverQueue {
    return this.#queue;
  }

  /**
   * Copies a request into guest memory and adds it; `full` also when guest memory is. Not yet visible to the
   * device: see {@link publish}.
   * @throws XdpbedError `virtio-violation` for a request that the specification forbids
   */
  submit(request: CopyRequest): AddResult {
    const readable: BufferPart[] = [];
    const writable: BufferPart[] = [];
    let added = false;
    try {
      for (const bytes of request.readable ?? []) {
        const address = this.#buffers.allocate(bytes.length);
        if (address === undefined) return { kind: 'full' };
        readable.push({ address, length: bytes.length });
        this.#memory.write(address, bytes);
      }
      for (const length of request.writable ?? []) {
        const address = this.#buffers.allocate(length);
        if (address === undefined) return { kind: 'full' };
        writable.push({ address, length });
      }
      const result = this.#queue.addBuffer({ readable, writable, indirect: request.indirect ?? false });
      if (result.kind === 'added') {
        added = true;
        this.#held[result.token] = { readable, writable };
      }
      return result;
    } finally {
      if (!added) this.#free(readable, writable);
    }
  }

  /**
   * As {@link submit}, of a header and what follows it in one device-readable descriptor: a frame to send.
   * @throws XdpbedError `virtio-violation` when there are no bytes
   */
  submitFrame(header: Uint8Array, bytes: Uint8Array): AddResult {
    const address = this.#buffers.allocate(header.length + bytes.length);
    if (address === undefined) return FULL;
    this.#memory.write(address, header);
    this.#memory.write(address + header.length, bytes);
    return this.#addPart({ address, length: header.length + bytes.length }, false);
  }

  /**
   * As {@link submit}, of room in one device-writable descriptor: a receive buffer.
   * @throws XdpbedError `virtio-violation` for a length of 0
   */
  submitRoom(length: number): AddResult {
    // Asked before memory is: a driver offers buffers until there is no room for one more.
    if (this.#queue.freeDescriptors === 0) return FULL;
    const address = this.#buffers.allocate(length);
    return address === undefined ? FULL : this.#addPart({ address, length }, true);
  }

  /** Exposes what was submitted. `true`: the device wants a kick. */
  publish(): boolean {
    this.#queue.publish();
    return this.#queue.shouldKick();
  }

  /** Takes the next finished request and frees its buffers. */
  collect(): CollectResult {
    const used = this.#queue.getUsed();
    if (used.kind !== 'used') return used;
    const buffer = this.#held[used.token]!;
    const copied = used.written === 0 ? NOTHING : new FreshPiece(used.written);
    let done = 0;
    for (const part of buffer.writable) {
      const count = Math.min(part.length, used.written - done);
      this.#memory.readPiece(part.address, copied, done, count);
      done += count;
    }
    this.#held[used.token] = undefined;
    this.#free(buffer.readable, buffer.writable);
    return new Collected(used.token, copied);
  }

  /**
   * Frees the buffers of all requests that never came back. Only after the device was reset: until then it
   * may still write to them.
   */
  releaseAll(): void {
    for (const buffer of this.#held) if (buffer !== undefined) this.#free(buffer.readable, buffer.writable);
    this.#held.fill(undefined);
  }

  /** Adds what was allocated, or frees it. */
  #addPart(part: BufferPart, writable: boolean): AddResult {
    let added = false;
    try {
      const result = this.#queue.addPart(part, writable);
      if (result.kind === 'added') {
        added = true;
        this.#held[result.token] = writable
          ? { readable: NO_PARTS, writable: [part] }
          : { readable: [part], writable: NO_PARTS };
      }
      return result;
    } finally {
      if (!added) this.#buffers.free(part.address);
    }
  }

  #free(readable: readonly BufferPart[], writable: readonly BufferPart[]): void {
    // The last first: each then borders on what is free already, and the list of free ranges stays as short as it is.
    for (let index = writable.length - 1; index >= 0; index--) this.#buffers.free(writable[index]!.address);
    for (let index = readable.length - 1; index >= 0; index--) this.#buffers.free(readable[index]!.address);
  }
}
