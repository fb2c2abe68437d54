import { messageOf, XdpbedError } from '../../core/diagnostic.js';
import type { DescriptorChain } from '../descriptor-chain.js';
import { hasFeature, VIRTIO_F_EVENT_IDX, VIRTIO_F_INDIRECT_DESC, VIRTIO_NET_F_CTRL_VQ } from '../features.js';
import { GuestAllocator, GuestMemory, roundUp } from '../guest-memory.js';
import { queueFormat, SPLIT_QUEUE, type QueueFormat } from '../queue-format.js';
import { splitLayoutAt, type SplitLayout } from '../split-layout.js';
import { Stretch } from '../stretch.js';
import type { BufferToken } from '../virtqueue.js';
import { LinkStatus } from './link-status.js';
import { UnguardedControlChain } from './unguarded-control-chain.js';
import { GUEST_MEMORY_BASE } from './net-link.js';
import { QueueEnds, type NotificationCounts } from './queue-ends.js';

/** Entries of the control queue unless it is said otherwise; what QEMU gives it. */
export const CONTROL_QUEUE_SIZE = 64;
/** Bytes that the commands of the driver may take at once; one is under way at a time. */
const CONTROL_BUFFER_BYTES = 2 * 1024 * 1024;
const BUFFER_ALIGNMENT = 64;

/**
 * Carries out one command: the device-readable bytes, copied once out of the guest's reach, and how many bytes it may
 * answer. What is answered at once is in the queue when the kick returns, unless others have to get their turn of the event
 * loop first (see {@link ControlLink}); anything else is waited for, and the commands behind it wait as well.
 */
export type ControlHandler = (request: Uint8Array, room: number) => Uint8Array | Promise<Uint8Array>;

/** As ControlHandler, with the command where it lies in the guest's memory. */
export type UnguardedControlHandler = (
  request: Uint8Array,
  room: number,
  chain: UnguardedControlChain,
) => Uint8Array | Promise<Uint8Array>;

export interface ControlLinkOptions {
  /** Used in messages: `guest0.eth0`. */
  readonly label: string;
  /** Negotiated feature bits. */
  readonly features: bigint;
  /** Default {@link CONTROL_QUEUE_SIZE}. */
  readonly queueSize?: number | undefined;
  /** Default: what the features say. */
  readonly format?: QueueFormat | undefined;
  /** Milliseconds by which the device's end gives way to others as well: see `Stretch`. Default: the machine's clock. */
  readonly now?: (() => number) | undefined;
}

export interface ControlLinkStatistics extends NotificationCounts {
  /** Commands that reached the device. */
  commands: number;
}

/** A command of the driver's. */
interface Command {
  readonly parts: readonly Uint8Array[];
  readonly room: number;
  readonly resolve: (response: Uint8Array) => void;
  readonly reject: (error: Error) => void;
}

/**
 * The control virtqueue, both of its ends, in a memory that belongs to the guest.
 *
 * ```
 *   memory.base                                    base + size
 *   | controlq | driver's buffers                         |
 * ```
 *
 * As with frames, the device's end believes nothing that it finds there; a broken rule takes the link down. A command
 * is a chain of device-readable bytes and device-writable room (virtio 1.3, 5.1.6.5).
 *
 * A queue need not ever be empty: an answer may be written over the ring itself, and make the next command available. After
 * as many commands in a row as the queue has entries, or when they bring much work (`Stretch`), the device's end goes on in
 * a later turn of the event loop.
 */
export class ControlLink {
  readonly statistics: ControlLinkStatistics = {
    commands: 0,
    kicks: 0,
    interrupts: 0,
    suppressedNotifications: 0,
  };
  readonly status: LinkStatus;
  /** The guest's memory: a hostile guest writes here what it likes, and so do tests. */
  readonly memory: GuestMemory;
  /** Where the queue lies, and where the driver's buffers begin, which reach to the end of the memory. */
  readonly layout: { readonly queue: number; readonly buffers: number };

  readonly #options: ControlLinkOptions;
  readonly #format: QueueFormat;
  readonly #queueSize: number;
  readonly #indirect: boolean;
  #ends: QueueEnds | undefined;
  #handler: ControlHandler | UnguardedControlHandler | undefined;
  /** The handler is shown the guest's memory. */
  #unguarded = false;
  /** The device is at work on the queue. */
  #serving = false;
  /** What was carried out since the queue was empty, or since the last turn of the event loop. */
  readonly #stretch: Stretch;
  /** Ends with the turn of the event loop in which it was asked for. */
  #turn: NodeJS.Immediate | undefined;
  /** The device is at work, and goes on in the next turn. */
  #outOfTurn = false;
  /** The command that the driver waits for. */
  #waiting: { readonly token: BufferToken; readonly command: Command } | undefined;
  /** The driver sends one command at a time, as Linux does. */
  readonly #queued: Command[] = [];

  /** @throws XdpbedError `virtio-violation` for a queue size that the format does not take */
  constructor(options: ControlLinkOptions) {
    this.#options = options;
    this.#format = options.format ?? queueFormat(options.features);
    this.#queueSize = options.queueSize ?? CONTROL_QUEUE_SIZE;
    this.#stretch = new Stretch(this.#queueSize, options.now ?? (() => performance.now()));
    this.#indirect = hasFeature(options.features, VIRTIO_F_INDIRECT_DESC);
    this.status = new LinkStatus(options.label, (reason) => this.#forgetOutstanding(reason));
    const buffers = roundUp(GUEST_MEMORY_BASE + this.#format.bytes(this.#queueSize), BUFFER_ALIGNMENT);
    this.layout = { queue: GUEST_MEMORY_BASE, buffers };
    this.memory = new GuestMemory(buffers + CONTROL_BUFFER_BYTES - GUEST_MEMORY_BASE, GUEST_MEMORY_BASE);
    this.#ends = this.#openQueue();
  }

  /** The device's end: carries out what is in the queue and what comes. Stops when the returned function is called. */
  serve(handler: ControlHandler): () => void {
    return this.#serve(handler, false);
  }

  /**
   * As `serve`, for a device that reads commands out of the guest's memory itself, as often as it likes.
   * @throws XdpbedError `host-unsupported` for a queue format whose device does not say where chains lie
   */
  serveUnguarded(handler: UnguardedControlHandler): () => void {
    if (this.#ends !== undefined && this.#ends.device.readableParts === undefined) {
      throw new XdpbedError('host-unsupported', `a ${this.#format.name} queue does not say where chains lie`);
    }
    return this.#serve(handler, true);
  }

  #serve(handler: ControlHandler | UnguardedControlHandler, unguarded: boolean): () => void {
    this.#handler = handler;
    this.#unguarded = unguarded;
    this.kicked();
    return () => {
      if (this.#handler === handler) this.#handler = undefined;
    };
  }

  /**
   * The driver's end: sends a command and waits for what the device writes. Rejects with `virtio-violation` when the
   * link is down or goes down meanwhile.
   * @param parts device-readable bytes, a descriptor each
   * @param room device-writable bytes
   */
  send(parts: readonly Uint8Array[], room: number): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      const command = { parts, room, resolve, reject };
      if (this.#waiting === undefined) this.#submit(command);
      else this.#queued.push(command);
    });
  }

  /** Where the parts of the queue lie; undefined when it is no split one. */
  get splitLayout():
    (SplitLayout & Record<'descriptorTable' | 'availRing' | 'usedRing', number>) | undefined {
    if (this.#format !== SPLIT_QUEUE) return undefined;
    const { descriptorTable, availRing, usedRing } = splitLayoutAt(this.layout.queue, this.#queueSize);
    return {
      size: this.#queueSize,
      descriptorTable: Number(descriptorTable),
      availRing: Number(availRing),
      usedRing: Number(usedRing),
    };
  }

  /** What a kick does: the device looks into the queue. The driver's own commands need no such call. */
  kicked(): void {
    if (this.#serving || this.#handler === undefined || this.#ends === undefined) return;
    if (this.status.isDown) return;
    this.#serving = true;
    this.#ends.device.disableKicks();
    this.#serveAvailable(this.#ends);
  }

  /** Device reset: what is under way is forgotten, a broken link works again. */
  reset(): void {
    this.status.reset();
    if (!this.status.closed) this.#ends = this.#openQueue();
  }

  close(): void {
    this.status.close();
  }

  // The device's end.

  /** Until the queue is empty, broken, a command takes its time, or others have to get their turn. */
  #serveAvailable(ends: QueueEnds): void {
    const { generation } = this.status;
    const { device } = ends;
    for (;;) {
      if (this.#stretch.isOver) {
        this.#outOfTurn = true;
        this.#awaitTurn();
        return;
      }
      const handler = this.#handler;
      if (handler === undefined) {
        // It stopped while a command was under way: what is behind that waits for the next who serves.
        this.#serving = false;
        return;
      }
      const popped = device.popChain();
      if (popped.kind === 'violation') {
        this.status.violate(`control queue: ${popped.violation.message}`);
        return;
      }
      if (popped.kind === 'empty') {
        if (device.enableKicks()) {
          device.disableKicks();
          continue;
        }
        this.#serving = false;
        // Unless a turn is waited for anyway: commands that come in the same one count with those before.
        if (this.#turn === undefined) this.#stretch.renew();
        return;
      }
      const { chain } = popped;
      this.statistics.commands++;
      this.#stretch.begin();
      this.#stretch.add(chain.readable.length);
      let answer: Uint8Array | Promise<Uint8Array>;
      try {
        answer = this.#unguarded
          ? handler(chain.readable, chain.writer.capacity, this.#unguardedChain(ends))
          : (handler as ControlHandler)(chain.readable, chain.writer.capacity);
      } catch (error) {
        if (generation === this.status.generation)
          this.status.violate(`the device failed: ${messageOf(error)}`);
        return;
      }
      // What the handler did may have reset the link.
      if (generation !== this.status.generation) return;
      if (!(answer instanceof Uint8Array)) {
        this.#await(ends, chain, answer);
        return;
      }
      if (!this.#finish(ends, chain, answer)) return;
    }
  }

  /** The command that was popped last. */
  #unguardedChain({ device }: QueueEnds): UnguardedControlChain {
    return new UnguardedControlChain(this.memory, device.readableParts!());
  }

  #await(ends: QueueEnds, chain: DescriptorChain, answer: Promise<Uint8Array>): void {
    const { generation } = this.status;
    // It may be settled within this turn, or much later.
    this.#awaitTurn();
    Promise.resolve(answer).then(
      (response) => {
        if (generation === this.status.generation && this.#finish(ends, chain, response))
          this.#serveAvailable(ends);
      },
      (error: unknown) => {
        if (generation === this.status.generation)
          this.status.violate(`the device failed: ${messageOf(error)}`);
      },
    );
  }

  /** Of setImmediate: microtasks, however many, come before the turn of anybody else. */
  #awaitTurn(): void {
    this.#turn ??= setImmediate(() => {
      this.#turn = undefined;
      this.#stretch.renew();
      if (!this.#outOfTurn) return;
      this.#outOfTurn = false;
      this.#serveAvailable(this.#ends!);
    });
  }

  /** Returns the chain with its answer; false when there is nothing to go on with. */
  #finish(ends: QueueEnds, chain: DescriptorChain, response: Uint8Array): boolean {
    const { generation } = this.status;
    this.#stretch.add(response.length);
    if (!chain.writer.write(response)) {
      this.status.violate(`the device answered ${response.length} bytes into ${chain.writer.capacity}`);
      return false;
    }
    ends.device.pushUsed(chain);
    ends.returned();
    ends.interrupt();
    // Chains that a hostile guest has put into the ring by itself are answered, but this driver waits for none.
    if (this.#waiting !== undefined) this.#collect(ends);
    return generation === this.status.generation;
  }

  // The driver's end.

  #submit(command: Command): void {
    if (this.status.closed) return command.reject(this.status.error('the link is closed'));
    const { brokenReason } = this.status;
    if (brokenReason !== undefined) {
      return command.reject(this.status.error(`the link is broken: ${brokenReason}`));
    }
    const ends = this.#ends;
    if (ends === undefined) {
      const reason = 'VIRTIO_NET_F_CTRL_VQ is not negotiated, there is no control queue';
      return command.reject(this.status.error(reason));
    }
    const readable = command.parts.filter((part) => part.length > 0);
    let added: ReturnType<QueueEnds['submit']>;
    try {
      added = ends.submit({
        readable,
        writable: command.room > 0 ? [command.room] : [],
        indirect: this.#indirect && readable.length > 1,
      });
    } catch (error) {
      // Without parts, or with more than the queue has entries. Whose turn it was must not pay for it: a queued
      // command is submitted by the device's end, in the middle of its work.
      return command.reject(error as XdpbedError);
    }
    if (added.kind === 'full') {
      return command.reject(this.status.error('the command does not fit into the control queue'));
    }
    if (added.kind === 'violation') {
      this.status.violate(`driver: ${added.violation.message}`);
      return command.reject(this.status.error(`the link is broken: ${added.violation.message}`));
    }
    this.#waiting = { token: added.token, command };
    ends.publish();
    this.kicked();
  }

  #collect(ends: QueueEnds): void {
    for (;;) {
      const used = ends.collect();
      if (used.kind === 'empty') break;
      if (used.kind === 'violation') {
        this.status.violate(`driver: ${used.violation.message}`);
        return;
      }
      const waiting = this.#waiting;
      if (waiting === undefined || used.token !== waiting.token) continue;
      this.#waiting = undefined;
      waiting.command.resolve(used.response);
    }
    this.#sendNext();
  }

  #sendNext(): void {
    while (this.#waiting === undefined) {
      const next = this.#queued.shift();
      if (next === undefined) return;
      this.#submit(next);
    }
  }

  // Both.

  /** Revokes every chain that the device holds and ends the driver's wait. */
  #forgetOutstanding(reason: string): void {
    this.#serving = false;
    this.#outOfTurn = false;
    this.#ends?.device.reset();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    for (const { reject } of [
      ...(waiting === undefined ? [] : [waiting.command]),
      ...this.#queued.splice(0),
    ]) {
      reject(this.status.error(reason));
    }
  }

  #openQueue(): QueueEnds | undefined {
    const { features } = this.#options;
    if (!hasFeature(features, VIRTIO_NET_F_CTRL_VQ)) return undefined;
    const { memory, layout } = this;
    const end = memory.base + memory.size;
    const range = { address: layout.buffers, length: end - layout.buffers };
    const options = {
      format: this.#format,
      memory,
      allocator: new GuestAllocator(memory, range, BUFFER_ALIGNMENT),
      eventIdx: hasFeature(features, VIRTIO_F_EVENT_IDX),
      indirect: this.#indirect,
    };
    return new QueueEnds(options, this.statistics, layout.queue, this.#queueSize);
  }
}
