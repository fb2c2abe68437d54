import type { FrameRedirect } from '../../src/core/contract/executor.js';
import { resolveRedirect } from '../../src/core/offload/redirect-target.js';
import type { DriverPort } from '../../src/virtio/index.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { Timing } from './timing.js';
import { runHook, type VerdictRoutes } from './verdict-routes.js';
import type { XdpHook } from './xdp-hook.js';

/** Frames the guest's driver handles in one NAPI poll (kernel NAPI_POLL_WEIGHT). */
export const NAPI_BUDGET = 64;

export interface GuestNicOptions {
  /** `guest0.eth0`. */
  readonly node: string;
  readonly ifindex: number;
  readonly port: DriverPort<Frame>;
  readonly queues: number;
  readonly hook: XdpHook;
  readonly accounting: FrameAccounting;
  readonly timing: Timing;
  /** The nics of the same guest, this one included: where redirects lead. */
  readonly siblings: ReadonlyMap<number, GuestNic>;
}

/**
 * The data path of the guest's virtio-net driver: takes frames from the receive virtqueues, runs the native XDP
 * program if there is one, and passes frames to the guest's stack or sends them back.
 */
export class GuestNic {
  readonly node: string;
  readonly hook: XdpHook;
  /** What the guest's stack does with a frame that it has taken, where it does anything. */
  onStack: ((frame: Frame, queue: number) => void) | undefined;
  readonly #queues: readonly GuestQueue[];

  constructor(readonly options: GuestNicOptions) {
    this.node = options.node;
    this.hook = options.hook;
    this.#queues = Array.from({ length: options.queues }, (_, queue) => new GuestQueue(this, queue));
  }

  /** The interface goes up: offers receive buffers on every queue. */
  open(): void {
    const { port, queues } = this.options;
    for (let queue = 0; queue < queues; queue++) {
      port.refill(queue);
      port.kick(queue);
    }
  }

  /** Work of a NAPI poll on a queue, up to `most` frames: whether there may be more. */
  poll(queue: number, most: number): boolean {
    return this.#queues[queue]!.poll(most);
  }

  /** Queues a frame for transmission; it ends here when the queue is full. Not yet kicked. */
  send(frame: Frame, queue: number): void {
    const { port, queues, accounting } = this.options;
    if (!port.send(queue % queues, frame.bytes, frame)) {
      accounting.end(frame, this.node, 'transmit-queue-full');
    }
  }

  /** The guest's stack sends a frame by a queue: queued, and kicked. */
  transmit(frame: Frame, queue: number): void {
    this.send(frame, queue);
    this.options.port.kick(queue % this.options.queues);
  }
}

/** One receive queue of a nic, with the NAPI poll that serves it. */
class GuestQueue {
  /** Frames of the poll under way. */
  #polled = 0;
  /** The nic itself or others of the guest that were sent to in the poll under way, by the queue that was used. */
  readonly #toKick = new Map<GuestNic, Set<number>>();
  readonly #routes: VerdictRoutes;

  constructor(
    readonly nic: GuestNic,
    readonly queue: number,
  ) {
    const { node, accounting, timing } = nic.options;
    this.#routes = {
      node,
      pass: (frame) => {
        timing.charge(timing.costs['guest-stack']);
        accounting.end(frame, node, 'guest-stack');
        const { onStack } = nic;
        if (onStack !== undefined) timing.then(() => onStack(frame, this.queue));
      },
      transmit: (frame) => this.#send(nic, frame),
      redirect: (frame, redirect) => this.#redirect(frame, redirect),
    };
  }

  readonly #sendBy = (nic: GuestNic, frame: Frame): void => nic.send(frame, this.queue);

  poll(most: number): boolean {
    const { port, hook, accounting, timing } = this.nic.options;
    const { queue } = this;
    const frames = port.receive(queue, most);
    for (const { bytes, tag } of frames) {
      this.#polled++;
      timing.charge(timing.costs['guest-rx']);
      // A frame without a tag is the guest's own doing: it put it into the queue itself.
      const frame = tag ?? accounting.begin(bytes, timing.now);
      frame.bytes = bytes;
      runHook(hook, frame, queue, this.#routes, accounting);
    }
    if (this.#polled >= NAPI_BUDGET || (this.#polled > 0 && frames.length < most)) this.#endPoll();
    return frames.length === most;
  }

  #endPoll(): void {
    const { port, timing } = this.nic.options;
    this.#polled = 0;
    timing.charge(timing.costs['guest-poll']);
    timing.then(() => {
      port.refill(this.queue);
      port.kick(this.queue);
      for (const [nic, used] of this.#toKick) for (const queue of used) nic.options.port.kick(queue);
      this.#toKick.clear();
    });
  }

  #send(nic: GuestNic, frame: Frame): void {
    const { timing } = this.nic.options;
    timing.charge(timing.costs['guest-tx']);
    timing.thenCall(this.#sendBy, nic, frame);
  }

  #redirect(frame: Frame, redirect: FrameRedirect): void {
    const { node, ifindex, accounting, siblings } = this.nic.options;
    const target = resolveRedirect(redirect, ifindex);
    if (target.kind === 'nowhere') return accounting.end(frame, node, 'redirect-failed');
    if (target.kind === 'stack') return accounting.end(frame, node, 'guest-stack');
    const frames = target.ifindexes.map((_, index) => (index === 0 ? frame : accounting.copy(frame)));
    target.ifindexes.forEach((target, index) => {
      const nic = siblings.get(target);
      if (nic === undefined) return accounting.end(frames[index]!, node, 'redirect-failed');
      this.#send(nic, frames[index]!);
      const used = this.#toKick.get(nic) ?? new Set();
      this.#toKick.set(nic, used.add(this.queue % nic.options.queues));
    });
  }
}
