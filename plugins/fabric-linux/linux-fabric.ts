import { inject, injectable } from '../../src/core/contract/injection.js';
import type { Deployment, Fabric, HostPlace } from '../../src/core/contract/fabric.js';
import type { ProbeResult } from '../../src/core/contract/plugin.js';
import type { GuestNicPlan, GuestPlan, RunPlan } from '../../src/core/contract/plan.js';
import { RUN_SIGNAL } from '../../src/core/contract/run-scope.js';
import { TRANSPORT, type ControlChannel, type Transport } from '../../src/core/contract/transport.js';
import { negotiatedFeatures } from '../../src/core/offload/nic-session.js';
import { UndoSteps } from '../../src/core/offload/undo-steps.js';
import { Ledger, loadingThread, probeBpf } from '../../src/linux/index.js';
import { EarlyBridge } from './early-bridge.js';
import { FrameEnds } from './frame-ends.js';
import { HostNic } from './host-nic.js';
import { HostTap } from './host-tap.js';
import { LinuxDeployment } from './linux-deployment.js';
import { QemuNic, ReaderNic, type LinuxGuestNic } from './guest-nic.js';
import { NO_FRAMES, readLinkCounters, type LinkCounters } from './link-counters.js';
import { bootGuest, guestMachine, type GuestMachine } from './qemu-guests.js';
import { TapGuest } from './tap-guest.js';
import { Topology } from './topology.js';
import { Wire } from './wire.js';

/**
 * Fabric `linux`: the testbed on the running kernel. Its interfaces are in network namespaces of the run's own, its
 * programs are the kernel's, and nothing of it is left when the process ends.
 */
@injectable()
export class LinuxFabric implements Fabric {
  readonly name = 'linux';

  constructor(
    @inject(TRANSPORT) readonly transport: Transport,
    @inject(RUN_SIGNAL) readonly signal: AbortSignal,
  ) {}

  probe(): ProbeResult {
    return probeBpf();
  }

  async deploy(plan: RunPlan): Promise<Deployment> {
    const building = new DeploymentBuilder(plan, this);
    try {
      return await building.build();
    } catch (error) {
      throw await building.undo.runAfter(error);
    }
  }
}

/** Builds one deployment, and takes down what it has built when it cannot go on. */
class DeploymentBuilder {
  /** Run by whoever cannot go on, and by the deployment's `down`. */
  readonly undo = new UndoSteps();

  constructor(
    readonly plan: RunPlan,
    readonly fabric: LinuxFabric,
  ) {}

  async build(): Promise<Deployment> {
    const { plan } = this;
    // Programs come later: it is there by then.
    void loadingThread();
    const ledger = Ledger.create();
    this.undo.keep(ledger);
    ledger.note({ run: plan.id });
    const topology = await Topology.build({ plan, ledger });
    this.undo.keep(topology);

    const wire = this.undo.keep(Wire.open(plan, topology.wire));
    const nics = plan.host.nics.map((nic) => this.undo.keep(new HostNic(nic, plan.host.hook, topology.host)));
    const bridges = plan.host.hook === 'bridge-early' ? this.#earlyBridges(topology) : [];
    const taps = new Map<string, HostTap>();
    for (const [index, tap] of plan.host.taps.entries()) {
      const owner = nicBehind(plan, tap.name);
      const hostTap = new HostTap({
        plan: tap,
        index,
        device: topology.taps.get(tap.name)!,
        hook: plan.host.hook,
        guestIfindex: owner?.nic.ifindex ?? 0,
        guestMac: owner?.nic.mac ?? '00:00:00:00:00:00',
        guestNode: owner?.node ?? `host.${tap.name}`,
        nics,
        namespace: topology.host,
        shim: topology.shims.get(tap.name),
        early: bridges.flatMap(({ ports }) => ports.get(tap.name) ?? [])[0],
      });
      taps.set(tap.name, this.undo.keep(hostTap));
    }

    const ends = new FrameEnds();
    const guestNics: LinuxGuestNic[] = [];
    let machine: Promise<GuestMachine> | undefined;
    for (const guest of plan.guests) {
      const nics = await Promise.all(
        guest.nics.map(async (nic) => ({ nic, channel: await this.#openChannel(ledger, guest, nic) })),
      );
      if (guest.kind === 'qemu') {
        machine ??= guestMachine();
        guestNics.push(...(await this.#bootGuest(await machine, guest, nics, taps, topology, ledger)));
        continue;
      }
      const siblings = new Map<number, TapGuest>();
      for (const { nic, channel } of nics) {
        const player = new TapGuest(
          `${guest.name}.${nic.name}`,
          nic.ifindex,
          topology.taps.get(nic.tap)!,
          await channel.connect(),
          ends,
          siblings,
        );
        this.undo.add(() => player.hook.close());
        siblings.set(nic.ifindex, player);
        guestNics.push(new ReaderNic(guest.name, nic, channel, taps.get(nic.tap)!, player));
      }
    }

    const hostPlaces: HostPlace[] = [
      ...nics.map(({ plan: { name }, place }) => ({ site: 'host-nic' as const, interface: name, place })),
      ...[...taps].map(([name, { rx }]) => ({ site: 'tap-rx' as const, interface: name, place: rx })),
    ];
    return new LinuxDeployment({
      plan,
      topology,
      wire,
      hostNics: nics,
      taps: [...taps.values()],
      bridges,
      nics: guestNics,
      hostPlaces,
      ends,
      ledger,
      signal: this.fabric.signal,
      teardown: () => this.undo.run(),
    });
  }

  async #openChannel(ledger: Ledger, guest: GuestPlan, nic: GuestNicPlan): Promise<ControlChannel> {
    const label = `${guest.name}.${nic.name}`;
    const channel = await this.fabric.transport.open({
      label,
      features: negotiatedFeatures(nic),
      folder: () => ledger.ownFolder(),
    });
    this.undo.keep(channel);
    return channel;
  }

  async #bootGuest(
    machine: GuestMachine,
    guest: GuestPlan,
    nics: readonly { readonly nic: GuestNicPlan; readonly channel: ControlChannel }[],
    taps: ReadonlyMap<string, HostTap>,
    topology: Topology,
    ledger: Ledger,
  ): Promise<QemuNic[]> {
    const booted = await bootGuest(machine, {
      plan: guest,
      nics: nics.map(({ nic, channel }) => ({ tap: topology.taps.get(nic.tap)!, channel })),
      ledger,
      signal: this.fabric.signal,
    });
    this.undo.keep(booted);
    const { running } = booted;
    const opened: QemuNic[] = [];
    for (const [index, { nic, channel }] of nics.entries()) {
      const { name, ifindex, queues, hostile, driverHelpers } = nic;
      const features = negotiatedFeatures(nic);
      const driver = await running.openNic({
        index,
        name,
        ifindex,
        queues,
        hostile,
        driverHelpers,
        features,
      });
      const readLink = async (): Promise<LinkCounters> =>
        (await readLinkCounters(topology.host.name)).get(nic.tap) ?? NO_FRAMES;
      opened.push(
        new QemuNic(guest.name, nic, channel, taps.get(nic.tap)!, driver, readLink, running.accelerator),
      );
      running.onFailed((error) => channel.break(error.message));
    }
    return opened;
  }

  #earlyBridges(topology: Topology): EarlyBridge[] {
    const { bridges, nics, taps } = this.plan.host;
    return bridges.map(({ name, ports }) => {
      const options = {
        name,
        ifindex: topology.bridges.get(name)!,
        nics: nics.filter((nic) => ports.includes(nic.name)),
        taps: taps.filter((tap) => ports.includes(tap.name)),
        namespace: topology.host,
      };
      return this.undo.keep(new EarlyBridge(options));
    });
  }
}

function nicBehind(plan: RunPlan, tap: string): { node: string; nic: GuestNicPlan } | undefined {
  for (const guest of plan.guests) {
    const nic = guest.nics.find((each) => each.tap === tap);
    if (nic !== undefined) return { node: `${guest.name}.${nic.name}`, nic };
  }
  return undefined;
}
