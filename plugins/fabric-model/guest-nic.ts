import type { DriverPort } from '../../src/core/contract/transport.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { HookOutcome, XdpHook } from './xdp-hook.js';

/** Frames the guest's driver handles in one NAPI poll (kernel NAPI_POLL_WEIGHT). */
export const NAPI_BUDGET = 64;

/**
 * The data path of the guest's virtio-net driver: takes frames from the receive virtqueues, runs the native XDP
 * program if there is one, and passes frames to the guest's stack or sends them back.
 */
export class GuestNic {
  constructor(
    /** `guest0.eth0`. */
    readonly node: string,
    readonly ifindex: number,
    readonly port: DriverPort,
    readonly queues: number,
    readonly driverHook: XdpHook,
    readonly accounting: FrameAccounting,
    /** Where a redirect to another nic of the same guest leads. */
    readonly siblings: ReadonlyMap<number, GuestNic>,
    /** Virtual time of the burst under way: a virtqueue carries bytes only. */
    readonly now: () => bigint,
  ) {}

  /** Offers receive buffers on every queue: what the driver does when the interface goes up. */
  open(): void {
    for (let queue = 0; queue < this.queues; queue++) {
      this.port.refill(queue);
      this.port.kick(queue);
    }
  }

  /** One NAPI poll on each queue: whether there was anything. */
  poll(): boolean {
    let worked = false;
    for (let queue = 0; queue < this.queues; queue++) {
      const frames = this.port.receive(queue, NAPI_BUDGET);
      for (const bytes of frames) {
        this.#receive(this.accounting.resume(bytes, this.now()), queue);
      }
      if (frames.length > 0) {
        worked = true;
        this.port.refill(queue);
        this.port.kick(queue);
      }
    }
    return worked;
  }

  /** Queues a frame for transmission; it ends here when the queue is full. */
  send(frame: Frame, queue: number): void {
    if (!this.port.send(queue % this.queues, frame.bytes))
      this.accounting.end(this.node, 'transmit-queue-full');
  }

  #receive(frame: Frame, queue: number): void {
    const refusal = this.accounting.refusal(frame);
    if (refusal !== undefined) {
      this.accounting.end(this.node, refusal);
      return;
    }
    const outcome = this.driverHook.run(frame, queue);
    switch (outcome.action) {
      case 'XDP_PASS':
        this.accounting.end(this.node, 'guest-stack');
        return;
      case 'XDP_DROP':
        this.accounting.end(this.node, 'xdp-drop');
        return;
      case 'XDP_TX':
        this.send(outcome.frame, queue);
        return;
      case 'XDP_REDIRECT':
        this.#redirect(outcome, queue);
        return;
      case 'XDP_ABORTED':
        this.accounting.end(this.node, 'xdp-aborted');
        return;
    }
  }

  #redirect(outcome: HookOutcome, queue: number): void {
    const target = outcome.redirect.kind === 1 ? this.siblings.get(outcome.redirect.target) : undefined;
    if (target === undefined) this.accounting.end(this.node, 'redirect-failed');
    else target.send(outcome.frame, queue);
  }
}
