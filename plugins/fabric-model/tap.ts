import type { HookPoint } from '../../src/core/contract/plan.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import { flowQueue } from './flow-hash.js';
import { runHook, type VerdictRoutes } from './verdict-routes.js';
import type { HookOutcome, XdpHook } from './xdp-hook.js';

/** Where frames go that leave the tap on its other sides. */
export interface TapSurroundings {
  /** A frame entered the host through the tap's Rx path and its program, if any, passed it. */
  receiveFromTap(tap: Tap, frame: Frame): void;
  /** A program in the tap's Rx path redirected a frame. */
  redirectFromTap(tap: Tap, outcome: HookOutcome): void;
}

/**
 * A tap device (drivers/net/tun.c): frames for the guest queue in a ptr_ring per queue until the reader takes
 * them; frames from the guest enter the host through the Rx path. An offloaded program runs at one of three
 * points on the way to the guest; what it sends back (XDP_TX) enters the Rx path as if the guest had sent it,
 * so that the Rx-path program sees it.
 */
export class Tap {
  readonly node: string;
  /** Called when a frame was put into a ring: wakes the reader. */
  onFrame: (() => void) | undefined;
  readonly #rings: Frame[][];
  readonly #rxRoutes: VerdictRoutes;
  readonly #offloadRoutes: VerdictRoutes;
  /** The frame that the offloaded program let through. */
  #passed: Frame | undefined;

  constructor(
    readonly name: string,
    readonly ifindex: number,
    readonly options: { readonly queues: number; readonly ring: number; readonly hook: HookPoint },
    /** Runs the guest's program. */
    readonly offload: XdpHook,
    /** Runs the host's program in the Rx path. */
    readonly rx: XdpHook,
    readonly accounting: FrameAccounting,
    surroundings: TapSurroundings,
  ) {
    this.node = `host.${name}`;
    this.#rings = Array.from({ length: options.queues }, () => []);
    this.#rxRoutes = {
      node: this.node,
      pass: (frame) => surroundings.receiveFromTap(this, frame),
      transmit: (frame) => this.xdpXmit(frame),
      redirect: (outcome) => surroundings.redirectFromTap(this, outcome),
    };
    this.#offloadRoutes = {
      node: this.node,
      pass: (frame) => {
        this.#passed = frame;
      },
      transmit: (frame) => this.receive(frame),
      // The guest's program speaks of the guest's interfaces, which mean nothing here, and must not reach the
      // host's: such a frame is dropped and counted, never sent anywhere (the RFC leaves this undefined).
      redirect: () => accounting.end(this.node, 'redirect-failed'),
    };
  }

  /** The stack sends one skb to the tap: what a bridge does. */
  netXmit(frame: Frame): void {
    this.#enqueue(frame, 'tun_net_xmit');
  }

  /** A redirected XDP frame arrives: what the NIC's program does in case `redirect`. */
  xdpXmit(frame: Frame): void {
    this.#enqueue(frame, 'tun_xdp_xmit');
  }

  /**
   * The reader takes a frame from a queue's ring. Undefined when there was nothing, or nothing that the
   * offloaded program let through: `took` tells the two apart, for that is what vhost cannot (and goes to
   * sleep).
   */
  receiveMessage(queue: number): { readonly took: boolean; readonly frame: Frame | undefined } {
    const frame = this.#rings[queue]!.shift();
    if (frame === undefined) return { took: false, frame: undefined };
    if (this.options.hook !== 'tun_recvmsg') return { took: true, frame };
    return { took: true, frame: this.#runOffloaded(frame, queue) };
  }

  /** A frame from the guest, or one that the offloaded program sent back, enters the host. */
  receive(frame: Frame): void {
    runHook(this.rx, frame, 0, this.#rxRoutes, this.accounting);
  }

  #enqueue(frame: Frame, point: HookPoint): void {
    const refusal = this.accounting.refusal(frame);
    if (refusal !== undefined) {
      this.accounting.end(this.node, refusal);
      return;
    }
    const queue = flowQueue(frame.bytes, this.#rings.length);
    const passed = this.options.hook === point ? this.#runOffloaded(frame, queue) : frame;
    if (passed === undefined) return;
    const ring = this.#rings[queue]!;
    if (ring.length >= this.options.ring) {
      this.accounting.end(this.node, 'ring-full');
      return;
    }
    ring.push(passed);
    this.onFrame?.();
  }

  /** The frame to go on with, or undefined when the program consumed it. */
  #runOffloaded(frame: Frame, queue: number): Frame | undefined {
    this.#passed = undefined;
    runHook(this.offload, frame, queue, this.#offloadRoutes, this.accounting);
    const passed = this.#passed;
    this.#passed = undefined;
    return passed;
  }
}
