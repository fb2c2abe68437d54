import type { FrameRedirect } from '../../src/core/contract/executor.js';
import type { HookPoint } from '../../src/core/contract/plan.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import { FrameQueue } from './frame-queue.js';
import { flowQueue } from './flow-hash.js';
import type { Timing } from './timing.js';
import type { VirtualCpu } from './virtual-cpu.js';
import { runHook, type VerdictRoutes } from './verdict-routes.js';
import type { XdpHook } from './xdp-hook.js';

/** Where frames go that leave the tap on its other sides. */
export interface TapSurroundings {
  /** A frame entered the host through the tap's Rx path and its program, if any, passed it. */
  receiveFromTap(tap: Tap, frame: Frame): void;
  /** A program in the tap's Rx path redirected a frame. */
  redirectFromTap(tap: Tap, frame: Frame, redirect: FrameRedirect): void;
}

export interface TapOptions {
  readonly queues: number;
  /** Entries of each queue's ptr_ring. */
  readonly ring: number;
  /** Where the offloaded program runs. */
  readonly hook: HookPoint;
}

/**
 * A tap device (drivers/net/tun.c): frames for the guest queue in a ptr_ring per queue until the reader takes
 * them; frames from the guest enter the host through the Rx path. An offloaded program runs at one of three
 * points on the way to the guest; what it sends back (XDP_TX) enters the Rx path as if the guest had sent it,
 * so that the Rx-path program sees it.
 */
export class Tap {
  readonly node: string;
  /** Called when a frame was put into a ring: wakes the reader of that queue. */
  onFrame: ((queue: number) => void) | undefined;
  readonly rings: readonly FrameQueue[];
  readonly #rxRoutes: VerdictRoutes;
  readonly #offloadRoutes: VerdictRoutes;
  /** Redirected frames that are flushed together, by the CPU that redirects them. */
  readonly #bulks = new Map<VirtualCpu | undefined, Frame[]>();
  /** The frame that the offloaded program let through. */
  #passed: Frame | undefined;

  constructor(
    readonly name: string,
    readonly ifindex: number,
    readonly options: TapOptions,
    /** Runs the guest's program. */
    readonly offload: XdpHook,
    /** Runs the host's program in the Rx path. */
    readonly rx: XdpHook,
    readonly accounting: FrameAccounting,
    readonly timing: Timing,
    surroundings: TapSurroundings,
  ) {
    this.node = `host.${name}`;
    this.rings = Array.from({ length: options.queues }, () => new FrameQueue(options.ring));
    this.#rxRoutes = {
      node: this.node,
      pass: (frame) => surroundings.receiveFromTap(this, frame),
      transmit: (frame) => this.xdpXmit(frame),
      redirect: (frame, redirect) => surroundings.redirectFromTap(this, frame, redirect),
    };
    this.#offloadRoutes = {
      node: this.node,
      pass: (frame) => {
        this.#passed = frame;
      },
      transmit: (frame) => {
        timing.charge(timing.costs['tun-inject']);
        this.receive(frame);
      },
      // The guest's program speaks of the guest's interfaces, which mean nothing here, and must not reach the
      // host's: such a frame is dropped and counted, never sent anywhere (the RFC leaves this undefined).
      redirect: (frame) => accounting.end(frame, this.node, 'redirect-failed'),
    };
  }

  /** The stack sends one skb to the tap: what a bridge does. */
  netXmit(frame: Frame): void {
    this.timing.charge(this.timing.costs['tun-net-xmit']);
    this.#enqueue(frame, 'tun_net_xmit');
  }

  /**
   * A redirected XDP frame arrives: what the NIC's program does in case `redirect`. Frames are flushed together (net/
   * core/dev_map: bq_enqueue), at the latest when whoever redirects ends its poll and calls `flush`.
   */
  xdpXmit(frame: Frame): void {
    this.timing.charge(this.timing.costs['xdp-redirect']);
    const { cpu } = this.timing;
    let bulk = this.#bulks.get(cpu);
    if (bulk === undefined) this.#bulks.set(cpu, (bulk = []));
    if (bulk.push(frame) >= this.timing.costs['redirect-bulk']) this.flush();
  }

  /** The CPU that works has redirected all that it has. */
  flush(): void {
    const bulk = this.#bulks.get(this.timing.cpu);
    if (bulk === undefined || bulk.length === 0) return;
    this.timing.charge(this.timing.costs['redirect-flush']);
    // What is sent may come back here, and then is a bulk of its own. One frame is all there is where nothing costs time.
    if (bulk.length === 1) this.#sendRedirected(bulk.pop()!);
    else for (const frame of bulk.splice(0)) this.#sendRedirected(frame);
  }

  #sendRedirected(frame: Frame): void {
    this.timing.charge(this.timing.costs['tun-xdp-xmit']);
    this.#enqueue(frame, 'tun_xdp_xmit');
  }

  hasFrame(queue: number): boolean {
    return this.rings[queue]!.length > 0;
  }

  /**
   * The reader takes a frame from a queue's ring, in which there is one. Undefined when the offloaded program let
   * nothing through.
   */
  receiveMessage(queue: number): Frame | undefined {
    const frame = this.rings[queue]!.shift(this.timing.now)!;
    this.timing.charge(this.timing.costs['tun-recv']);
    return this.options.hook === 'tun_recvmsg' ? this.#runOffloaded(frame, queue) : frame;
  }

  /** A frame from the guest, or one that the offloaded program sent back, enters the host. */
  receive(frame: Frame): void {
    runHook(this.rx, frame, 0, this.#rxRoutes, this.accounting);
  }

  #enqueue(frame: Frame, point: HookPoint): void {
    const refusal = this.accounting.refusal(frame);
    if (refusal !== undefined) {
      this.accounting.end(frame, this.node, refusal);
      return;
    }
    const queue = flowQueue(frame.bytes, this.rings.length);
    const passed = this.options.hook === point ? this.#runOffloaded(frame, queue) : frame;
    if (passed !== undefined) this.timing.thenCall(this.#produce, passed, queue);
  }

  readonly #produce = (frame: Frame, queue: number): void => {
    if (!this.rings[queue]!.push(frame, this.timing.now)) {
      this.accounting.end(frame, this.node, 'ring-full');
      return;
    }
    this.onFrame?.(queue);
  };

  /** The frame to go on with, or undefined when the program consumed it. */
  #runOffloaded(frame: Frame, queue: number): Frame | undefined {
    this.#passed = undefined;
    runHook(this.offload, frame, queue, this.#offloadRoutes, this.accounting);
    const passed = this.#passed;
    this.#passed = undefined;
    return passed;
  }
}
