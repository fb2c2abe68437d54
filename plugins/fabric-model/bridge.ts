import { LEARNED_ADDRESSES } from '../../src/core/contract/fabric.js';
import { isGroupMac, MAC_BYTES, macNumber } from '../../src/packet/mac-address.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { Timing } from './timing.js';

/** What a bridge port leads to. */
export interface BridgePort {
  readonly name: string;
  /**
   * Addresses that frames come from here are entered. A tap's port does not: a guest could send from the address of
   * another, or of somebody on the wire, and have its frames.
   */
  readonly learns: boolean;
  /** Takes a frame that leaves the bridge here. */
  transmit(frame: Frame): void;
}

/**
 * A learning bridge (net/bridge): a frame goes to the port behind which its destination was last seen, or to
 * all other ports when that is unknown or the address is a group. The bridge has no address of its own, so no
 * frame ends in it but those it filters: destination behind the port they came from, or no other port at all.
 */
export class Bridge {
  readonly #ports: BridgePort[] = [];
  /** By the address as a number: those that were announced, which stay where they are, and those that were learnt. */
  readonly #announced = new Map<number, BridgePort>();
  readonly #learnt = new Map<number, BridgePort>();

  constructor(
    readonly name: string,
    readonly accounting: FrameAccounting,
    readonly timing: Timing,
  ) {}

  addPort(port: BridgePort): void {
    this.#ports.push(port);
  }

  /** Enters an address that the host knows to be a guest's; whoever else sends from it does not take it away. */
  announce(mac: Uint8Array, port: BridgePort): void {
    if (!isGroupMac(mac)) this.#announced.set(macNumber(mac), port);
  }

  receive(frame: Frame, from: BridgePort): void {
    const { timing, accounting } = this;
    timing.charge(timing.costs['bridge-forward']);
    const { bytes } = frame;
    if (bytes.length < 2 * MAC_BYTES) {
      accounting.end(frame, `host.${this.name}`, 'bridge-filtered');
      return;
    }
    if (from.learns && (bytes[MAC_BYTES]! & 1) === 0) this.#learn(macNumber(bytes, MAC_BYTES), from);
    const known = (bytes[0]! & 1) === 1 ? undefined : this.#portOf(macNumber(bytes));
    if (known !== undefined && known !== from) {
      known.transmit(frame);
      return;
    }
    const targets = known === from ? [] : this.#ports.filter((port) => port !== from);
    if (targets.length === 0) {
      accounting.end(frame, `host.${this.name}`, 'bridge-filtered');
      return;
    }
    if (known === undefined) accounting.flooded(frame);
    // All copies before the frame itself goes on and changes.
    const frames = targets.map((_, index) => (index === 0 ? frame : accounting.copy(frame)));
    targets.forEach((port, index) => port.transmit(frames[index]!));
  }

  #portOf(mac: number): BridgePort | undefined {
    return this.#announced.get(mac) ?? this.#learnt.get(mac);
  }

  #learn(mac: number, port: BridgePort): void {
    if (this.#learnt.size < LEARNED_ADDRESSES || this.#learnt.has(mac)) this.#learnt.set(mac, port);
  }
}
