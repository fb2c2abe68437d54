import { writeFileSync } from 'node:fs';
import type { NamespacePresence } from '../../src/core/contract/fabric.js';
import type { RunPlan } from '../../src/core/contract/plan.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import { queuePairs } from './qemu-guests.js';
import { LEARNED_ADDRESSES } from '../../src/core/contract/fabric.js';
import {
  limitLearnedAddresses,
  IFNAMSIZ,
  OwnedNamespace,
  runBridge,
  runIp,
  TapDevice,
  type Ledger,
} from '../../src/linux/index.js';

/** Bridges have no number in the plan; theirs must be none of its interfaces'. */
const FIRST_BRIDGE_IFINDEX = 1001;
/** Nor do the pairs in front of taps. */
const FIRST_SHIM_IFINDEX = 2001;

export interface TopologyOptions {
  readonly plan: RunPlan;
  readonly ledger: Ledger;
}

/**
 * The machine's side of a testbed, in two network namespaces: `wire`, where the traffic comes from, and `host`, with a
 * NIC (one end of a veth pair whose other is on the wire) for each of the plan's, its taps and its bridges.
 * Interfaces have the plan's names and the plan's numbers, so that what a program's maps say of them holds; the wire's
 * ends have the names of their NICs, and the same numbers.
 */
export class Topology {
  readonly taps = new Map<string, TapDevice>();
  /** Numbers of the two ends of the pair in front of each tap, with hook `veth-shim`. */
  readonly shims = new Map<string, { readonly outer: number; readonly inner: number }>();

  /** Numbers of the bridges. */
  readonly bridges = new Map<string, number>();

  private constructor(
    readonly wire: OwnedNamespace,
    readonly host: OwnedNamespace,
    readonly ledger: Ledger,
  ) {}

  /** All or nothing. Throws `host-unsupported` with what the kernel or iproute2 said. */
  static async build({ plan, ledger }: TopologyOptions): Promise<Topology> {
    checkNames(plan);
    const [wire, host] = OwnedNamespace.create(
      [`xdpbed-${ledger.run}-wire`, `xdpbed-${ledger.run}-host`],
      ledger,
    );
    const topology = new Topology(wire!, host!, ledger);
    try {
      await topology.#build(plan);
      return topology;
    } catch (error) {
      await topology.close();
      throw error;
    }
  }

  presence({ host }: RunPlan): NamespacePresence[] {
    const nics = host.nics.map(({ name, ifindex }) => ({ name, ifindex, kind: 'nic' as const }));
    const taps = host.taps.map(({ name, ifindex }) => ({ name, ifindex, kind: 'tap' as const }));
    const bridges = host.bridges.map(({ name }, index) => ({
      name,
      ifindex: FIRST_BRIDGE_IFINDEX + index,
      kind: 'bridge' as const,
    }));
    return [
      { role: 'wire', name: this.wire.name, interfaces: nics },
      { role: 'host', name: this.host.name, interfaces: [...nics, ...taps, ...bridges] },
    ];
  }

  /** Ends what `xdpbed exec` has started in there, too. Where that does not end, the namespaces stay, and in the ledger. */
  async close(): Promise<void> {
    for (const tap of this.taps.values()) tap.close();
    await OwnedNamespace.vacate([this.wire, this.host], this.ledger);
    // The pairs go with either of their ends.
    this.host.close();
    this.wire.close();
  }

  async #build(plan: RunPlan): Promise<void> {
    const { host, guests } = plan;
    quiet(this.wire);
    quiet(this.host);
    const queues = Math.max(host.cpus, ...guests.flatMap(({ nics }) => nics.map((nic) => nic.queues)));
    const pairs = host.nics.map(({ name, ifindex, mac }) => {
      const ends = `numrxqueues ${queues} numtxqueues ${queues}`;
      return `link add name ${name} index ${ifindex} address ${mac} ${ends} type veth peer name ${name} index ${ifindex} ${ends} netns ${this.wire.name}`;
    });
    await runIp(['link set lo up', ...pairs], { namespace: this.host.name });
    for (const { name, ifindex } of host.taps) {
      const options = { name, ifindex, ...tapKind(plan, name) };
      this.taps.set(name, TapDevice.open(options, this.host));
    }
    const shims = host.hook === 'veth-shim' ? this.#shims(plan) : [];
    await runIp([...this.#bridges(plan), ...this.#ups(plan), ...shims], { namespace: this.host.name });
    for (const ifindex of this.bridges.values()) limitLearnedAddresses(this.host, ifindex, LEARNED_ADDRESSES);
    await runIp(
      host.nics.map(({ name }) => `link set ${name} up`),
      { namespace: this.wire.name },
    );
    await runBridge(this.#announcements(plan), { namespace: this.host.name });
  }

  /** Inner bridges are made like the others; which is a port of which does not matter to the order. */
  #bridges({ host }: RunPlan): string[] {
    for (const [index, { name }] of host.bridges.entries())
      this.bridges.set(name, FIRST_BRIDGE_IFINDEX + index);
    return [
      ...[...this.bridges].map(
        ([name, ifindex]) =>
          `link add name ${name} index ${ifindex} type bridge stp_state 0 mcast_snooping 0`,
      ),
      ...host.bridges.flatMap(({ name, ports }) =>
        this.#portsOf(
          name,
          ports,
          host.bridges.map((each) => each.name),
        ),
      ),
    ];
  }

  /** The kernel has no bridge as a port of a bridge: a pair of interfaces joins them. */
  #portsOf(bridge: string, ports: readonly string[], bridges: readonly string[]): string[] {
    return ports.map((port) => {
      if (bridges.includes(port)) {
        throw new XdpbedError(
          'host-unsupported',
          `bridge ${port} cannot be a port of bridge ${bridge} on linux`,
          {
            hint: 'the kernel does not take a bridge as a port of another',
          },
        );
      }
      return `link set ${port} master ${bridge}`;
    });
  }

  #shims({ host }: RunPlan): string[] {
    return host.taps.flatMap(({ name }, index) => {
      const outer = FIRST_SHIM_IFINDEX + 2 * index;
      const inner = outer + 1;
      this.shims.set(name, { outer, inner });
      const [out, into] = [`shim${index}`, `shim${index}-tap`];
      return [
        `link add name ${out} index ${outer} type veth peer name ${into} index ${inner}`,
        `link set ${out} up`,
        `link set ${into} up`,
      ];
    });
  }

  #ups({ host }: RunPlan): string[] {
    const tapLines = host.taps.map(({ name, ring }) => `link set ${name} txqueuelen ${ring} up`);
    const rest = [...host.nics, ...host.bridges].map(({ name }) => `link set ${name} up`);
    return [...tapLines, ...rest];
  }

  /**
   * A bridge knows where the guests are, as from the announcement that each would make, and takes no guest's word for
   * it: an entry that is not sticky goes to whoever sends from its address, and so would those of hosts on the wire if
   * taps' ports learned.
   */
  #announcements({ host, guests }: RunPlan): string[] {
    const ports = new Set(host.bridges.flatMap((bridge) => bridge.ports));
    return [
      ...host.taps
        .filter(({ name }) => ports.has(name))
        .map(({ name }) => `link set dev ${name} learning off`),
      ...guests
        .flatMap(({ nics }) => nics)
        .filter(({ tap }) => ports.has(tap))
        .map(({ mac, tap }) => `fdb replace ${mac} dev ${tap} master static sticky`),
    ];
  }
}

/** As the guest behind it wants it. */
function tapKind({ guests }: RunPlan, tap: string): { queues: number; vnetHeader: boolean } {
  for (const guest of guests) {
    const nic = guest.nics.find((each) => each.tap === tap);
    if (nic === undefined) continue;
    return guest.kind === 'qemu'
      ? { queues: queuePairs(guest, nic.queues), vnetHeader: true }
      : { queues: nic.queues, vnetHeader: false };
  }
  return { queues: 1, vnetHeader: false };
}

/** Nothing but the testbed's own frames: no addresses that the kernel makes and speaks of, no filters of the host's. */
function quiet(namespace: OwnedNamespace): void {
  const settings = {
    'ipv6/conf/all/disable_ipv6': '1',
    'ipv6/conf/default/disable_ipv6': '1',
    'bridge/bridge-nf-call-iptables': '0',
    'bridge/bridge-nf-call-ip6tables': '0',
    'bridge/bridge-nf-call-arptables': '0',
  };
  namespace.run(() => {
    for (const [name, value] of Object.entries(settings)) {
      try {
        writeFileSync(`/proc/sys/net/${name}`, value);
      } catch {
        // A kernel without IPv6 or br_netfilter needs no telling.
      }
    }
  });
}

function checkNames({ host }: RunPlan): void {
  for (const { name } of [...host.nics, ...host.taps, ...host.bridges]) {
    if (name.length < IFNAMSIZ && name !== 'lo') continue;
    throw new XdpbedError('host-unsupported', `'${name}' cannot be the name of an interface on linux`, {
      hint: `it has at most ${IFNAMSIZ - 1} characters and is not 'lo'`,
    });
  }
}
