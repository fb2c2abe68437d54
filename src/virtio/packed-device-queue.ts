/**
 * The device's side of a packed virtqueue, written to be attacked, as the split one is: each field that the driver
 * can write is read once, into a local or into {@link ChainCopy}, and only the copy is checked and used; a list ends
 * after as many descriptors as the ring has; nothing that the driver can write makes a call throw.
 *
 * The device never asks the ring what it has done itself: it keeps both of its positions, and how many descriptors
 * each buffer took that it holds.
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
import { chainBytesLimit, type DeviceQueueOptions } from './queue-options.js';
import { StateReader } from './state-reader.js';
import type { DriverViolation } from './violation.js';
import type { BufferPart, DeviceQueue, PopResult, QueueState } from './virtqueue.js';

const EMPTY = { kind: 'empty' } as const;

export class PackedDeviceQueue implements DeviceQueue {
  readonly size: number;
  readonly #memory: GuestMemory;
  readonly #rings: PackedRings;
  readonly #eventIdx: boolean;
  readonly #indirect: boolean;
  readonly #copy: ChainCopy;
  readonly #held: HeldChains;
  /** Descriptors of the ring that each buffer took, by its ID, and those of all that are held. */
  readonly #descriptors: Uint16Array;
  #heldDescriptors = 0;

  /** Position of the next descriptor to read. */
  #nextAvail = 0;
  /** Position of the next used descriptor to write. */
  #nextUsed = 0;
  /** Chains popped, less those that were given back, modulo 2^16. */
  #popped = 0;
  /** Descriptors used, those that were skipped included, since `shouldInterrupt` last looked. */
  #usedSinceCheck = 0;
  #kicksEnabled = true;
  #violation: DriverViolation | undefined;

  /**
   * Opens a queue where the driver says it is.
   * Violations: `queue-size-invalid`, `queue-misaligned`, `queue-outside-memory`, `state-invalid`.
   */
  static open(
    memory: GuestMemory,
    layout: PackedLayout,
    options: DeviceQueueOptions = {},
    state?: QueueState,
  ):
    | { readonly ok: true; readonly queue: PackedDeviceQueue }
    | { readonly ok: false; readonly violation: DriverViolation } {
    const opened = openPackedRings(memory, layout);
    if (!opened.ok) return opened;
    const queue = new PackedDeviceQueue(memory, opened.rings, options);
    if (state === undefined) return { ok: true, queue };
    try {
      queue.#restore(new StateReader('the device queue', state));
      return { ok: true, queue };
    } catch (error) {
      return { ok: false, violation: violation('state-invalid', messageOf(error)) };
    }
  }

  private constructor(memory: GuestMemory, rings: PackedRings, options: DeviceQueueOptions) {
    this.#memory = memory;
    this.#rings = rings;
    this.#eventIdx = options.eventIdx ?? false;
    this.#indirect = options.indirect ?? false;
    this.size = rings.size;
    this.#held = new HeldChains(rings.size);
    this.#descriptors = new Uint16Array(rings.size);
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
    const { size } = this;
    const position = this.#nextAvail;
    const flags = this.#rings.descriptors.getUint16(descriptorAt(position, size) + DESCRIPTOR_FLAGS, true);
    if ((flags & DESCRIPTOR_OWNER) !== availableFlags(position, size)) return EMPTY;

    const id = this.#copyList(position, flags);
    if (typeof id !== 'number') return this.#fail(id);
    const descriptors = (flags & VIRTQ_DESC_F_INDIRECT) === 0 ? this.#copy.count : 1;
    if (id >= size) {
      return this.#fail(
        violation('buffer-id-out-of-range', `buffer ID ${id} is not below the queue size ${size}`),
      );
    }
    if (this.#held.hasHead(id)) {
      return this.#fail(
        violation('buffer-id-in-flight', `buffer ${id} is available again, but the device still holds it`),
      );
    }
    if (this.#heldDescriptors + descriptors > size) {
      return this.#fail(
        violation(
          'ring-overrun',
          `${this.#heldDescriptors + descriptors} descriptors are with the device, the ring has ${size}`,
        ),
      );
    }
    const chain = this.#copy.take(id, this.#popped);
    if ('reason' in chain) return this.#fail(chain);

    this.#held.add(chain);
    this.#descriptors[id] = descriptors;
    this.#heldDescriptors += descriptors;
    this.#popped = (this.#popped + 1) & 0xffff;
    this.#moveTo(advance(position, descriptors, size));
    return { kind: 'chain', chain };
  }

  readableParts(): BufferPart[] {
    return this.#copy.readableParts();
  }

  unpop(chain: DescriptorChain): boolean {
    if (!this.#held.has(chain)) return false;
    if (chain.position !== ((this.#popped - 1) & 0xffff)) return false;
    this.#release(chain);
    this.#popped = chain.position;
    this.#moveTo(advance(this.#nextAvail, -this.#descriptors[chain.head]!, this.size));
    return true;
  }

  pushUsed(chain: DescriptorChain): boolean {
    if (!this.#held.has(chain)) return false;
    this.#writeUsed(chain, this.#nextUsed);
    this.#markUsed(chain, this.#nextUsed);
    this.#passUsed(chain);
    return true;
  }

  pushUsedBatch(chains: readonly DescriptorChain[]): boolean {
    if (chains.length === 1) return this.pushUsed(chains[0]!);
    // All or none, and none twice: the driver must not see part of a packet.
    if (new Set(chains).size !== chains.length) return false;
    if (!chains.every((chain) => this.#held.has(chain))) return false;
    const first = this.#nextUsed;
    for (const [index, chain] of chains.entries()) {
      this.#writeUsed(chain, this.#nextUsed);
      if (index > 0) this.#markUsed(chain, this.#nextUsed);
      this.#passUsed(chain);
    }
    // The first one last: it is where the driver looks (virtio 1.3, 2.8.9).
    if (chains.length > 0) this.#markUsed(chains[0]!, first);
    return true;
  }

  shouldInterrupt(): boolean {
    const count = this.#usedSinceCheck;
    this.#usedSinceCheck = 0;
    if (count === 0 || this.#violation !== undefined) return false;
    return wantsEvent(this.#rings.driverEvent, this.#eventIdx, this.#nextUsed, count, this.size);
  }

  enableKicks(): boolean {
    if (this.#violation !== undefined) return false;
    const { size } = this;
    const position = this.#nextAvail;
    this.#kicksEnabled = true;
    enableEvents(this.#rings.deviceEvent, this.#eventIdx, position, size);
    // The driver may have published, and not kicked, between the last pop and the line above.
    const flags = this.#rings.descriptors.getUint16(descriptorAt(position, size) + DESCRIPTOR_FLAGS, true);
    return (flags & DESCRIPTOR_OWNER) === availableFlags(position, size);
  }

  disableKicks(): void {
    if (this.#violation !== undefined) return;
    this.#kicksEnabled = false;
    disableEvents(this.#rings.deviceEvent);
  }

  reset(): void {
    this.#releaseAll();
    this.#nextAvail = 0;
    this.#nextUsed = 0;
    this.#popped = 0;
    this.#usedSinceCheck = 0;
    this.#kicksEnabled = true;
    this.#violation = undefined;
  }

  save(): QueueState {
    return {
      nextAvail: this.#nextAvail,
      nextUsed: this.#nextUsed,
      popped: this.#popped,
      usedSinceCheck: this.#usedSinceCheck,
      kicksEnabled: this.#kicksEnabled,
      held: this.#held.save(this.#popped, ({ head }) => ({ descriptors: this.#descriptors[head]! })),
    };
  }

  held(): DescriptorChain[] {
    return this.#held.inOrder(this.#popped);
  }

  /** Throws for a state that no queue of this size can be in. */
  #restore(state: StateReader): void {
    const { size } = this;
    this.#nextAvail = state.integer('nextAvail', 2 * size - 1);
    this.#nextUsed = state.integer('nextUsed', 2 * size - 1);
    this.#popped = state.integer('popped', 0xffff);
    this.#usedSinceCheck = state.integer('usedSinceCheck', Number.MAX_SAFE_INTEGER);
    this.#kicksEnabled = state.boolean('kicksEnabled');
    this.#held.restore(state, this.#memory, this.#copy.maxBytes, (item, id) => {
      const descriptors = item.integer('descriptors', size);
      if (descriptors === 0) throw item.invalid('descriptors');
      this.#descriptors[id] = descriptors;
      this.#heldDescriptors += descriptors;
    });
    // What was read and is not used is what is held.
    if (
      this.#heldDescriptors > size ||
      distance(this.#nextUsed, this.#nextAvail, size) !== this.#heldDescriptors
    ) {
      throw state.invalid('nextUsed');
    }
  }

  /**
   * Copies the descriptors of a list, the first of which is available and has these flags: its buffer ID, or what is
   * broken. {@link ChainCopy.take} checks what they describe.
   */
  #copyList(first: number, firstFlags: number): number | DriverViolation {
    const { size } = this;
    const { descriptors: ring } = this.#rings;
    const copy = this.#copy;
    copy.clear();
    let position = first;
    let flags = firstFlags;
    for (;;) {
      const at = descriptorAt(position, size);
      const low = ring.getUint32(at, true);
      const high = ring.getUint32(at + 4, true);
      const length = ring.getUint32(at + DESCRIPTOR_LENGTH, true);
      const name = at / DESCRIPTOR_BYTES;

      if ((flags & VIRTQ_DESC_F_INDIRECT) !== 0) {
        if (!this.#indirect) {
          return violation(
            'indirect-not-negotiated',
            `descriptor ${name} has INDIRECT, which is not negotiated`,
          );
        }
        // A list is of direct descriptors, or one indirect one (virtio 1.3, 2.8.19).
        if ((flags & VIRTQ_DESC_F_NEXT) !== 0 || copy.count > 0) {
          return violation('indirect-with-next', `descriptor ${name} has INDIRECT and is linked by NEXT`);
        }
        const id = ring.getUint16(at + DESCRIPTOR_ID, true);
        return this.#copyTable(id, high, low, length) ?? id;
      }

      // Never full here: the ring has no more descriptors than a chain may have.
      copy.add(high, low, length, (flags & VIRTQ_DESC_F_WRITE) !== 0);
      if ((flags & VIRTQ_DESC_F_NEXT) === 0) return ring.getUint16(at + DESCRIPTOR_ID, true);
      if (copy.count === size) {
        return violation('chain-too-long', `the list at ${first % size} has more than ${size} descriptors`);
      }
      position = advance(position, 1, size);
      flags = ring.getUint16(descriptorAt(position, size) + DESCRIPTOR_FLAGS, true);
      if ((flags & DESCRIPTOR_OWNER) !== availableFlags(position, size)) {
        return violation(
          'list-not-available',
          `descriptor ${position % size} of the list at ${first % size} is not available`,
        );
      }
    }
  }

  /** One descriptor after the other, whose only flag is WRITE: others are ignored (virtio 1.3, 2.8.7). */
  #copyTable(id: number, high: number, low: number, bytes: number): DriverViolation | undefined {
    const table = this.#copy.indirectTable(id, high, low, bytes);
    if ('reason' in table) return table;
    if (bytes / DESCRIPTOR_BYTES > this.size) {
      return violation(
        'chain-too-long',
        `the indirect table of chain ${id} has more than ${this.size} descriptors`,
      );
    }
    for (let at = 0; at < bytes; at += DESCRIPTOR_BYTES) {
      const flags = table.getUint16(at + DESCRIPTOR_FLAGS, true);
      this.#copy.add(
        table.getUint32(at + 4, true),
        table.getUint32(at, true),
        table.getUint32(at + DESCRIPTOR_LENGTH, true),
        (flags & VIRTQ_DESC_F_WRITE) !== 0,
      );
    }
    return undefined;
  }

  /** Goes on reading there, and has the driver kick for that descriptor when it is to kick. */
  #moveTo(position: number): void {
    this.#nextAvail = position;
    if (this.#eventIdx && this.#kicksEnabled) {
      enableEvents(this.#rings.deviceEvent, true, position, this.size);
    }
  }

  /** All of a used descriptor but its flags. */
  #writeUsed({ head, writer }: DescriptorChain, position: number): void {
    const at = descriptorAt(position, this.size);
    this.#rings.descriptors.setUint32(at + DESCRIPTOR_LENGTH, writer.written, true);
    this.#rings.descriptors.setUint16(at + DESCRIPTOR_ID, head, true);
  }

  /** The flags, which make it the driver's. (One thread: no barrier needed.) */
  #markUsed({ writer }: DescriptorChain, position: number): void {
    const flags = usedFlags(position, this.size) | (writer.written > 0 ? VIRTQ_DESC_F_WRITE : 0);
    this.#rings.descriptors.setUint16(descriptorAt(position, this.size) + DESCRIPTOR_FLAGS, flags, true);
  }

  /** Releases a chain whose used descriptor stands, and skips what it took of the ring. */
  #passUsed(chain: DescriptorChain): void {
    const descriptors = this.#descriptors[chain.head]!;
    this.#release(chain);
    this.#nextUsed = advance(this.#nextUsed, descriptors, this.size);
    this.#usedSinceCheck += descriptors;
  }

  #release(chain: DescriptorChain): void {
    this.#held.release(chain);
    this.#heldDescriptors -= this.#descriptors[chain.head]!;
  }

  #releaseAll(): void {
    this.#held.releaseAll();
    this.#heldDescriptors = 0;
  }

  #fail(broken: DriverViolation): Extract<PopResult, { kind: 'violation' }> {
    this.#violation = broken;
    // A driver that broke one rule may have broken others: from here on its memory is left alone.
    this.#releaseAll();
    return { kind: 'violation', violation: broken };
  }
}
