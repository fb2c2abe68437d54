import { XdpbedError, messageOf } from '../../src/core/diagnostic.js';
import type {
  DevicePort,
  DriverPort,
  LinkOptions,
  LinkStatistics,
  TransportLink,
} from '../../src/core/contract/transport.js';
import {
  CopyingDriver,
  checkTransmitHeader,
  decodeNetHeader,
  encodeNetHeader,
  GuestAllocator,
  GuestMemory,
  hasFeature,
  PLAIN_NET_HEADER,
  SplitDeviceQueue,
  SplitDriverQueue,
  splitLayoutAt,
  splitLayoutBytes,
  VIRTIO_F_EVENT_IDX,
  VIRTIO_F_INDIRECT_DESC,
  VIRTIO_NET_F_CTRL_VQ,
  VIRTIO_NET_F_MRG_RXBUF,
  VIRTIO_NET_HDR_BYTES,
  VIRTIO_NET_HDR_F_NEEDS_CSUM,
  VIRTIO_NET_HDR_GSO_NONE,
  type BufferToken,
  type CollectResult,
  type DescriptorChain,
  type SplitLayout,
} from '../../src/virtio/index.js';

/** Bytes of the longest frame that is carried: a page, which is what an XDP program can make of one at most. */
export const MAX_LINK_FRAME_BYTES = 4096;
/** Descriptors of the control queue; what QEMU gives it. */
export const CONTROL_QUEUE_SIZE = 64;
/** Guest-physical address of the first byte: not 0, so that a zeroed descriptor points outside. */
export const GUEST_MEMORY_BASE = 0x10_0000;

/** Bytes that control commands of the driver may take at once; one is under way at a time. */
const CONTROL_BUFFER_BYTES = 2 * 1024 * 1024;
/** Bytes of a receive buffer: with merging, a common frame fits into one; without, every frame has to. */
const MERGEABLE_BUFFER_BYTES = 2048;
const WHOLE_FRAME_BUFFER_BYTES = VIRTIO_NET_HDR_BYTES + MAX_LINK_FRAME_BYTES;
/** The allocator's unit. */
const BUFFER_ALIGNMENT = 64;

/** Both ends of one virtqueue. */
interface QueueEnds {
  readonly driver: CopyingDriver;
  readonly device: SplitDeviceQueue;
  /** The driver has added buffers since it last published. */
  unpublished: boolean;
  /** The device has returned buffers since it last looked whether to interrupt. */
  unannounced: boolean;
}

/** The queues between two resets. */
interface QueueSet {
  readonly receive: readonly QueueEnds[];
  readonly transmit: readonly QueueEnds[];
  readonly control: QueueEnds | undefined;
}

/** Where the queues lie in guest memory. */
export interface LinkLayout {
  readonly receive: readonly SplitLayout[];
  readonly transmit: readonly SplitLayout[];
  readonly control: SplitLayout;
  /** First byte of the driver's buffers; they reach to the end of the memory. */
  readonly buffers: number;
}

/**
 * A link of split virtqueues: a control queue and one receive and one transmit queue for each queue pair, in a
 * memory that belongs to the guest.
 *
 * ```
 *   memory.base                                                                        base + size
 *   | receiveq1 | transmitq1 | … | receiveqN | transmitqN | controlq | driver's buffers          |
 * ```
 *
 * The two ends share nothing but that memory. The device's end believes none of it: whatever rule the driver
 * breaks makes a violation, which ends in `handlers.broken` and a link that stays down until it is reset. On a
 * broken link frames are refused, polls find nothing and control commands are rejected; nothing throws at the
 * device's side and nothing hangs there.
 *
 * Checksum and segmentation offload are not carried, whatever was negotiated: a frame that asks for them is a
 * violation.
 */
export class VirtqueueLink implements TransportLink {
  readonly driver: DriverPort;
  readonly device: DevicePort;
  readonly statistics: LinkStatistics = {
    controlCommands: 0,
    framesToGuest: 0,
    framesFromGuest: 0,
    kicks: 0,
    interrupts: 0,
    suppressedNotifications: 0,
    violations: 0,
  };
  /** The guest's memory: a hostile guest writes here what it likes, and so do tests. */
  readonly memory: GuestMemory;
  /** Where a hostile guest would have to write. */
  readonly layout: LinkLayout;

  readonly #options: LinkOptions;
  readonly #mergeable: boolean;
  #queues: QueueSet;
  /** Why the link is down. */
  #broken: string | undefined;
  #closed = false;
  /** Goes up with every reset, so that what was under way before knows that it comes too late. */
  #generation = 0;
  #servingControl = false;
  /** The control command that the driver waits for. */
  #waiting:
    | {
        readonly token: BufferToken;
        readonly resolve: (response: Uint8Array) => void;
        readonly reject: (error: Error) => void;
      }
    | undefined;
  /** The driver sends one control command at a time, as Linux does. */
  #controlLock: Promise<unknown> = Promise.resolve();

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#mergeable = hasFeature(options.features, VIRTIO_NET_F_MRG_RXBUF);
    const { memory, layout } = layOut(options, this.#receiveBufferBytes);
    this.memory = memory;
    this.layout = layout;
    this.#queues = this.#openQueues();
    this.driver = {
      control: (readable, writableLength) => this.#control(readable, writableLength),
      refill: (queue) => this.#refill(queue),
      receive: (queue, budget) => this.#receive(queue, budget),
      send: (queue, frame) => this.#send(queue, frame),
      kick: (queue) => this.#publish(this.#transmitQueue(queue)),
    };
    this.device = {
      deliver: (queue, frame) => this.#deliver(queue, frame),
      notify: (queue) => this.#interrupt(this.#receiveQueue(queue)),
      poll: (queue, budget) => this.#poll(queue, budget),
    };
  }

  /** Why the link is down, until it is reset. */
  get brokenReason(): string | undefined {
    return this.#broken;
  }

  reset(): void {
    this.#forgetOutstanding('the link was reset');
    this.#broken = undefined;
    if (!this.#closed) this.#queues = this.#openQueues();
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#forgetOutstanding('the link is closed');
  }

  /**
   * What a kick of the control queue does: the device carries out what is available there. Settles when the
   * queue is empty or broken. The driver's own commands need no such call.
   */
  async serveControlQueue(): Promise<void> {
    const queue = this.#queues.control?.device;
    if (queue === undefined || this.#servingControl || this.#isDown) return;
    const generation = this.#generation;
    this.#servingControl = true;
    try {
      do {
        queue.disableKicks();
        for (;;) {
          const popped = queue.popChain();
          if (popped.kind === 'empty') break;
          if (popped.kind === 'violation') {
            this.#break(`control queue: ${popped.violation.message}`);
            return;
          }
          await this.#serveControlChain(queue, popped.chain);
          if (generation !== this.#generation || this.#isDown) return;
        }
      } while (queue.enableKicks());
    } finally {
      if (generation === this.#generation) this.#servingControl = false;
    }
  }

  async #serveControlChain(queue: SplitDeviceQueue, chain: DescriptorChain): Promise<void> {
    const generation = this.#generation;
    this.statistics.controlCommands++;
    let response: Uint8Array;
    try {
      response = await this.#options.device.control(chain.readable, chain.writer.capacity);
    } catch (error) {
      if (generation === this.#generation) this.#break(`the device failed: ${messageOf(error)}`);
      return;
    }
    if (generation !== this.#generation || this.#isDown) return;
    if (!chain.writer.write(response)) {
      this.#break(`the device answered ${response.length} bytes into ${chain.writer.capacity}`);
      return;
    }
    queue.pushUsed(chain);
    this.#queues.control!.unannounced = true;
    this.#interrupt(this.#queues.control!);
    // Chains that a hostile guest has put into the ring by itself are answered, but this driver waits for none.
    if (this.#waiting !== undefined) this.#collectControl();
  }

  // The driver's end.

  #control(readable: readonly Uint8Array[], writableLength: number): Promise<Uint8Array> {
    const run = this.#controlLock.then(() => this.#sendControl(readable, writableLength));
    this.#controlLock = run.catch(() => {});
    return run;
  }

  #sendControl(readable: readonly Uint8Array[], writableLength: number): Promise<Uint8Array> {
    if (this.#closed) return Promise.reject(this.#error('the link is closed'));
    if (this.#broken !== undefined) return Promise.reject(this.#error(`the link is broken: ${this.#broken}`));
    const ends = this.#queues.control;
    if (ends === undefined) {
      return Promise.reject(this.#error('VIRTIO_NET_F_CTRL_VQ is not negotiated, there is no control queue'));
    }
    return new Promise((resolve, reject) => {
      const parts = readable.filter((part) => part.length > 0);
      const added = ends.driver.submit({
        readable: parts,
        writable: writableLength > 0 ? [writableLength] : [],
        indirect: this.#indirect && parts.length > 1,
      });
      if (added.kind === 'full') {
        reject(this.#error('the command does not fit into the control queue'));
        return;
      }
      if (added.kind === 'violation') {
        this.#break(`driver: ${added.violation.message}`);
        reject(this.#error(`the link is broken: ${added.violation.message}`));
        return;
      }
      ends.unpublished = true;
      this.#waiting = { token: added.token, resolve, reject };
      this.#publish(ends);
      void this.serveControlQueue();
    });
  }

  #collectControl(): void {
    const ends = this.#queues.control;
    for (let used = this.#collect(ends); used?.kind === 'used'; used = this.#collect(ends)) {
      const waiting = this.#waiting;
      if (waiting === undefined || used.token !== waiting.token) continue;
      this.#waiting = undefined;
      waiting.resolve(used.response);
    }
  }

  #refill(queue: number): void {
    if (this.#isDown) return;
    const ends = this.#receiveQueue(queue);
    for (;;) {
      const added = ends.driver.submit({ writable: [this.#receiveBufferBytes] });
      if (added.kind === 'full') break;
      if (added.kind === 'violation') {
        this.#break(`driver: ${added.violation.message}`);
        return;
      }
      ends.unpublished = true;
    }
    this.#publish(ends);
  }

  #receive(queue: number, budget: number): Uint8Array[] {
    const frames: Uint8Array[] = [];
    if (this.#isDown) return frames;
    const ends = this.#receiveQueue(queue);
    ends.driver.queue.disableInterrupts();
    for (;;) {
      // A budget that is used up leaves interrupts off: the driver will come again by itself (NAPI).
      if (frames.length >= budget) return frames;
      const frame = this.#receiveOne(ends);
      if (frame !== undefined) frames.push(frame);
      else if (this.#isDown || !ends.driver.queue.enableInterrupts()) return frames;
      else ends.driver.queue.disableInterrupts();
    }
  }

  /** The next frame, put together from as many buffers as its header says; undefined when there is none. */
  #receiveOne(ends: QueueEnds): Uint8Array | undefined {
    const first = this.#collect(ends);
    if (first?.kind !== 'used') return undefined;
    const header = decodeNetHeader(first.response);
    if (header === undefined) {
      this.#break(`driver: ${first.response.length} bytes in a receive buffer hold no net header`);
      return undefined;
    }
    const parts = [first.response.subarray(VIRTIO_NET_HDR_BYTES)];
    const count = this.#mergeable ? header.numBuffers : 1;
    for (let i = 1; i < count; i++) {
      const more = this.#collect(ends);
      if (more?.kind !== 'used') {
        this.#break(`driver: a frame of ${count} buffers ends after ${i}`);
        return undefined;
      }
      parts.push(more.response);
    }
    return concatenate(parts);
  }

  #send(queue: number, frame: Uint8Array): boolean {
    if (frame.length === 0 || frame.length > MAX_LINK_FRAME_BYTES) {
      throw new XdpbedError(
        'packet-invalid',
        `${this.#options.label}: a frame of ${frame.length} bytes, the link carries 1 to ${MAX_LINK_FRAME_BYTES}`,
      );
    }
    if (this.#isDown) return false;
    const ends = this.#transmitQueue(queue);
    // Buffers of frames that the device is done with come back here: transmit interrupts are off, as in Linux.
    while (this.#collect(ends)?.kind === 'used');
    if (this.#isDown) return false;
    const added = ends.driver.submit({ readable: [concatenate([SENT_HEADER, frame])] });
    if (added.kind === 'violation') this.#break(`driver: ${added.violation.message}`);
    if (added.kind === 'added') ends.unpublished = true;
    return added.kind === 'added';
  }

  #collect(ends: QueueEnds | undefined): CollectResult | undefined {
    const used = ends?.driver.collect();
    if (used?.kind !== 'violation') return used;
    this.#break(`driver: ${used.violation.message}`);
    return undefined;
  }

  #publish(ends: QueueEnds): void {
    if (this.#isDown || !ends.unpublished) return;
    ends.unpublished = false;
    this.#countNotification(ends.driver.publish(), 'kicks');
  }

  // The device's end.

  #deliver(queue: number, frame: Uint8Array): boolean {
    if (this.#isDown || frame.length > MAX_LINK_FRAME_BYTES) return false;
    const ends = this.#receiveQueue(queue);
    const { device } = ends;
    const chains: DescriptorChain[] = [];
    let room = 0;
    const needed = VIRTIO_NET_HDR_BYTES + frame.length;
    while (room < needed && (chains.length === 0 || this.#mergeable)) {
      const popped = device.popChain();
      if (popped.kind === 'violation') {
        this.#break(`receive queue ${queue}: ${popped.violation.message}`);
        return false;
      }
      if (popped.kind === 'empty') break;
      chains.push(popped.chain);
      room += popped.chain.writer.capacity;
      if (chains.length === 1 && room < VIRTIO_NET_HDR_BYTES) {
        this.#break(`receive queue ${queue}: a buffer of ${room} bytes, less than the net header`);
        return false;
      }
    }
    if (room < needed) {
      // Nothing was written yet, so the buffers are as good as new.
      for (const chain of chains.reverse()) device.unpop(chain);
      return false;
    }
    const header = encodeNetHeader({ ...PLAIN_NET_HEADER, numBuffers: chains.length });
    let rest = concatenate([header, frame]);
    for (const chain of chains) {
      const count = Math.min(rest.length, chain.writer.capacity);
      chain.writer.write(rest.subarray(0, count));
      rest = rest.subarray(count);
    }
    device.pushUsedBatch(chains);
    ends.unannounced = true;
    this.statistics.framesToGuest++;
    return true;
  }

  #interrupt(ends: QueueEnds): boolean {
    if (this.#isDown || !ends.unannounced) return false;
    ends.unannounced = false;
    return this.#countNotification(ends.device.shouldInterrupt(), 'interrupts');
  }

  #poll(queue: number, budget: number): number {
    if (this.#isDown) return 0;
    const ends = this.#transmitQueue(queue);
    const { device } = ends;
    let taken = 0;
    device.disableKicks();
    for (;;) {
      // As with the driver's budget: who stops early comes again without being told.
      if (taken >= budget) break;
      const popped = device.popChain();
      if (popped.kind === 'violation') {
        this.#break(`transmit queue ${queue}: ${popped.violation.message}`);
        return taken;
      }
      if (popped.kind === 'empty') {
        if (!device.enableKicks()) break;
        device.disableKicks();
        continue;
      }
      const { readable } = popped.chain;
      const problem = transmitProblem(readable, popped.chain.writer.capacity);
      if (problem !== undefined) {
        this.#break(`transmit queue ${queue}: ${problem}`);
        return taken;
      }
      // Returned before it is handed on: the frame is a copy, and what it leads to may reset this link.
      device.pushUsed(popped.chain);
      ends.unannounced = true;
      taken++;
      this.statistics.framesFromGuest++;
      const generation = this.#generation;
      try {
        this.#options.device.transmit(queue, readable.subarray(VIRTIO_NET_HDR_BYTES));
      } catch (error) {
        this.#break(`the device failed: ${messageOf(error)}`);
        return taken;
      }
      if (generation !== this.#generation || this.#isDown) return taken;
    }
    this.#interrupt(ends);
    return taken;
  }

  // Both.

  get #isDown(): boolean {
    return this.#closed || this.#broken !== undefined;
  }

  get #indirect(): boolean {
    return hasFeature(this.#options.features, VIRTIO_F_INDIRECT_DESC);
  }

  get #receiveBufferBytes(): number {
    return this.#mergeable ? MERGEABLE_BUFFER_BYTES : WHOLE_FRAME_BUFFER_BYTES;
  }

  #receiveQueue(queue: number): QueueEnds {
    return this.#queueAt(this.#queues.receive, queue);
  }

  #transmitQueue(queue: number): QueueEnds {
    return this.#queueAt(this.#queues.transmit, queue);
  }

  #queueAt(queues: readonly QueueEnds[], queue: number): QueueEnds {
    const ends = queues[queue];
    // The number comes from the fabric, never from a guest.
    if (ends === undefined) throw new RangeError(`${this.#options.label} has no queue pair ${queue}`);
    return ends;
  }

  #countNotification(wanted: boolean, counter: 'kicks' | 'interrupts'): boolean {
    this.statistics[wanted ? counter : 'suppressedNotifications']++;
    return wanted;
  }

  #break(reason: string): void {
    if (this.#isDown) return;
    this.statistics.violations++;
    this.#forgetOutstanding(`the link is broken: ${reason}`);
    this.#broken = reason;
    try {
      this.#options.device.broken(reason);
    } catch {
      // A handler must not throw; the link is down already, which is all that could be done about it.
    }
  }

  /** Revokes every chain that the device holds and ends the driver's wait. */
  #forgetOutstanding(reason: string): void {
    this.#generation++;
    this.#servingControl = false;
    const { control, receive, transmit } = this.#queues;
    for (const ends of [...receive, ...transmit, ...(control === undefined ? [] : [control])]) {
      ends.device.reset();
    }
    const waiting = this.#waiting;
    this.#waiting = undefined;
    waiting?.reject(this.#error(reason));
  }

  #error(reason: string): XdpbedError {
    return new XdpbedError('virtio-violation', `${this.#options.label}: ${reason}`);
  }

  #openQueues(): QueueSet {
    const { layout, memory } = this;
    const { features } = this.#options;
    const end = memory.base + memory.size;
    const allocator = new GuestAllocator(
      memory,
      { address: layout.buffers, length: end - layout.buffers },
      BUFFER_ALIGNMENT,
    );
    const eventIdx = hasFeature(features, VIRTIO_F_EVENT_IDX);
    const openQueue = (at: SplitLayout): QueueEnds => {
      const driver = new SplitDriverQueue(memory, at, {
        eventIdx,
        ...(this.#indirect ? { indirectTables: allocator } : {}),
      });
      const opened = SplitDeviceQueue.open(memory, at, { eventIdx, indirect: this.#indirect });
      if (!opened.ok) throw this.#error(opened.violation.message);
      return {
        driver: new CopyingDriver(memory, driver, allocator),
        device: opened.queue,
        unpublished: false,
        unannounced: false,
      };
    };
    const transmit = layout.transmit.map(openQueue);
    for (const ends of transmit) ends.driver.queue.disableInterrupts();
    return {
      receive: layout.receive.map(openQueue),
      transmit,
      control: hasFeature(features, VIRTIO_NET_F_CTRL_VQ) ? openQueue(layout.control) : undefined,
    };
  }
}

const SENT_HEADER = encodeNetHeader(PLAIN_NET_HEADER);

/** What is wrong with a chain of the transmit queue, if anything. */
function transmitProblem(readable: Uint8Array, writableBytes: number): string | undefined {
  if (writableBytes > 0) return `a frame to send comes with ${writableBytes} device-writable bytes`;
  const header = decodeNetHeader(readable);
  if (header === undefined) return `${readable.length} bytes do not hold a net header`;
  const length = readable.length - VIRTIO_NET_HDR_BYTES;
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

function layOut(
  options: LinkOptions,
  receiveBufferBytes: number,
): { readonly memory: GuestMemory; readonly layout: LinkLayout } {
  const { queuePairs, queueSize } = options;
  let at = GUEST_MEMORY_BASE;
  const place = (size: number): SplitLayout => {
    const layout = splitLayoutAt(at, size);
    at += roundUp(splitLayoutBytes(size), 16);
    return layout;
  };
  const receive: SplitLayout[] = [];
  const transmit: SplitLayout[] = [];
  for (let pair = 0; pair < queuePairs; pair++) {
    receive.push(place(queueSize));
    transmit.push(place(queueSize));
  }
  const control = place(CONTROL_QUEUE_SIZE);
  const buffers = roundUp(at, BUFFER_ALIGNMENT);
  const perPair =
    roundUp(receiveBufferBytes, BUFFER_ALIGNMENT) + roundUp(WHOLE_FRAME_BUFFER_BYTES, BUFFER_ALIGNMENT);
  const end = buffers + queuePairs * queueSize * perPair + CONTROL_BUFFER_BYTES;
  return {
    memory: new GuestMemory(end - GUEST_MEMORY_BASE, GUEST_MEMORY_BASE),
    layout: { receive, transmit, control, buffers },
  };
}

function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}
