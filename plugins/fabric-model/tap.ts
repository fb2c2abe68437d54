import type { HookPoint } from '../../src/core/contract/plan.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import { flowQueue } from './flow-hash.js';
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
  readonly #rings: Frame[][];

  constructor(
    readonly name: string,
    readonly ifindex: number,
    readonly options: { readonly queues: number; readonly ring: number; readonly hook: HookPoint },
    /** Runs the guest's program. */
    readonly offload: XdpHook,
    /** Runs the host's program in the Rx path. */
    readonly rx: XdpHook,
    readonly accounting: FrameAccounting,
    readonly surroundings: TapSurroundings,
  ) {
    this.node = `host.${name}`;
    this.#rings = Array.from({ length: options.queues }, () => []);
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
    const refusal = this.accounting.refusal(frame);
    if (refusal !== undefined) {
      this.accounting.end(this.node, refusal);
      return;
    }
    const outcome = this.rx.run(frame);
    switch (outcome.action) {
      case 'XDP_PASS':
        this.surroundings.receiveFromTap(this, outcome.frame);
        return;
      case 'XDP_DROP':
        this.accounting.end(this.node, 'xdp-drop');
        return;
      case 'XDP_TX':
        this.xdpXmit(outcome.frame);
        return;
      case 'XDP_REDIRECT':
        this.surroundings.redirectFromTap(this, outcome);
        return;
      case 'XDP_ABORTED':
        this.accounting.end(this.node, 'xdp-aborted');
        return;
    }
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
  }

  /** The frame to go on with, or undefined when the program consumed it. */
  #runOffloaded(frame: Frame, queue: number): Frame | undefined {
    const outcome = this.offload.run(frame, queue);
    switch (outcome.action) {
      case 'XDP_PASS':
        return outcome.frame;
      case 'XDP_DROP':
        this.accounting.end(this.node, 'xdp-drop');
        return undefined;
      case 'XDP_TX':
        this.receive(outcome.frame);
        return undefined;
      case 'XDP_REDIRECT':
        // The guest's program speaks of the guest's interfaces, which mean nothing here, and must not reach the
        // host's: such a frame is dropped and counted, never sent anywhere (the RFC leaves this undefined).
        this.accounting.end(this.node, 'redirect-failed');
        return undefined;
      case 'XDP_ABORTED':
        this.accounting.end(this.node, 'xdp-aborted');
        return undefined;
    }
  }
}
