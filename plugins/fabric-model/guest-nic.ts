import type { DriverPort } from '../../src/virtio/index.js';
import type { Frame, FrameAccounting, FrameIdentity } from './frame-accounting.js';
import { resolveRedirect } from '../../src/core/offload/redirect-target.js';
import { runHook, type VerdictRoutes } from './verdict-routes.js';
import type { HookOutcome, XdpHook } from './xdp-hook.js';

/** Frames the guest's driver handles in one NAPI poll (kernel NAPI_POLL_WEIGHT). */
export const NAPI_BUDGET = 64;

/**
 * The data path of the guest's virtio-net driver: takes frames from the receive virtqueues, runs the native XDP
 * program if there is one, and passes frames to the guest's stack or sends them back.
 */
export class GuestNic {
  /** Other nics of the guest that were sent to in the poll under way, by the queue that was used. */
  readonly #toKick = new Map<GuestNic, Set<number>>();

  constructor(
    /** `guest0.eth0`. */
    readonly node: string,
    readonly ifindex: number,
    readonly port: DriverPort<FrameIdentity>,
    readonly queues: number,
    readonly hook: XdpHook,
    readonly accounting: FrameAccounting,
    /** The nics of the same guest, this one included: where redirects lead. */
    readonly nics: ReadonlyMap<number, GuestNic>,
    /** The frame's birth, for frames that a guest puts into a queue by itself. */
    readonly now: () => number,
  ) {}

  /** The interface goes up: offers receive buffers on every queue. */
  open(): void {
    for (let queue = 0; queue < this.queues; queue++) {
      this.port.refill(queue);
      this.port.kick(queue);
    }
  }

  /** One NAPI poll on each queue: whether a budget was used up, so that there may be more. */
  poll(): boolean {
    let more = false;
    for (let queue = 0; queue < this.queues; queue++) {
      const frames = this.port.receive(queue, NAPI_BUDGET);
      if (frames.length === 0) continue;
      const routes = this.#routes(queue);
      for (const { bytes, tag } of frames) {
        const frame = tag === undefined ? this.accounting.begin(bytes, this.now()) : { bytes, ...tag };
        runHook(this.hook, frame, queue, routes, this.accounting);
      }
      this.port.refill(queue);
      this.port.kick(queue);
      if (frames.length === NAPI_BUDGET) more = true;
    }
    for (const [nic, used] of this.#toKick) for (const queue of used) nic.port.kick(queue);
    this.#toKick.clear();
    return more;
  }

  /** Queues a frame for transmission; it ends here when the queue is full. Not yet kicked. */
  send({ bytes, ...identity }: Frame, queue: number): void {
    if (!this.port.send(queue % this.queues, bytes, identity)) {
      this.accounting.end(this.node, 'transmit-queue-full');
    }
  }

  #routes(queue: number): VerdictRoutes {
    return {
      node: this.node,
      pass: () => this.accounting.end(this.node, 'guest-stack'),
      transmit: (frame) => this.send(frame, queue),
      redirect: (outcome) => this.#redirect(outcome, queue),
    };
  }

  #redirect(outcome: HookOutcome, queue: number): void {
    const target = resolveRedirect(outcome.redirect, this.ifindex);
    if (target.kind === 'nowhere') return this.accounting.end(this.node, 'redirect-failed');
    if (target.kind === 'stack') return this.accounting.end(this.node, 'guest-stack');
    target.ifindexes.forEach((ifindex, index) => {
      const frame = index === 0 ? outcome.frame : this.accounting.copy(outcome.frame);
      const nic = this.nics.get(ifindex);
      if (nic === undefined) return this.accounting.end(this.node, 'redirect-failed');
      nic.send(frame, queue);
      const used = this.#toKick.get(nic) ?? new Set();
      this.#toKick.set(nic, used.add(queue % nic.queues));
    });
  }
}
