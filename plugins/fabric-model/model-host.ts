import { MAX_FRAME_LENGTH } from '../../src/bpf/runtime/xdp-frame.js';
import type { HostPlan } from '../../src/core/contract/plan.js';
import { Bridge, type BridgePort } from './bridge.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import { resolveRedirect } from '../../src/core/offload/redirect-target.js';
import type { Tap, TapSurroundings } from './tap.js';
import { runHook, type VerdictRoutes } from './verdict-routes.js';
import type { HookOutcome, XdpHook } from './xdp-hook.js';

/** A NIC of the host with the hook of its native XDP program. */
interface HostNic {
  readonly name: string;
  readonly ifindex: number;
  readonly hook: XdpHook;
  readonly routes: VerdictRoutes;
}

/**
 * The host's side of the model: NICs, bridges and taps, and the ways between them. In case `redirect` a NIC's
 * XDP program decides where a frame goes and what it passes ends in the host's stack; in case `bridge` NICs and
 * taps are ports of bridges.
 */
export class ModelHost implements TapSurroundings {
  readonly #nics = new Map<string, HostNic>();
  readonly #taps = new Map<string, Tap>();
  readonly #bridges = new Map<string, Bridge>();
  /** The bridge and port that an interface belongs to. */
  readonly #masters = new Map<string, { bridge: Bridge; port: BridgePort }>();
  /** For a bridge that is a port of another: its own port towards that one. */
  readonly #uplinks = new Map<string, BridgePort>();

  constructor(
    readonly plan: HostPlan,
    readonly accounting: FrameAccounting,
  ) {}

  get taps(): readonly Tap[] {
    return [...this.#taps.values()];
  }

  addNic(name: string, ifindex: number, hook: XdpHook): void {
    const node = `host.${name}`;
    const routes: VerdictRoutes = {
      node,
      pass: (frame) => this.#toStack(name, frame),
      transmit: () => this.accounting.end(node, 'transmitted'),
      redirect: (outcome) => this.#redirect(outcome, ifindex, node),
    };
    this.#nics.set(name, { name, ifindex, hook, routes });
  }

  addTap(tap: Tap): void {
    this.#taps.set(tap.name, tap);
  }

  tap(name: string): Tap {
    return this.#taps.get(name)!;
  }

  /** Joins ports to bridges, once all interfaces are there. */
  wireBridges(): void {
    for (const { name } of this.plan.bridges) this.#bridges.set(name, new Bridge(name, this.accounting));
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
      master.bridge.learn(mac, master.port);
      name = master.bridge.name;
    }
  }

  /** A frame arrives from the wire. */
  receiveFromWire(nicName: string, frame: Frame): void {
    const { hook, routes } = this.#nics.get(nicName)!;
    runHook(hook, frame, 0, routes, this.accounting);
  }

  receiveFromTap(tap: Tap, frame: Frame): void {
    this.#toStack(tap.name, frame);
  }

  redirectFromTap(tap: Tap, outcome: HookOutcome): void {
    this.#redirect(outcome, tap.ifindex, tap.node);
  }

  #addPort(bridge: Bridge, name: string): void {
    const port: BridgePort = { name, transmit: (frame) => this.#transmitFromBridge(name, frame) };
    bridge.addPort(port);
    this.#masters.set(name, { bridge, port });
    const inner = this.#bridges.get(name);
    if (inner === undefined) return;
    const uplink: BridgePort = { name: bridge.name, transmit: (frame) => bridge.receive(frame, port) };
    inner.addPort(uplink);
    this.#uplinks.set(name, uplink);
  }

  /** A frame leaves a bridge by a port: out on the wire, to a tap, or into another bridge. */
  #transmitFromBridge(portName: string, frame: Frame): void {
    if (this.#nics.has(portName)) {
      this.accounting.end(`host.${portName}`, 'transmitted');
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

  #toStack(interfaceName: string, frame: Frame): void {
    const master = this.#masters.get(interfaceName);
    if (master === undefined) this.accounting.end(`host.${interfaceName}`, 'host-stack');
    else master.bridge.receive(frame, master.port);
  }

  #redirect(outcome: HookOutcome, ingressIfindex: number, node: string): void {
    const target = resolveRedirect(outcome.redirect, ingressIfindex);
    if (target.kind === 'nowhere') {
      this.accounting.end(node, 'redirect-failed');
      return;
    }
    if (target.kind === 'stack') {
      this.accounting.end(node, 'host-stack');
      return;
    }
    target.ifindexes.forEach((ifindex, index) => {
      const frame = index === 0 ? outcome.frame : this.accounting.copy(outcome.frame);
      const tap = this.taps.find((candidate) => candidate.ifindex === ifindex);
      const nic = [...this.#nics.values()].find((candidate) => candidate.ifindex === ifindex);
      // A tap takes no frame in several buffers (drivers/net/tun.c: no NETDEV_XDP_ACT_NDO_XMIT_SG).
      if (tap !== undefined && frame.bytes.length <= MAX_FRAME_LENGTH) tap.xdpXmit(frame);
      else if (nic !== undefined) this.accounting.end(`host.${nic.name}`, 'transmitted');
      else this.accounting.end(node, 'redirect-failed');
    });
  }
}
