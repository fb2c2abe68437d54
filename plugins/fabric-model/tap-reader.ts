import type { ReaderPlan } from '../../src/core/contract/plan.js';
import type { DevicePort } from '../../src/virtio/index.js';
import type { FrameAccounting, FrameIdentity } from './frame-accounting.js';
import type { Tap } from './tap.js';

/** Frames a plain reader of the tap's file takes in one go: read(2) returns one. */
const READ_BATCH = 1;

/**
 * The process that moves frames between a tap and a virtio device: vhost, or QEMU reading the tap's file.
 */
export class TapReader {
  readonly #batch: number;

  constructor(
    readonly plan: ReaderPlan,
    readonly tap: Tap,
    readonly port: DevicePort<FrameIdentity>,
    readonly queues: number,
    /** The guest's nic, where a frame ends that its device cannot take. */
    readonly node: string,
    readonly accounting: FrameAccounting,
    readonly isBroken: () => boolean,
    /** The frame's birth, for frames that a guest puts into a queue by itself. */
    readonly now: () => number,
  ) {
    this.#batch = plan.kind === 'vhost' ? plan.batch : READ_BATCH;
  }

  /** vhost with polling looks at the ring after every frame; otherwise the reader is woken. */
  get polls(): boolean {
    return this.plan.kind === 'vhost' && this.plan.polling;
  }

  /**
   * Moves what is there, up to one batch per queue and direction, and interrupts the guest: whether a batch was
   * used up, so that there may be more.
   */
  turn(): boolean {
    let more = false;
    for (let queue = 0; queue < this.queues; queue++) {
      if (this.#toGuest(queue)) more = true;
      const sent = this.port.poll(queue, this.#batch);
      for (const { bytes, tag } of sent) {
        this.tap.receive(tag === undefined ? this.accounting.begin(bytes, this.now()) : { bytes, ...tag });
      }
      if (sent.length === this.#batch) more = true;
    }
    return more;
  }

  #toGuest(queue: number): boolean {
    let delivered = 0;
    let taken = 0;
    for (; taken < this.#batch; taken++) {
      const { took, frame } = this.tap.receiveMessage(queue);
      if (!took) break;
      if (frame === undefined) continue;
      const { bytes, ...identity } = frame;
      if (this.isBroken()) this.accounting.end(this.node, 'link-broken');
      else if (bytes.length > this.port.longestFrame) this.accounting.end(this.node, 'frame-too-long');
      else if (this.port.deliver(queue, bytes, identity)) delivered++;
      // What is wrong with the guest's buffers shows when one is taken.
      else this.accounting.end(this.node, this.isBroken() ? 'link-broken' : 'no-receive-buffer');
    }
    if (delivered > 0) this.port.notify(queue);
    return taken === this.#batch;
  }
}
