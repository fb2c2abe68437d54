import type { ReaderPlan } from '../../src/core/contract/plan.js';
import type { DevicePort } from '../../src/virtio/index.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { Tap } from './tap.js';
import type { Timing } from './timing.js';

/** Frames a plain reader of the tap's file takes in one go: read(2) returns one. */
const READ_BATCH = 1;

export interface TapReaderOptions {
  readonly plan: ReaderPlan;
  readonly tap: Tap;
  readonly port: DevicePort<Frame>;
  /** The queue of the tap and the queue pair of the device that it serves. */
  readonly queue: number;
  /** The guest's nic, where a frame ends that its device cannot take. */
  readonly node: string;
  readonly accounting: FrameAccounting;
  readonly timing: Timing;
  readonly isBroken: () => boolean;
  /** It has sent all that it has: redirected frames are flushed. */
  readonly flush: () => void;
}

/** Moves frames between one queue of a tap and one of a virtio device: vhost, or QEMU reading the tap's file. */
export class TapReader {
  readonly batch: number;
  /** Of the batch under way: frames taken out of the tap's ring, and of these, given to the guest. */
  #taken = 0;
  #delivered = 0;
  /** With turns of one frame: whether the next is from the guest. */
  #guestsTurn = false;

  constructor(readonly options: TapReaderOptions) {
    const { plan } = options;
    this.batch = plan.kind === 'vhost' ? plan.batch : READ_BATCH;
  }

  /**
   * What it costs to go to sleep. The last look at the ring before that is a call of recvmsg, unless the reader looks at
   * it by itself.
   */
  get leaving(): number {
    const { 'vhost-sleep': sleep, 'tun-recv-call': call } = this.options.timing.costs;
    return this.#callsTap ? sleep : Math.max(0, sleep - call);
  }

  get #callsTap(): boolean {
    const { plan } = this.options;
    return plan.kind === 'read' || plan.ringAccess === 'recvmsg';
  }

  /** vhost with polling looks at the ring after every frame; otherwise the reader is woken. */
  get polls(): boolean {
    const { plan } = this.options;
    return plan.kind === 'vhost' && plan.polling;
  }

  /**
   * Moves what is there, up to `most` in each direction, and interrupts the guest when a batch is full or nothing is
   * left: whether there may be more.
   */
  turn(most: number): boolean {
    const toGuest = this.#toGuest(most);
    const fromGuest = this.#fromGuest(most);
    return toGuest || fromGuest;
  }

  /** As `turn`, of one frame in one direction; they take turns as long as there is something in both. */
  step(): boolean {
    this.#guestsTurn = !this.#guestsTurn;
    return this.#guestsTurn ? this.#fromGuest(1) || this.#toGuest(1) : this.#toGuest(1) || this.#fromGuest(1);
  }

  #toGuest(most: number): boolean {
    const { tap, queue, port, timing } = this.options;
    let taken = 0;
    for (; taken < most; taken++) {
      if (!tap.hasFrame(queue)) break;
      // Taking from the ring by itself, it calls nobody before it knows the frame.
      if (this.#taken++ === 0 && this.#callsTap) timing.charge(timing.costs['tun-recv-call']);
      const frame = tap.receiveMessage(queue);
      if (frame === undefined) continue;
      timing.charge(timing.costs['vhost-rx'] + frame.bytes.length * timing.costs['copy-byte']);
      timing.thenCall(this.#deliver, frame, queue);
    }
    if (this.#taken >= this.batch || (this.#taken > 0 && taken < most)) {
      this.#taken = 0;
      timing.thenCall(this.#notify, port, queue);
    }
    return taken === most;
  }

  readonly #notify = (port: DevicePort<Frame>, queue: number): void => {
    if (this.#delivered > 0) port.notify(queue);
    this.#delivered = 0;
  };

  readonly #deliver = (frame: Frame, queue: number): void => {
    const { port, node, accounting, isBroken } = this.options;
    if (isBroken()) accounting.end(frame, node, 'link-broken');
    else if (frame.bytes.length > port.longestFrame) accounting.end(frame, node, 'frame-too-long');
    else if (port.deliver(queue, frame.bytes, frame)) this.#delivered++;
    // What is wrong with the guest's buffers shows when one is taken.
    else accounting.end(frame, node, isBroken() ? 'link-broken' : 'no-receive-buffer');
  };

  #fromGuest(most: number): boolean {
    const { port, queue, tap, accounting, timing } = this.options;
    const sent = port.poll(queue, most);
    for (const { bytes, tag } of sent) {
      // A frame that the guest put into the queue by itself is born here.
      const frame = tag ?? accounting.begin(bytes, timing.now);
      frame.bytes = bytes;
      timing.charge(
        timing.costs['vhost-tx'] + bytes.length * timing.costs['copy-byte'] + timing.costs['tun-send'],
      );
      tap.receive(frame);
    }
    if (sent.length > 0) this.options.flush();
    return sent.length === most;
  }
}
