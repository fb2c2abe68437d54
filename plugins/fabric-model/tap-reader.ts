import type { ReaderPlan } from '../../src/core/contract/plan.js';
import type { DevicePort } from '../../src/core/contract/transport.js';
import type { FrameAccounting } from './frame-accounting.js';
import type { Tap } from './tap.js';

/** Frames a plain reader of the tap's file takes in one go: read(2) returns one. */
const READ_BATCH = 1;

/**
 * The process that moves frames between a tap and a virtio device: vhost, or QEMU reading the tap's file.
 */
export class TapReader {
  constructor(
    readonly plan: ReaderPlan,
    readonly tap: Tap,
    readonly port: DevicePort,
    readonly queues: number,
    /** The guest's nic, where a frame ends that its device cannot take. */
    readonly node: string,
    readonly accounting: FrameAccounting,
    readonly isBroken: () => boolean,
  ) {}

  /** vhost with polling looks at the ring after every frame; otherwise the reader is woken once for a burst. */
  get busyPolls(): boolean {
    return this.plan.kind === 'vhost' && this.plan.polling;
  }

  /** Moves what is there, up to one batch per queue, and interrupts the guest: whether there was anything. */
  turn(): boolean {
    const batch = this.plan.kind === 'vhost' ? this.plan.batch : READ_BATCH;
    let worked = false;
    for (let queue = 0; queue < this.queues; queue++) {
      let delivered = 0;
      for (let taken = 0; taken < batch; taken++) {
        const { took, frame } = this.tap.receiveMessage(queue);
        if (!took) break;
        worked = true;
        if (frame === undefined) continue;
        if (this.isBroken()) this.accounting.end(this.node, 'link-broken');
        else if (this.port.deliver(queue, frame.bytes)) delivered++;
        // What is wrong with the guest's buffers shows when one is taken.
        else this.accounting.end(this.node, this.isBroken() ? 'link-broken' : 'no-receive-buffer');
      }
      if (delivered > 0) this.port.notify(queue);
      if (this.port.poll(queue, batch) > 0) worked = true;
    }
    return worked;
  }
}
