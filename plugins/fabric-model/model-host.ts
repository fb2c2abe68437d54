import { MAX_FRAME_LENGTH } from '../../src/bpf/runtime/xdp-frame.js';
import type { FrameRedirect } from '../../src/core/contract/executor.js';
import type { HostPlan } from '../../src/core/contract/plan.js';
import { resolveRedirect } from '../../src/core/offload/redirect-target.js';
import { Bridge, type BridgePort } from './bridge.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { Tap, TapSurroundings } from './tap.js';
import type { Timing } from './timing.js';
import { runHook, type VerdictRoutes } from './verdict-routes.js';
import type { XdpHook } from './xdp-hook.js';

/** A NIC of the host with the hook of its native XDP program. */
interface HostNic {
  readonly name: string;
  readonly ifindex: number;
  readonly hook: XdpHook;
  readonly routes: VerdictRoutes;
}

/** Merges frames of a NAPI poll into longer ones, and has them go on. */
export interface FrameMerger {
  receive(frame: Frame): void;
  /** The poll is over: nothing is held back any longer. */
  flush(): void;
}

/** The bridge that an interface belongs to, and its port there. */
interface Master {
  readonly bridge: Bridge;
  readonly port: BridgePort;
}

/**
 * The host's side of the model: NICs, bridges and taps, and the ways between them. In case `redirect` a NIC's
 * XDP program decides where a frame goes and what it passes ends in the host's stack; in case `bridge` NICs and
 * taps are ports of bridges.
 */
export class ModelHost implements TapSurroundings {
  readonly #nics = new Map<string, HostNic>();
  readonly #taps = new Map<string, Tap>();
  /** Where a redirect leads, by ifindex. */
  readonly #interfaces = new Map<number, Tap | HostNic>();
  readonly #bridges = new Map<string, Bridge>();
  readonly #masters = new Map<string, Master>();
  /** For a bridge that is a port of another: its own port towards that one. */
  readonly #uplinks = new Map<string, BridgePort>();
  /** A frame left by a NIC; its completion is work of the CPU that polls it. */
  onTransmit: ((nic: string, frame: Frame) => void) | undefined;
  /** What merges frames on their way up from the first NIC, where anything does. */
  gro: FrameMerger | undefined;

  constructor(
    readonly plan: HostPlan,
    readonly accounting: FrameAccounting,
    readonly timing: Timing,
  ) {}

  get taps(): readonly Tap[] {
    return [...this.#taps.values()];
  }

  addNic(name: string, ifindex: number, hook: XdpHook): void {
    const node = `host.${name}`;
    const routes: VerdictRoutes = {
      node,
      pass: (frame) => {
        if (this.gro !== undefined) {
          this.gro.receive(frame);
          return;
        }
        this.timing.charge(this.timing.costs['skb-receive']);
        this.#toStack(name, frame);
      },
      transmit: (frame) => this.#transmit(frame, name),
      redirect: (frame, redirect) => this.#redirect(frame, redirect, ifindex, node),
    };
    const nic = { name, ifindex, hook, routes };
    this.#nics.set(name, nic);
    this.#interfaces.set(ifindex, nic);
  }

  addTap(tap: Tap): void {
    this.#taps.set(tap.name, tap);
    this.#interfaces.set(tap.ifindex, tap);
  }

  tap(name: string): Tap {
    return this.#taps.get(name)!;
  }

  /** Joins ports to bridges, once all interfaces are there. */
  wireBridges(): void {
    for (const { name } of this.plan.bridges)
      this.#bridges.set(name, new Bridge(name, this.accounting, this.timing));
    for (const { name, ports } of this.plan.bridges) {
      const bridge = this.#bridges.get(name)!;
      for (const portName of ports) this.#addPort(bridge, portName);
    }
  }

  /**
   * A guest's interface went up behind a tap: bridges learn its address, as from the announcement that a guest
   * then sends, so that its frames need not be flooded first.
   */
  announce(mac: Uint8Array, tapName: string): void {
    for (let name = tapName; ;) {
      const master = this.#masters.get(name);
      if (master === undefined) return;
      master.bridge.announce(mac, master.port);
      name = master.bridge.name;
    }
  }

  /** A frame arrives from the wire. */
  receiveFromWire(nicName: string, frame: Frame): void {
    const { hook, routes } = this.#nics.get(nicName)!;
    this.timing.charge(this.timing.costs['nic-rx']);
    runHook(hook, frame, 0, routes, this.accounting);
  }

  receiveFromTap(tap: Tap, frame: Frame): void {
    this.timing.charge(this.timing.costs['tap-receive']);
    this.#toStack(tap.name, frame);
  }

  redirectFromTap(tap: Tap, frame: Frame, redirect: FrameRedirect): void {
    this.#redirect(frame, redirect, tap.ifindex, tap.node);
  }

  /** The way up of a frame from a NIC that is not merged with others any more. */
  receiveSkb(nic: string, frame: Frame): void {
    this.#toStack(nic, frame);
  }

  /** A poll of the first NIC is over. */
  endPoll(): void {
    this.gro?.flush();
    this.flush();
  }

  /** The CPU that works has redirected all that it has. */
  flush(): void {
    for (const tap of this.#taps.values()) tap.flush();
  }

  #addPort(bridge: Bridge, name: string): void {
    const port: BridgePort = {
      name,
      learns: !this.#taps.has(name),
      transmit: (frame) => this.#transmitFromBridge(name, frame),
    };
    bridge.addPort(port);
    this.#masters.set(name, { bridge, port });
    const inner = this.#bridges.get(name);
    if (inner === undefined) return;
    const uplink: BridgePort = {
      name: bridge.name,
      learns: true,
      transmit: (frame) => bridge.receive(frame, port),
    };
    inner.addPort(uplink);
    this.#uplinks.set(name, uplink);
  }

  /** A frame leaves a bridge by a port: out on the wire, to a tap, or into another bridge. */
  #transmitFromBridge(portName: string, frame: Frame): void {
    if (this.#nics.has(portName)) {
      this.#transmit(frame, portName);
      return;
    }
    const tap = this.#taps.get(portName);
    if (tap !== undefined) {
      tap.netXmit(frame);
      return;
    }
    // Into a bridge that is this one's port: it comes in there by its link to this one.
    this.#bridges.get(portName)!.receive(frame, this.#uplinks.get(portName)!);
  }

  #transmit(frame: Frame, nic: string): void {
    this.timing.charge(this.timing.costs['nic-tx']);
    this.accounting.end(frame, `host.${nic}`, 'transmitted');
    // When it is done with that: another CPU cleans up after it.
    if (this.onTransmit !== undefined) this.timing.thenCall(this.#transmitted, nic, frame);
  }

  readonly #transmitted = (nic: string, frame: Frame): void => this.onTransmit?.(nic, frame);

  #toStack(interfaceName: string, frame: Frame): void {
    const { timing, accounting } = this;
    const master = this.#masters.get(interfaceName);
    if (master === undefined) {
      timing.charge(timing.costs['host-stack']);
      accounting.end(frame, `host.${interfaceName}`, 'host-stack');
    } else master.bridge.receive(frame, master.port);
  }

  #redirect(frame: Frame, redirect: FrameRedirect, ingressIfindex: number, node: string): void {
    const { accounting } = this;
    const target = resolveRedirect(redirect, ingressIfindex);
    if (target.kind === 'nowhere') {
      accounting.end(frame, node, 'redirect-failed');
      return;
    }
    if (target.kind === 'stack') {
      accounting.end(frame, node, 'host-stack');
      return;
    }
    const { ifindexes } = target;
    if (ifindexes.length === 1) this.#redirectTo(this.#interfaces.get(ifindexes[0]!), frame, node);
    else this.#broadcast(ifindexes, frame, node);
  }

  #broadcast(ifindexes: readonly number[], frame: Frame, node: string): void {
    // All copies before the frame itself goes on and changes.
    const frames = ifindexes.map((_, index) => (index === 0 ? frame : this.accounting.copy(frame)));
    ifindexes.forEach((ifindex, index) =>
      this.#redirectTo(this.#interfaces.get(ifindex), frames[index]!, node),
    );
  }

  #redirectTo(target: Tap | HostNic | undefined, frame: Frame, node: string): void {
    if (target === undefined) this.accounting.end(frame, node, 'redirect-failed');
    else if (!('xdpXmit' in target)) this.#transmit(frame, target.name);
    // A tap takes no frame in several buffers (drivers/net/tun.c: no NETDEV_XDP_ACT_NDO_XMIT_SG).
    else if (frame.bytes.length <= MAX_FRAME_LENGTH) target.xdpXmit(frame);
    else this.accounting.end(frame, node, 'redirect-failed');
  }
}
