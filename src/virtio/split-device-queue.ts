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
import { ChainCopy, violation } from './chain-copy.js';
import type { DescriptorChain } from './descriptor-chain.js';
import {
  DESCRIPTOR_BYTES,
  DESCRIPTOR_LENGTH,
  VIRTQ_DESC_F_INDIRECT,
  VIRTQ_DESC_F_NEXT,
  VIRTQ_DESC_F_WRITE,
} from './descriptor-format.js';
import type { GuestMemory } from './guest-memory.js';
import { HeldChains } from './held-chains.js';
import { chainBytesLimit, type DeviceQueueOptions } from './queue-options.js';
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
import type { DriverViolation, DriverViolationReason } from './violation.js';
import { StateReader } from './state-reader.js';
import type { BufferPart, DeviceQueue, PopResult, QueueState } from './virtqueue.js';

const EMPTY = { kind: 'empty' } as const;

export class SplitDeviceQueue implements DeviceQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #rings: SplitRings;
  readonly #eventIdx: boolean;
  readonly #indirect: boolean;
  readonly #copy: ChainCopy;

  /** Next avail ring position to read, modulo 2^16. */
  #nextAvail = 0;
  /** Next used ring position to write, modulo 2^16. The device keeps its own: `used.idx` is guest memory. */
  #nextUsed = 0;
  /** Used elements written since `shouldInterrupt` last looked. */
  #pushedSinceCheck = 0;
  #kicksEnabled = true;
  #violation: DriverViolation | undefined;
  readonly #held: HeldChains;

  /**
   * Opens a queue where the driver says it is.
   * Violations: `queue-size-invalid`, `queue-misaligned`, `queue-outside-memory`.
   */
  static open(
    memory: GuestMemory,
    layout: SplitLayout,
    options: DeviceQueueOptions = {},
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

  private constructor(memory: GuestMemory, rings: SplitRings, options: DeviceQueueOptions) {
    this.#memory = memory;
    this.#rings = rings;
    this.#eventIdx = options.eventIdx ?? false;
    this.#indirect = options.indirect ?? false;
    this.size = rings.size;
    this.#held = new HeldChains(rings.size);
    this.#copy = new ChainCopy(memory, rings.size, chainBytesLimit(options.maxChainBytes));
  }

  get inFlight(): number {
    return this.#held.count;
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
    if (this.#held.hasHead(head)) {
      return this.#break('head-in-flight', `head ${head} is available again, but the device still holds it`);
    }

    const broken = this.#copyDescriptors(head);
    if (broken !== undefined) return this.#fail(broken);
    const chain = this.#copy.take(head, this.#nextAvail);
    if ('reason' in chain) return this.#fail(chain);

    this.#held.add(chain);
    this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
    this.#updateAvailEvent();
    return { kind: 'chain', chain };
  }

  readableParts(): BufferPart[] {
    return this.#copy.readableParts();
  }

  unpop(chain: DescriptorChain): boolean {
    if (!this.#held.has(chain)) return false;
    if (chain.position !== ((this.#nextAvail - 1) & 0xffff)) return false;
    this.#held.release(chain);
    this.#nextAvail = chain.position;
    this.#updateAvailEvent();
    return true;
  }

  pushUsed(chain: DescriptorChain): boolean {
    if (!this.#held.has(chain)) return false;
    this.#writeUsedElement(chain, this.#nextUsed);
    this.#publishUsed(1);
    return true;
  }

  pushUsedBatch(chains: readonly DescriptorChain[]): boolean {
    if (chains.length === 1) return this.pushUsed(chains[0]!);
    // All or none, and none twice: the driver must not see part of a packet.
    if (new Set(chains).size !== chains.length) return false;
    if (!chains.every((chain) => this.#held.has(chain))) return false;
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
    this.#held.releaseAll();
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
      held: this.#held.save(this.#nextAvail),
    };
  }

  held(): DescriptorChain[] {
    return this.#held.inOrder(this.#nextAvail);
  }

  /** Throws for a state that no queue of this size can be in. */
  #restore(state: StateReader): void {
    this.#nextAvail = state.integer('nextAvail', 0xffff);
    this.#nextUsed = state.integer('nextUsed', 0xffff);
    this.#pushedSinceCheck = state.integer('pushedSinceCheck', Number.MAX_SAFE_INTEGER);
    this.#kicksEnabled = state.boolean('kicksEnabled');
    this.#held.restore(state, this.#memory, this.#copy.maxBytes);
  }

  /**
   * Copies the descriptors of a chain: what is broken, if anything is. Structure only (links, indirection, lengths of
   * chains); {@link ChainCopy.take} checks what they describe.
   */
  #copyDescriptors(head: number): DriverViolation | undefined {
    const copy = this.#copy;
    copy.clear();
    let table = this.#rings.descriptors;
    let entries = this.size;
    let inIndirect = false;
    let index = head;
    let visited = 0;
    for (;;) {
      // More visits than entries: some entry was visited twice. Tells a loop from a chain that is too long.
      if (visited === entries) {
        return violation('descriptor-loop', `chain ${head} loops: its table has only ${entries} descriptors`);
      }
      visited += 1;

      const at = index * DESCRIPTOR_BYTES;
      const low = table.getUint32(at, true);
      const high = table.getUint32(at + 4, true);
      const length = table.getUint32(at + DESCRIPTOR_LENGTH, true);
      const flags = table.getUint16(at + DESCRIPTOR_FLAGS, true);
      const next = table.getUint16(at + DESCRIPTOR_NEXT, true);

      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (inIndirect) {
          return violation('indirect-nested', `chain ${head} has INDIRECT within an indirect table`);
        }
        if (!this.#indirect) {
          return violation('indirect-not-negotiated', `chain ${head} has INDIRECT, which is not negotiated`);
        }
        if ((flags & VIRTQ_DESC_F_NEXT) !== 0) {
          return violation('indirect-with-next', `chain ${head} has INDIRECT and NEXT in one descriptor`);
        }
        // WRITE is ignored here, and descriptors may come before this one (virtio 1.3, 2.7.5.3.2).
        const view = copy.indirectTable(head, high, low, length);
        if ('reason' in view) return view;
        table = view;
        entries = length / DESCRIPTOR_BYTES;
        inIndirect = true;
        index = 0;
        visited = 0;
        continue;
      }

      if (!copy.add(high, low, length, (flags & VIRTQ_DESC_F_WRITE) !== 0)) {
        return violation('chain-too-long', `chain ${head} has more than ${this.size} descriptors`);
      }
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return undefined;
      if (next >= entries) {
        return violation(
          'next-out-of-range',
          `chain ${head} goes on at ${next}, its table has ${entries} descriptors`,
        );
      }
      index = next;
    }
  }

  #writeUsedElement(chain: DescriptorChain, position: number): void {
    const element = RING_ENTRIES + USED_ELEMENT_BYTES * (position & (this.size - 1));
    this.#rings.used.setUint32(element, chain.head, true);
    this.#rings.used.setUint32(element + 4, chain.writer.written, true);
    this.#held.release(chain);
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

  #break(reason: DriverViolationReason, message: string): Extract<PopResult, { kind: 'violation' }> {
    return this.#fail({ reason, message });
  }

  #fail(broken: DriverViolation): Extract<PopResult, { kind: 'violation' }> {
    this.#violation = broken;
    // A driver that broke one rule may have broken others: from here on its memory is left alone.
    this.#held.releaseAll();
    return { kind: 'violation', violation: broken };
  }
}
