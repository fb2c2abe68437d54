import { formatMac, isGroupMac, MAC_BYTES } from '../../src/packet/mac-address.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';

/** What a bridge port leads to. */
export interface BridgePort {
  readonly name: string;
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
  readonly #fdb = new Map<string, BridgePort>();

  constructor(
    readonly name: string,
    readonly accounting: FrameAccounting,
  ) {}

  addPort(port: BridgePort): void {
    this.#ports.push(port);
  }

  /** Enters an address as if a frame from it had come in: what a guest's announcement at start-up does. */
  learn(mac: Uint8Array, port: BridgePort): void {
    if (!isGroupMac(mac)) this.#fdb.set(formatMac(mac), port);
  }

  receive(frame: Frame, from: BridgePort): void {
    if (frame.bytes.length < 2 * MAC_BYTES) {
      this.accounting.end(`host.${this.name}`, 'bridge-filtered');
      return;
    }
    this.learn(frame.bytes.subarray(MAC_BYTES, 2 * MAC_BYTES), from);
    const destination = frame.bytes.subarray(0, MAC_BYTES);
    const known = isGroupMac(destination) ? undefined : this.#fdb.get(formatMac(destination));
    const targets =
      known === undefined ? this.#ports.filter((port) => port !== from) : known === from ? [] : [known];
    if (targets.length === 0) {
      this.accounting.end(`host.${this.name}`, 'bridge-filtered');
      return;
    }
    targets.forEach((port, index) => port.transmit(index === 0 ? frame : this.accounting.copy(frame)));
  }
}
