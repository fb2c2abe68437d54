import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { XDP_DROP } from '../../src/bpf/xdp.js';
import type { RunPlan } from '../../src/core/contract/plan.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import {
  closeFd,
  countVerdicts,
  driverStatistics,
  loadKernelProgram,
  PacketSocket,
  type NetworkNamespace,
} from '../../src/linux/index.js';
import { LinkLanding } from './landing.js';
import { VerdictCounters } from './verdict-counters.js';

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

  close(): void {
    this.#socket.close();
    for (const end of this.#ends.values()) end.close();
    this.#ends.clear();
  }
}

class WireEnd {
  readonly #counters = new VerdictCounters();
  readonly #landing: LinkLanding;

  constructor(
    readonly name: string,
    ifindex: number,
    readonly namespace: NetworkNamespace,
  ) {
    this.#landing = new LinkLanding(`wire of ${name}`, namespace, { hook: 'xdp', ifindex });
    try {
      const sink: Program = {
        name: 'wire',
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        insns: assemble(`r0 = ${XDP_DROP}\nexit`),
      };
      const counting = countVerdicts(sink, { counters: 1 });
      if (!counting.ok) throw new XdpbedError('plugin-failed', counting.reason);
      const verdict = loadKernelProgram(counting.program, new Map([[1, this.#counters.fd]]));
      if (!verdict.accepted)
        throw new XdpbedError('host-unsupported', `a counting program is refused: ${verdict.log}`);
      try {
        this.#landing.put(verdict.programFd);
      } finally {
        // The link holds on to it.
        closeFd(verdict.programFd);
      }
    } catch (error) {
      this.#counters.close();
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
    return this.#counters.read().XDP_DROP;
  }

  close(): void {
    this.#landing.take();
    this.#counters.close();
  }
}
