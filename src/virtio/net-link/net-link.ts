import { XdpbedError } from '../../core/diagnostic.js';
import {
  hasFeature,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_NET_F_MRG_RXBUF,
} from '../features.js';
import { GuestAllocator, GuestMemory, roundUp } from '../guest-memory.js';
import {
  checkTransmitHeader,
  decodeNetHeader,
  encodeNetHeader,
  type NetHeader,
  PLAIN_NET_HEADER,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
} from '../net-header.js';
import { queueFormat, type QueueFormat } from '../queue-format.js';
import { concatenate } from '../concatenate.js';
import type { FreshPiece } from '../../core/fresh-bytes.js';
import type { DescriptorChain } from '../descriptor-chain.js';
import { StateReader } from '../state-reader.js';
import type { BufferToken, DeviceQueue } from '../virtqueue.js';
import { FrameTags } from './frame-tags.js';
import { LinkStatus } from './link-status.js';
import { QueueEnds, type NotificationCounts, type QueueEndsState } from './queue-ends.js';

const PAGE_BYTES = 4096;
/**
 * Bytes of the longest frame that is carried: 18 pages, which is what an XDP program can make of one at most (one page,
 * and the 17 of Linux's MAX_SKB_FRAGS). To the guest it has to fit the buffers that the guest offers.
 */
export const MAX_LINK_FRAME_BYTES = 18 * PAGE_BYTES;
/** Guest-physical address of the first byte: not 0, so that a zeroed descriptor points outside. */
export const GUEST_MEMORY_BASE = 0x10_0000;

/**
 * Bytes of a receive buffer: with merging, a common frame fits into one, and a long one into many; without, a frame
 * has to fit one, which takes a page.
 */
const MERGEABLE_BUFFER_BYTES = 2048;
const WHOLE_FRAME_BUFFER_BYTES = VIRTIO_NET_HDR_BYTES + PAGE_BYTES;
/** The allocator's unit. */
const BUFFER_ALIGNMENT = 64;

/** Virtqueue index of a receive queue (virtio 1.3, 5.1.2): receiveq1 is 0, transmitq1 1, receiveq2 2 … */
export const receiveQueueIndex = (pair: number): number => 2 * pair;
export const transmitQueueIndex = (pair: number): number => 2 * pair + 1;

/**
 * A frame, and what its sender wants to find again at the other end. The tag goes out of band, by the buffer that
 * carries the frame: undefined for a frame that a hostile guest put into a queue by itself.
 */
export interface LinkFrame<Tag> {
  /** From the destination MAC on, without virtio-net header and FCS. */
  readonly bytes: Uint8Array;
  readonly tag: Tag | undefined;
}

export interface NetLinkOptions {
  /** Used in messages: `guest0.eth0`. */
  readonly label: string;
  readonly queuePairs: number;
  /** Entries of each queue: up to 32768, and without VIRTIO_F_RING_PACKED a power of two. */
  readonly queueSize: number;
  /** Negotiated feature bits. */
  readonly features: bigint;
}

export interface NetLinkStatistics extends NotificationCounts {
  framesToGuest: number;
  framesFromGuest: number;
}

/** The guest's side. */
export interface DriverPort<Tag> {
  /** Offers receive buffers until the queue of the pair is full; called by the driver after each poll. */
  refill(pair: number): void;
  /** Takes up to `budget` received frames. */
  receive(pair: number, budget: number): LinkFrame<Tag>[];
  /** Queues a frame for transmission: false when the queue is full. */
  send(pair: number, bytes: Uint8Array, tag: Tag): boolean;
  /** Tells the device of what was queued, unless it asked not to be told. */
  kick(pair: number): void;
}

/** The host's side. */
export interface DevicePort<Tag> {
  /** Bytes of the longest frame to the guest: without merged receive buffers a frame has to fit one of a page. */
  readonly longestFrame: number;
  /** Puts a frame into receive buffers of the guest: false when the guest offers none. */
  deliver(pair: number, bytes: Uint8Array, tag: Tag): boolean;
  /** Interrupts the guest for delivered frames, unless it asked not to be: whether it was interrupted. */
  notify(pair: number): boolean;
  /** Takes up to `budget` frames that the guest queued. With fewer, kicks are on again. */
  poll(pair: number, budget: number): LinkFrame<Tag>[];
}

/** A queue and the tags of what is in it, by the buffer's token. */
interface TaggedQueue<Tag> {
  readonly ends: QueueEnds;
  readonly tags: FrameTags<Tag>;
}

/** The queues between two resets. */
interface QueueSet<Tag> {
  readonly receive: readonly TaggedQueue<Tag>[];
  readonly transmit: readonly TaggedQueue<Tag>[];
}

/** Where the queues lie in guest memory. */
export interface NetLinkLayout {
  /** First byte of each receive queue, then of each transmit queue, by pair. */
  readonly receive: readonly number[];
  readonly transmit: readonly number[];
  /** First byte of the driver's buffers; they reach to the end of the memory. */
  readonly buffers: number;
}

/**
 * The data path of a virtio-net device: one receive and one transmit virtqueue for each queue pair, in a memory that
 * belongs to the guest.
 *
 * ```
 *   memory.base                                                                    base + size
 *   | receiveq1 | transmitq1 | … | receiveqN | transmitqN | driver's buffers               |
 * ```
 *
 * The two ends share nothing but that memory. The device's end believes none of it: whatever rule the driver
 * breaks makes a violation, and the link stays down until it is reset. On a broken link frames are refused and
 * polls find nothing; nothing throws at the device's side and nothing hangs there.
 *
 * Checksum and segmentation offload are not carried, whatever was negotiated: a frame that asks for them is a
 * violation.
 */
export class NetLink<Tag = undefined> {
  readonly driver: DriverPort<Tag>;
  readonly device: DevicePort<Tag>;
  readonly statistics: NetLinkStatistics = {
    framesToGuest: 0,
    framesFromGuest: 0,
    kicks: 0,
    interrupts: 0,
    suppressedNotifications: 0,
  };
  readonly status: LinkStatus;
  /** The guest's memory: a hostile guest writes here what it likes, and so do tests. */
  readonly memory: GuestMemory;
  /** Where a hostile guest would have to write. */
  readonly layout: NetLinkLayout;

  readonly #options: NetLinkOptions;
  readonly #format: QueueFormat;
  readonly #mergeable: boolean;
  readonly #kickHandlers = new Map<number, () => void>();
  readonly #interruptHandlers = new Map<number, () => void>();
  #lostHandler: ((frames: number) => void) | undefined;
  #allocator!: GuestAllocator;
  #queues: QueueSet<Tag>;

  /**
   * @param saved goes on from there, over a copy of the memory as it was then
   * @throws XdpbedError `virtio-violation` for a queue size that the format does not take, or a state that is none
   */
  constructor(
    options: NetLinkOptions,
    saved?: { readonly state: NetLinkState<Tag>; readonly memory: Uint8Array },
  ) {
    this.#options = options;
    this.#format = queueFormat(options.features);
    this.#mergeable = hasFeature(options.features, VIRTIO_NET_F_MRG_RXBUF);
    this.status = new LinkStatus(options.label, () => this.#forgetOutstanding());
    const { memory, layout } = this.#layOut();
    this.memory = memory;
    this.layout = layout;
    if (
      saved !== undefined &&
      (saved.memory.length !== memory.size || !memory.write(memory.base, saved.memory))
    ) {
      throw this.status.error(
        `${saved.memory.length} bytes are not the ${memory.size} of this link's memory`,
      );
    }
    this.#queues = this.#openQueues(saved?.state);
    this.driver = {
      refill: (pair) => this.#refill(pair),
      receive: (pair, budget) => this.#receive(pair, budget),
      send: (pair, bytes, tag) => this.#send(pair, bytes, tag),
      kick: (pair) => {
        const { ends } = this.#transmitQueue(pair);
        if (!this.status.isDown) ends.publish();
      },
    };
    this.device = {
      longestFrame: this.#mergeable ? MAX_LINK_FRAME_BYTES : PAGE_BYTES,
      deliver: (pair, bytes, tag) => this.#deliver(pair, bytes, tag),
      notify: (pair) => {
        const { ends } = this.#receiveQueue(pair);
        return !this.status.isDown && ends.interrupt();
      },
      poll: (pair, budget) => this.#poll(pair, budget),
    };
  }

  /** Called, at once, whenever the driver kicks the queue of this index and the device has not asked it not to. */
  onKick(queue: number, handler: () => void): void {
    this.#kickHandlers.set(queue, handler);
  }

  /** Called, at once, whenever the device interrupts for the queue of this index. */
  onInterrupt(queue: number, handler: () => void): void {
    this.#interruptHandlers.set(queue, handler);
  }

  /**
   * Called with how many frames were on their way between the two ends when the link broke, was reset or closed, or
   * when a hostile guest used a buffer anew before the frame in it was taken out. Only frames with a tag count.
   */
  onLost(handler: (frames: number) => void): void {
    this.#lostHandler = handler;
  }

  /** Device reset: outstanding buffers are forgotten, a broken link works again. */
  reset(): void {
    this.status.reset();
    if (!this.status.closed) this.#queues = this.#openQueues();
  }

  close(): void {
    this.status.close();
  }

  /** What both ends know, tags included; with a copy of the memory it is enough to go on elsewhere. */
  save(): NetLinkState<Tag> {
    const save = ({ ends, tags }: TaggedQueue<Tag>): SavedQueue<Tag> => ({
      ends: ends.save(),
      tags: tags.entries(),
    });
    return {
      allocated: this.#allocator.save(),
      receive: this.#queues.receive.map(save),
      transmit: this.#queues.transmit.map(save),
    };
  }

  // The driver's end.

  #refill(pair: number): void {
    if (this.status.isDown) return;
    const { ends } = this.#receiveQueue(pair);
    for (;;) {
      const added = ends.submitRoom(this.#receiveBufferBytes);
      if (added.kind === 'full') break;
      if (added.kind === 'violation') {
        this.status.violate(`driver: ${added.violation.message}`);
        return;
      }
    }
    ends.publish();
  }

  #receive(pair: number, budget: number): LinkFrame<Tag>[] {
    const frames: LinkFrame<Tag>[] = [];
    if (this.status.isDown) return frames;
    const queue = this.#receiveQueue(pair);
    const interrupts = queue.ends.driver.queue;
    interrupts.disableInterrupts();
    for (;;) {
      // A budget that is used up leaves interrupts off: the driver will come again by itself (NAPI).
      if (frames.length >= budget) return frames;
      const frame = this.#receiveOne(queue);
      if (frame !== undefined) frames.push(frame);
      else if (this.status.isDown || !interrupts.enableInterrupts()) return frames;
      else interrupts.disableInterrupts();
    }
  }

  /** The next frame, put together from as many buffers as its header says; undefined when there is none. */
  #receiveOne({ ends, tags }: TaggedQueue<Tag>): LinkFrame<Tag> | undefined {
    const first = this.#collect(ends);
    if (first?.kind !== 'used') return undefined;
    const { copied } = first;
    const header = headerOf(copied);
    if (header === undefined) {
      this.status.violate(`driver: ${copied.length} bytes in a receive buffer hold no net header`);
      return undefined;
    }
    const bytes = copied.from(VIRTIO_NET_HDR_BYTES);
    const count = this.#mergeable ? header.numBuffers : 1;
    if (count <= 1) return { bytes, tag: tags.take(first.token) };
    const parts = [bytes];
    for (let i = 1; i < count; i++) {
      const more = this.#collect(ends);
      if (more?.kind !== 'used') {
        this.status.violate(`driver: a frame of ${count} buffers ends after ${i}`);
        return undefined;
      }
      parts.push(more.response);
    }
    // Not before it is all there: a link that broke on the way has lost it, as all the others in it.
    const tag = tags.take(first.token);
    return { bytes: concatenate(parts), tag };
  }

  #send(pair: number, bytes: Uint8Array, tag: Tag): boolean {
    if (bytes.length === 0 || bytes.length > MAX_LINK_FRAME_BYTES) {
      throw new XdpbedError(
        'packet-invalid',
        `${this.#options.label}: a frame of ${bytes.length} bytes, the link carries 1 to ${MAX_LINK_FRAME_BYTES}`,
      );
    }
    if (this.status.isDown) return false;
    const { ends, tags } = this.#transmitQueue(pair);
    // Buffers of frames that the device is done with come back here: transmit interrupts are off, as in Linux.
    while (this.#collect(ends)?.kind === 'used');
    if (this.status.isDown) return false;
    const added = ends.submitFrame(SENT_HEADER, bytes);
    if (added.kind === 'violation') this.status.violate(`driver: ${added.violation.message}`);
    if (added.kind !== 'added') return false;
    this.#tag(tags, added.token, tag);
    return true;
  }

  #collect(ends: QueueEnds): ReturnType<QueueEnds['collect']> | undefined {
    const used = ends.collect();
    if (used.kind !== 'violation') return used;
    this.status.violate(`driver: ${used.violation.message}`);
    return undefined;
  }

  // The device's end.

  #deliver(pair: number, bytes: Uint8Array, tag: Tag): boolean {
    if (this.status.isDown || bytes.length > this.device.longestFrame) return false;
    const { ends, tags } = this.#receiveQueue(pair);
    const { device } = ends;
    const first = this.#popRoom(device, pair);
    if (first === undefined) return false;
    let room = first.writer.capacity;
    if (room < VIRTIO_NET_HDR_BYTES) {
      this.status.violate(`receive queue ${pair}: a buffer of ${room} bytes, less than the net header`);
      return false;
    }
    const chains = [first];
    const needed = VIRTIO_NET_HDR_BYTES + bytes.length;
    while (room < needed && this.#mergeable) {
      const more = this.#popRoom(device, pair);
      if (this.status.isDown) return false;
      if (more === undefined) break;
      chains.push(more);
      room += more.writer.capacity;
    }
    if (room < needed) {
      // Nothing was written yet, so the buffers are as good as new.
      for (const chain of chains.reverse()) device.unpop(chain);
      return false;
    }
    // The first has room for all of the header; each is filled before the next.
    first.writer.write(receivedHeader(chains.length));
    let at = 0;
    for (const { writer } of chains) {
      const count = Math.min(bytes.length - at, writer.remaining);
      writer.write(count === bytes.length ? bytes : bytes.subarray(at, at + count));
      at += count;
    }
    this.#tag(tags, first.head, tag);
    device.pushUsedBatch(chains);
    ends.returned();
    this.statistics.framesToGuest++;
    return true;
  }

  /** The next buffer for frames to the guest; undefined when there is none, or the link broke. */
  #popRoom(device: DeviceQueue, pair: number): DescriptorChain | undefined {
    const popped = device.popChain();
    if (popped.kind === 'chain') return popped.chain;
    if (popped.kind === 'violation') {
      this.status.violate(`receive queue ${pair}: ${popped.violation.message}`);
    }
    return undefined;
  }

  #poll(pair: number, budget: number): LinkFrame<Tag>[] {
    const frames: LinkFrame<Tag>[] = [];
    if (this.status.isDown) return frames;
    const { ends, tags } = this.#transmitQueue(pair);
    const { device } = ends;
    device.disableKicks();
    // As with the driver's budget: who stops early comes again without being told.
    while (frames.length < budget) {
      const popped = device.popChain();
      if (popped.kind === 'violation') {
        this.status.violate(`transmit queue ${pair}: ${popped.violation.message}`);
        return frames;
      }
      if (popped.kind === 'empty') {
        if (!device.enableKicks()) break;
        device.disableKicks();
        continue;
      }
      const { chain } = popped;
      const problem = transmitProblem(chain.copied, chain.writer.capacity);
      if (problem !== undefined) {
        this.status.violate(`transmit queue ${pair}: ${problem}`);
        return frames;
      }
      frames.push({ bytes: chain.copied.from(VIRTIO_NET_HDR_BYTES), tag: tags.take(chain.head) });
      device.pushUsed(chain);
      ends.returned();
      this.statistics.framesFromGuest++;
    }
    ends.interrupt();
    return frames;
  }

  // Both.

  get #receiveBufferBytes(): number {
    return this.#mergeable ? MERGEABLE_BUFFER_BYTES : WHOLE_FRAME_BUFFER_BYTES;
  }

  #receiveQueue(pair: number): TaggedQueue<Tag> {
    return this.#queueAt(this.#queues.receive, pair);
  }

  #transmitQueue(pair: number): TaggedQueue<Tag> {
    return this.#queueAt(this.#queues.transmit, pair);
  }

  #queueAt(queues: readonly TaggedQueue<Tag>[], pair: number): TaggedQueue<Tag> {
    const queue = queues[pair];
    // The number comes from the fabric, never from a guest.
    if (queue === undefined) throw new RangeError(`${this.#options.label} has no queue pair ${pair}`);
    return queue;
  }

  #tag(tags: FrameTags<Tag>, token: BufferToken, tag: Tag): void {
    if (tags.put(token, tag)) this.#lostHandler?.(1);
  }

  /** Revokes every chain that the device holds. */
  #forgetOutstanding(): void {
    let lost = 0;
    for (const { ends, tags } of [...this.#queues.receive, ...this.#queues.transmit]) {
      ends.device.reset();
      lost += tags.size;
      tags.clear();
    }
    if (lost > 0) this.#lostHandler?.(lost);
  }

  #layOut(): { readonly memory: GuestMemory; readonly layout: NetLinkLayout } {
    const { queuePairs, queueSize } = this.#options;
    let at = GUEST_MEMORY_BASE;
    const place = (): number => {
      const address = at;
      at = roundUp(at + this.#format.bytes(queueSize), this.#format.alignment);
      return address;
    };
    const receive: number[] = [];
    const transmit: number[] = [];
    for (let pair = 0; pair < queuePairs; pair++) {
      receive.push(place());
      transmit.push(place());
    }
    const buffers = roundUp(at, BUFFER_ALIGNMENT);
    const perPair =
      roundUp(this.#receiveBufferBytes, BUFFER_ALIGNMENT) +
      roundUp(WHOLE_FRAME_BUFFER_BYTES, BUFFER_ALIGNMENT);
    const bytes = buffers + queuePairs * queueSize * perPair - GUEST_MEMORY_BASE;
    return { memory: new GuestMemory(bytes, GUEST_MEMORY_BASE), layout: { receive, transmit, buffers } };
  }

  #openQueues(state?: NetLinkState<Tag>): QueueSet<Tag> {
    const { layout, memory } = this;
    const { features, queueSize } = this.#options;
    const end = memory.base + memory.size;
    const range = { address: layout.buffers, length: end - layout.buffers };
    const allocator = new GuestAllocator(memory, range, BUFFER_ALIGNMENT);
    const saved = state === undefined ? undefined : this.#readState(state);
    if (saved !== undefined) allocator.restore(saved.allocated);
    this.#allocator = allocator;
    const options = {
      format: this.#format,
      memory,
      allocator,
      eventIdx: hasFeature(features, VIRTIO_F_EVENT_IDX),
      indirect: hasFeature(features, VIRTIO_F_INDIRECT_DESC),
    };
    const open = (address: number, index: number, saved: SavedQueue<Tag> | undefined): TaggedQueue<Tag> => {
      const ends = new QueueEnds(options, this.statistics, address, queueSize, saved?.ends);
      ends.onKick = () => this.#kickHandlers.get(index)?.();
      ends.onInterrupt = () => this.#interruptHandlers.get(index)?.();
      return { ends, tags: new FrameTags(queueSize, saved?.tags) };
    };
    const transmit = layout.transmit.map((address, pair) =>
      open(address, transmitQueueIndex(pair), saved?.transmit[pair]),
    );
    if (saved === undefined) for (const { ends } of transmit) ends.driver.queue.disableInterrupts();
    const receive = layout.receive.map((address, pair) =>
      open(address, receiveQueueIndex(pair), saved?.receive[pair]),
    );
    if (allocator.unclaimed > 0) throw this.status.error('the saved state has buffers that are in no queue');
    return { receive, transmit };
  }

  /** Saved state may have come from anywhere: its form is looked at here, what it says by those who go on from it. */
  #readState(state: NetLinkState<Tag>): NetLinkState<Tag> {
    const { queuePairs, queueSize } = this.#options;
    const link = new StateReader('the link', { state }).object('state');
    const queues = (field: string): SavedQueue<Tag>[] => {
      const read = link.list(field, queuePairs, (queue) => ({
        ends: queue.object('ends').state as unknown as QueueEndsState,
        tags: queue.entries('tags', queueSize, queueSize - 1) as [number, Tag][],
      }));
      if (read.length !== queuePairs) throw link.invalid(field);
      return read;
    };
    const most = this.memory.size / BUFFER_ALIGNMENT;
    const allocated = link
      .entries('allocated', most, Number.MAX_SAFE_INTEGER)
      .map(([address, bytes]): [number, number] => {
        if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes)) throw link.invalid('allocated');
        return [address, bytes];
      });
    return { allocated, receive: queues('receive'), transmit: queues('transmit') };
  }
}

interface SavedQueue<Tag> {
  readonly ends: QueueEndsState;
  readonly tags: readonly (readonly [token: number, tag: Tag])[];
}

/** As JSON has it, if the tags are. */
export interface NetLinkState<Tag> {
  readonly allocated: readonly (readonly [address: number, bytes: number])[];
  readonly receive: readonly SavedQueue<Tag>[];
  readonly transmit: readonly SavedQueue<Tag>[];
}

const SENT_HEADER = encodeNetHeader(PLAIN_NET_HEADER);
const ONE_BUFFER_HEADER = encodeNetHeader({ ...PLAIN_NET_HEADER, numBuffers: 1 });

/** What goes before a frame in so many receive buffers. */
function receivedHeader(numBuffers: number): Uint8Array {
  return numBuffers === 1 ? ONE_BUFFER_HEADER : encodeNetHeader({ ...PLAIN_NET_HEADER, numBuffers });
}

/** The header that a frame comes behind, or `undefined` when there are fewer bytes. */
function headerOf({ block, start, length }: FreshPiece): NetHeader | undefined {
  return length < VIRTIO_NET_HDR_BYTES ? undefined : decodeNetHeader(block.bytes, start);
}

/** What is wrong with a chain of the transmit queue, if anything. */
function transmitProblem(copied: FreshPiece, writableBytes: number): string | undefined {
  if (writableBytes > 0) return `a frame to send comes with ${writableBytes} device-writable bytes`;
  const header = headerOf(copied);
  if (header === undefined) return `${copied.length} bytes do not hold a net header`;
  const length = copied.length - VIRTIO_NET_HDR_BYTES;
  if (length === 0) return 'a net header without a frame';
  if (length > MAX_LINK_FRAME_BYTES) {
    return `a frame of ${length} bytes exceeds the limit of ${MAX_LINK_FRAME_BYTES}`;
  }
  const problem = checkTransmitHeader(header, length);
  if (problem !== undefined) return `net header: ${problem}`;
  if ((header.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0 || header.gsoType !== VIRTIO_NET_HDR_GSO_NONE) {
    return 'net header: checksum and segmentation offload are not carried by this link';
  }
  return undefined;
}
