import type { RunPlan } from '../../src/core/contract/plan.js';
import {
  driverStatistics,
  PacketSocket,
  setReceiveOffload,
  type NetworkNamespace,
} from '../../src/linux/index.js';
import { CountingSink } from './counting-sink.js';
import { LinkLanding } from './landing.js';

/**
 * The other ends of the host's NICs: frames go in by the first, and what comes out by any of them is counted and
 * dropped, by a program in the driver.
 */
export class Wire {
  readonly #socket: PacketSocket;
  readonly #ends = new Map<string, WireEnd>();

  private constructor(socket: PacketSocket) {
    this.#socket = socket;
  }

  static open({ host }: RunPlan, namespace: NetworkNamespace): Wire {
    const wire = new Wire(PacketSocket.open(host.nics[0]!.ifindex, namespace));
    try {
      for (const { name, ifindex } of host.nics) wire.#ends.set(name, new WireEnd(name, ifindex, namespace));
      return wire;
    } catch (error) {
      wire.close();
      throw error;
    }
  }

  /** False when there is no room now. */
  send(frame: Uint8Array): boolean {
    return this.#socket.send(frame);
  }

  /** Frames that the host sent out by a NIC. */
  received(nic: string): number {
    return this.#ends.get(nic)!.received;
  }

  /** Frames of the generator that a NIC had no room for. */
  refused(nic: string): number {
    return this.#ends.get(nic)!.refused;
  }

  /**
   * While `work` is under way, what comes out by a NIC goes on to the wire's own stack, and is not counted. Its end takes
   * XDP frames as before.
   */
  async withStack<T>(nic: string, work: () => Promise<T>): Promise<T> {
    return this.#ends.get(nic)!.withStack(work);
  }

  close(): void {
    this.#socket.close();
    for (const end of this.#ends.values()) end.close();
    this.#ends.clear();
  }
}

class WireEnd {
  readonly #sink = new CountingSink();
  readonly #landing: LinkLanding;
  #open = true;

  constructor(
    readonly name: string,
    ifindex: number,
    readonly namespace: NetworkNamespace,
  ) {
    this.#landing = new LinkLanding(`wire of ${name}`, namespace, { hook: 'xdp', ifindex });
    try {
      this.#landing.put(this.#sink.fd);
    } catch (error) {
      this.#sink.close();
      throw error;
    }
  }

  /** XDP frames that the other end of the pair did not take, of all queues. */
  get refused(): number {
    let sum = 0;
    for (const [counter, value] of driverStatistics(this.name, this.namespace)) {
      if (/^tx_queue_\d+_xdp_xmit_errors$/.test(counter)) sum += value;
    }
    return sum;
  }

  get received(): number {
    return this.#sink.count;
  }

  async withStack<T>(work: () => Promise<T>): Promise<T> {
    setReceiveOffload(this.name, true, this.namespace);
    this.#landing.take();
    try {
      return await work();
    } finally {
      // A run that was interrupted is taken down meanwhile.
      if (this.#open) {
        this.#landing.put(this.#sink.fd);
        setReceiveOffload(this.name, false, this.namespace);
      }
    }
  }

  close(): void {
    this.#open = false;
    this.#landing.take();
    this.#sink.close();
  }
}
