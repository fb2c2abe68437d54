/**
 * The device's side of a split virtqueue, written to be attacked.
 *
 * What the driver controls is everything in the descriptor table, the avail ring and the indirect tables,
 * and it may change any of it at any time. So:
 *
 * - every field is read once, into a local or a scratch array, and only the copy is checked and used;
 * - every loop is bounded by the queue size, whatever `next` says;
 * - every index and every address range is checked before use, and once more by the window or the memory
 *   it goes through;
 * - nothing that the driver can write makes a call throw.
 */

import { messageOf } from '../core/diagnostic.js';
import { freshBytes } from '../core/fresh-bytes.js';
import { ChainWriter, type DescriptorChain } from './descriptor-chain.js';
import type { GuestMemory } from './guest-memory.js';
import {
  AVAIL_ENTRY_BYTES,
  crossedEvent,
  DESCRIPTOR_BYTES,
  openSplitRings,
  RING_ENTRIES,
  RING_FLAGS,
  RING_IDX,
  type SplitLayout,
  type SplitRings,
  USED_ELEMENT_BYTES,
  VIRTQ_AVAIL_F_NO_INTERRUPT,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
  VIRTQ_USED_F_NO_NOTIFY,
} from './split-layout.js';
import type { DriverViolation, DriverViolationReason } from './violation.js';
import { StateReader } from './state-reader.js';
import type { BufferPart, DeviceQueue, PopResult, QueueState } from './virtqueue.js';

/** What a device takes in one chain unless it says otherwise: a 64 KiB GSO frame many times over. */
export const DEFAULT_MAX_CHAIN_BYTES = 1 << 20;

export interface SplitDeviceQueueOptions {
  /** VIRTIO_F_EVENT_IDX is negotiated. */
  readonly eventIdx?: boolean;
  /** VIRTIO_F_INDIRECT_DESC is negotiated. */
  readonly indirect?: boolean;
  /** Readable and writable bytes of one chain together; default {@link DEFAULT_MAX_CHAIN_BYTES}. */
  readonly maxChainBytes?: number;
}

const EMPTY = { kind: 'empty' } as const;
const NOTHING = new Uint8Array();

export class SplitDeviceQueue implements DeviceQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #rings: SplitRings;
  readonly #eventIdx: boolean;
  readonly #indirect: boolean;
  readonly #maxChainBytes: number;

  /** Next avail ring position to read, modulo 2^16. */
  #nextAvail = 0;
  /** Next used ring position to write, modulo 2^16. The device keeps its own: `used.idx` is guest memory. */
  #nextUsed = 0;
  /** Used elements written since `shouldInterrupt` last looked. */
  #pushedSinceCheck = 0;
  #kicksEnabled = true;
  #inFlight = 0;
  #violation: DriverViolation | undefined;
  /** Chains that the device holds, by head. */
  readonly #held: (DescriptorChain | undefined)[];

  // The copy of the chain being popped, one entry per descriptor. Addresses stay split in two 32-bit halves
  // because a number cannot hold all of a u64 and a bigint per descriptor would be garbage in the hot path.
  readonly #addressHigh: Uint32Array;
  readonly #addressLow: Uint32Array;
  readonly #length: Uint32Array;
  readonly #writable: Uint8Array;
  /** Of these, the device-readable ones, which come first. */
  #readableCount = 0;

  /**
   * Opens a queue where the driver says it is.
   * Violations: `queue-size-invalid`, `queue-misaligned`, `queue-outside-memory`.
   */
  static open(
    memory: GuestMemory,
    layout: SplitLayout,
    options: SplitDeviceQueueOptions = {},
    state?: QueueState,
  ):
    | { readonly ok: true; readonly queue: SplitDeviceQueue }
    | { readonly ok: false; readonly violation: DriverViolation } {
    const opened = openSplitRings(memory, layout);
    if (!opened.ok) return opened;
    const queue = new SplitDeviceQueue(memory, opened.rings, options);
    if (state === undefined) return { ok: true, queue };
    try {
      queue.#restore(new StateReader('the device queue', state));
      return { ok: true, queue };
    } catch (error) {
      return { ok: false, violation: { reason: 'state-invalid', message: messageOf(error) } };
    }
  }

  private constructor(memory: GuestMemory, rings: SplitRings, options: SplitDeviceQueueOptions) {
    this.#memory = memory;
    this.#rings = rings;
    this.#eventIdx = options.eventIdx ?? false;
    this.#indirect = options.indirect ?? false;
    // No more than used.len can say, whatever the option.
    this.#maxChainBytes = Math.min(options.maxChainBytes ?? DEFAULT_MAX_CHAIN_BYTES, 0xffff_ffff);
    this.size = rings.size;
    this.#held = new Array<DescriptorChain | undefined>(rings.size).fill(undefined);
    this.#addressHigh = new Uint32Array(rings.size);
    this.#addressLow = new Uint32Array(rings.size);
    this.#length = new Uint32Array(rings.size);
    this.#writable = new Uint8Array(rings.size);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  get violation(): DriverViolation | undefined {
    return this.#violation;
  }

  popChain(): PopResult {
    if (this.#violation !== undefined) return { kind: 'violation', violation: this.#violation };
    const { avail } = this.#rings;
    const availIdx = avail.getUint16(RING_IDX, true);
    const pending = (availIdx - this.#nextAvail) & 0xffff;
    if (pending === 0) return EMPTY;
    if (pending > this.size) {
      return this.#break(
        'avail-idx-jump',
        `avail idx ${availIdx} is ${pending} ahead, the queue size is ${this.size}`,
      );
    }

    const slot = this.#nextAvail & (this.size - 1);
    const head = avail.getUint16(RING_ENTRIES + AVAIL_ENTRY_BYTES * slot, true);
    if (head >= this.size) {
      return this.#break('head-out-of-range', `head ${head} is not below the queue size ${this.size}`);
    }
    if (this.#held[head] !== undefined) {
      return this.#break('head-in-flight', `head ${head} is available again, but the device still holds it`);
    }

    const walked = this.#copyDescriptors(head);
    if (typeof walked !== 'number') return walked;
    const taken = this.#take(head, walked);
    if (taken.kind !== 'chain') return taken;

    this.#held[head] = taken.chain;
    this.#inFlight += 1;
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    this.#updateAvailEvent();
    return taken;
  }

  readableParts(): BufferPart[] {
    return Array.from({ length: this.#readableCount }, (_, i) => ({
      address: addressOf(this.#addressHigh[i]!, this.#addressLow[i]!),
      length: this.#length[i]!,
    }));
  }

  unpop(chain: DescriptorChain): boolean {
    if (this.#held[chain.head] !== chain) return false;
    if (chain.position !== ((this.#nextAvail - 1) & 0xffff)) return false;
    this.#release(chain);
    this.#nextAvail = chain.position;
    this.#updateAvailEvent();
    return true;
  }

  pushUsed(chain: DescriptorChain): boolean {
    if (this.#held[chain.head] !== chain) return false;
    this.#writeUsedElement(chain, this.#nextUsed);
    this.#publishUsed(1);
    return true;
  }

  pushUsedBatch(chains: readonly DescriptorChain[]): boolean {
    if (chains.length === 1) return this.pushUsed(chains[0]!);
    // All or none, and none twice: the driver must not see part of a packet.
    if (new Set(chains).size !== chains.length) return false;
    if (!chains.every((chain) => this.#held[chain.head] === chain)) return false;
    for (const [i, chain] of chains.entries()) this.#writeUsedElement(chain, this.#nextUsed + i);
    if (chains.length > 0) this.#publishUsed(chains.length);
    return true;
  }

  shouldInterrupt(): boolean {
    const count = this.#pushedSinceCheck;
    this.#pushedSinceCheck = 0;
    if (count === 0 || this.#violation !== undefined) return false;
    const { avail } = this.#rings;
    if (this.#eventIdx) {
      const usedEvent = avail.getUint16(RING_ENTRIES + AVAIL_ENTRY_BYTES * this.size, true);
      return crossedEvent(usedEvent, this.#nextUsed, count);
    }
    return (avail.getUint16(RING_FLAGS, true) & VIRTQ_AVAIL_F_NO_INTERRUPT) === 0;
  }

  enableKicks(): boolean {
    if (this.#violation !== undefined) return false;
    this.#kicksEnabled = true;
    if (this.#eventIdx) this.#updateAvailEvent();
    else this.#rings.used.setUint16(RING_FLAGS, 0, true);
    // The driver may have published, and not kicked, between the last pop and the line above.
    return this.#rings.avail.getUint16(RING_IDX, true) !== this.#nextAvail;
  }

  disableKicks(): void {
    if (this.#violation !== undefined) return;
    this.#kicksEnabled = false;
    // With EVENT_IDX the flags stay 0 (virtio 1.3, 2.7.10.2); the event index alone suppresses.
    if (this.#eventIdx) this.#updateAvailEvent();
    else this.#rings.used.setUint16(RING_FLAGS, VIRTQ_USED_F_NO_NOTIFY, true);
  }

  reset(): void {
    this.#revokeAll();
    this.#nextAvail = 0;
    this.#nextUsed = 0;
    this.#pushedSinceCheck = 0;
    this.#kicksEnabled = true;
    this.#violation = undefined;
  }

  save(): QueueState {
    return {
      nextAvail: this.#nextAvail,
      nextUsed: this.#nextUsed,
      pushedSinceCheck: this.#pushedSinceCheck,
      kicksEnabled: this.#kicksEnabled,
      held: this.held().map(({ head, position, readable, writer }) => ({
        head,
        position,
        readable: Buffer.from(readable).toString('hex'),
        ...writer.save(),
      })),
    };
  }

  held(): DescriptorChain[] {
    const order = (chain: DescriptorChain): number => (chain.position - this.#nextAvail) & 0xffff;
    return this.#held.filter((chain) => chain !== undefined).sort((a, b) => order(a) - order(b));
  }

  /** Throws for a state that no queue of this size can be in; segments outside memory are refused as when popped. */
  #restore(state: StateReader): void {
    this.#nextAvail = state.integer('nextAvail', 0xffff);
    this.#nextUsed = state.integer('nextUsed', 0xffff);
    this.#pushedSinceCheck = state.integer('pushedSinceCheck', Number.MAX_SAFE_INTEGER);
    this.#kicksEnabled = state.boolean('kicksEnabled');
    const chains = state.list('held', this.size, (item): DescriptorChain => {
      const addresses = item.integers('addresses', this.size, Number.MAX_SAFE_INTEGER);
      const lengths = item.integers('lengths', this.size, this.#maxChainBytes);
      const capacity = lengths.reduce((total, length) => total + length, 0);
      const outside = addresses.some(
        (address, index) => !this.#memory.contains(address, lengths[index] ?? -1),
      );
      if (outside || addresses.length !== lengths.length) throw item.invalid('addresses');
      return {
        head: item.integer('head', this.size - 1),
        position: item.integer('position', 0xffff),
        readable: item.bytes('readable', this.#maxChainBytes),
        writer: new ChainWriter(this.#memory, addresses, lengths, item.integer('written', capacity)),
      };
    });
    for (const chain of chains) {
      if (this.#held[chain.head] !== undefined) throw state.invalid('held');
      this.#held[chain.head] = chain;
      this.#inFlight += 1;
    }
  }

  /**
   * Copies the descriptors of a chain into the scratch arrays: number of descriptors, or the violation.
   * Structure only (links, indirection, lengths of chains); {@link #take} checks what they describe.
   */
  #copyDescriptors(head: number): number | Extract<PopResult, { kind: 'violation' }> {
    let table = this.#rings.descriptors;
    let entries = this.size;
    let inIndirect = false;
    let index = head;
    let visited = 0;
    let count = 0;
    for (;;) {
      // More visits than entries: some entry was visited twice. Tells a loop from a chain that is too long.
      if (visited === entries) {
        return this.#break(
          'descriptor-loop',
          `chain ${head} loops: its table has only ${entries} descriptors`,
        );
      }
      visited += 1;

      const at = index * DESCRIPTOR_BYTES;
      const low = table.getUint32(at, true);
      const high = table.getUint32(at + 4, true);
      const length = table.getUint32(at + 8, true);
      const flags = table.getUint16(at + 12, true);
      const next = table.getUint16(at + 14, true);

      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (inIndirect) {
          return this.#break('indirect-nested', `chain ${head} has INDIRECT within an indirect table`);
        }
        if (!this.#indirect) {
          return this.#break(
            'indirect-not-negotiated',
            `chain ${head} has INDIRECT, which is not negotiated`,
          );
        }
        if ((flags & VIRTQ_DESC_F_NEXT) !== 0) {
          return this.#break('indirect-with-next', `chain ${head} has INDIRECT and NEXT in one descriptor`);
        }
        if (length === 0 || length % DESCRIPTOR_BYTES !== 0) {
          return this.#break(
            'indirect-length-invalid',
            `the indirect table of chain ${head} has ${length} bytes, not a multiple of ${DESCRIPTOR_BYTES}`,
          );
        }
        // WRITE is ignored here, and descriptors may come before this one (virtio 1.3, 2.7.5.3.2).
        const view = this.#memory.window(addressOf(high, low), length);
        if (view === undefined) return this.#breakAddress(head, high, low, length);
        table = view;
        entries = length / DESCRIPTOR_BYTES;
        inIndirect = true;
        index = 0;
        visited = 0;
        continue;
      }

      if (count === this.size) {
        return this.#break('chain-too-long', `chain ${head} has more than ${this.size} descriptors`);
      }
      this.#addressHigh[count] = high;
      this.#addressLow[count] = low;
      this.#length[count] = length;
      this.#writable[count] = (flags & VIRTQ_DESC_F_WRITE) === 0 ? 0 : 1;
      count += 1;

      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return count;
      if (next >= entries) {
        return this.#break(
          'next-out-of-range',
          `chain ${head} goes on at ${next}, its table has ${entries} descriptors`,
        );
      }
      index = next;
    }
  }

  /** Checks what the copied descriptors describe and builds the chain. */
  #take(head: number, count: number): PopResult {
    let readableBytes = 0;
    let writableBytes = 0;
    let readableCount = 0;
    for (let i = 0; i < count; i++) {
      const length = this.#length[i]!;
      if (length === 0) {
        return this.#break('zero-length', `descriptor ${i} of chain ${head} has no bytes`);
      }
      if (this.#writable[i] === 1) {
        writableBytes += length;
      } else {
        if (readableCount !== i) {
          return this.#break(
            'readable-after-writable',
            `descriptor ${i} of chain ${head} is readable after a writable one`,
          );
        }
        readableCount += 1;
        readableBytes += length;
      }
      const high = this.#addressHigh[i]!;
      const low = this.#addressLow[i]!;
      if (!this.#memory.contains(addressOf(high, low), length)) {
        return this.#breakAddress(head, high, low, length);
      }
      if (readableBytes + writableBytes > this.#maxChainBytes) {
        return this.#break(
          'chain-bytes-over-limit',
          `chain ${head} exceeds the limit of ${this.#maxChainBytes} bytes`,
        );
      }
    }

    this.#readableCount = readableCount;
    const readable = readableBytes === 0 ? NOTHING : freshBytes(readableBytes);
    for (let i = 0, to = 0; i < readableCount; i++) {
      const length = this.#length[i]!;
      this.#memory.readInto(addressOf(this.#addressHigh[i]!, this.#addressLow[i]!), readable, to, length);
      to += length;
    }
    const addresses: number[] = [];
    const lengths: number[] = [];
    for (let i = readableCount; i < count; i++) {
      addresses.push(addressOf(this.#addressHigh[i]!, this.#addressLow[i]!));
      lengths.push(this.#length[i]!);
    }
    const writer = new ChainWriter(this.#memory, addresses, lengths);
    return { kind: 'chain', chain: { head, position: this.#nextAvail, readable, writer } };
  }

  #writeUsedElement(chain: DescriptorChain, position: number): void {
    const element = RING_ENTRIES + USED_ELEMENT_BYTES * (position & (this.size - 1));
    this.#rings.used.setUint32(element, chain.head, true);
    this.#rings.used.setUint32(element + 4, chain.writer.written, true);
    this.#release(chain);
  }

  /** The elements come first, idx last: idx is what makes them the driver's. (One thread: no barrier needed.) */
  #publishUsed(count: number): void {
    this.#nextUsed = (this.#nextUsed + count) & 0xffff;
    this.#rings.used.setUint16(RING_IDX, this.#nextUsed, true);
    this.#pushedSinceCheck += count;
  }

  /** Half the index space away, and moved along with every pop, an event index is never reached. */
  #updateAvailEvent(): void {
    if (!this.#eventIdx) return;
    const event = this.#kicksEnabled ? this.#nextAvail : (this.#nextAvail + 0x8000) & 0xffff;
    this.#rings.used.setUint16(RING_ENTRIES + USED_ELEMENT_BYTES * this.size, event, true);
  }

  #release(chain: DescriptorChain): void {
    chain.writer.close();
    this.#held[chain.head] = undefined;
    this.#inFlight -= 1;
  }

  #revokeAll(): void {
    for (const chain of this.#held) {
      if (chain !== undefined) this.#release(chain);
    }
  }

  #breakAddress(
    head: number,
    high: number,
    low: number,
    length: number,
  ): Extract<PopResult, { kind: 'violation' }> {
    const address = (BigInt(high) << 32n) | BigInt(low);
    const what = `chain ${head}: ${length} bytes at 0x${address.toString(16)}`;
    return address + BigInt(length) > 1n << 64n
      ? this.#break('address-overflow', `${what} wrap 2^64`)
      : this.#break('address-outside-memory', `${what} are outside guest memory`);
  }

  #break(reason: DriverViolationReason, message: string): Extract<PopResult, { kind: 'violation' }> {
    this.#violation = { reason, message };
    // A driver that broke one rule may have broken others: from here on its memory is left alone.
    this.#revokeAll();
    return { kind: 'violation', violation: this.#violation };
  }
}

/** Exact below 2^53; above, rounded but still at or above 2^53 and so outside every {@link GuestMemory}. */
function addressOf(high: number, low: number): number {
  return high * 0x1_0000_0000 + low;
}
