import { injectable } from '../../src/core/contract/injection.js';
import type { Deployment, Fabric, FabricContext, Party } from '../../src/core/contract/fabric.js';
import type { GuestNicPlan, GuestPlan, ProgramPlan, RunPlan, TapPlan } from '../../src/core/contract/plan.js';
import type { AttachmentResult, AuditRecord, RulingRecord } from '../../src/core/contract/result.js';
import { HELPER_NAMES } from '../../src/bpf/helper-ids.js';
import type { MapInitialEntry } from '../../src/bpf/map-spec.js';
import type { HelperHost } from '../../src/bpf/runtime/helper-host.js';
import { OffloadNetdev } from '../../src/core/offload/guest-driver.js';
import { HostLedger } from '../../src/core/offload/host-ledger.js';
import { loadObjectProgram, requireAccepted } from '../../src/core/offload/load-program.js';
import { RulingLog } from '../../src/core/offload/policy-chain.js';
import { QemuDevice } from '../../src/core/offload/qemu-device.js';
import { selectProgram } from '../../src/core/offload/select-program.js';
import { messageOf, XdpbedError } from '../../src/core/diagnostic.js';
import { parseMac } from '../../src/packet/mac-address.js';
import { FEATURE_BITS, featureSet, negotiateFeatures, parseFeatureNames } from '../../src/virtio/features.js';
import { FrameAccounting } from './frame-accounting.js';
import { GuestNic } from './guest-nic.js';
import { ModelDeployment, type GuestLink } from './model-deployment.js';
import { ModelHost } from './model-host.js';
import { Tap } from './tap.js';
import { TapReader } from './tap-reader.js';
import { XdpHook } from './xdp-hook.js';

/**
 * Fabric `model`: everything in this process. Control commands and frames cross real virtqueues, programs are
 * really verified and executed; only the hardware and the two kernels around them are modelled.
 */
@injectable()
export class ModelFabric implements Fabric {
  readonly name = 'model';

  async deploy(run: RunPlan, context: FabricContext): Promise<Deployment> {
    const building = new DeploymentBuilder(run, context);
    try {
      return await building.build();
    } catch (error) {
      const failures = await building.undo();
      // What went wrong first comes first; what then could not be taken down must not hide it.
      if (failures.length > 0) throw new AggregateError([error, ...failures], messages([error, ...failures]));
      throw error;
    }
  }
}

/** Builds one deployment, and takes down what it has built when it cannot go on. */
class DeploymentBuilder {
  readonly #accounting = new FrameAccounting();
  readonly #clock = { now: 0n };
  readonly #ledger = new HostLedger();
  readonly #rulings = new RulingLog();
  readonly #audit: AuditRecord[] = [];
  readonly #attachments: AttachmentResult[] = [];
  readonly #failures: unknown[] = [];
  readonly #links: GuestLink[] = [];
  /** What `undo` and the deployment's `down` call, last first. */
  readonly #teardown: (() => void | Promise<void>)[] = [];
  readonly #hooks: XdpHook[] = [];

  constructor(
    readonly run: RunPlan,
    readonly context: FabricContext,
  ) {}

  async build(): Promise<Deployment> {
    const { host: plan, guests } = this.run;
    const host = new ModelHost(plan, this.#accounting);
    const hostParty = await this.context.openParty('host', { cpus: plan.cpus });
    for (const nic of plan.nics) {
      const hook = this.#hook('host-nic', `host.${nic.name}`, nic.ifindex, hostParty);
      host.addNic(nic.name, nic.ifindex, hook);
      // The NIC's program is what case `redirect` consists of; in case `bridge` there is none.
      if (nic.program !== undefined && plan.case === 'redirect')
        await this.#attachHostProgram(hook, nic.program, hostParty);
    }
    const offloadParties = new Map<string, Party>();
    for (const tapPlan of plan.taps) await this.#addTap(host, tapPlan, hostParty, offloadParties);
    host.wireBridges();
    for (const guest of guests) await this.#addGuest(host, guest, offloadParties);
    return new ModelDeployment({
      run: this.run,
      random: this.context.random('workload'),
      folder: this.context.folder,
      signal: this.context.signal,
      host,
      accounting: this.#accounting,
      clock: this.#clock,
      links: this.#links,
      hooks: this.#hooks,
      attachments: this.#attachments,
      rulings: () => this.#rulings.records,
      audit: this.#audit,
      failures: this.#failures,
      teardown: async () => {
        const failures = await this.undo();
        if (failures.length > 0) throw new AggregateError(failures, messages(failures));
      },
    });
  }

  /** Takes everything down, last first; a part that fails does not keep the rest up. Returns the failures. */
  async undo(): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (const step of this.#teardown.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    }
    return failures;
  }

  #hook(site: XdpHook['site'], node: string, ifindex: number, party: Party): XdpHook {
    const hook = new XdpHook(site, node, ifindex, party);
    this.#hooks.push(hook);
    this.#teardown.push(() => hook.close());
    return hook;
  }

  async #addTap(
    host: ModelHost,
    plan: TapPlan,
    hostParty: Party,
    offloadParties: Map<string, Party>,
  ): Promise<void> {
    const nic = this.#nicBehind(plan.name);
    const node = nic === undefined ? `host.${plan.name}` : `${nic.guest.name}.${nic.plan.name}`;
    // What a guest offloads runs in a runtime of its own: no other guest's memory is in reach.
    const party = await this.context.openParty(`host for ${node}`, { cpus: this.run.host.cpus });
    offloadParties.set(plan.name, party);
    const rx = this.#hook('tap-rx', `host.${plan.name}`, plan.ifindex, hostParty);
    if (plan.rxProgram !== undefined) await this.#attachHostProgram(rx, plan.rxProgram, hostParty);
    host.addTap(
      new Tap(
        plan.name,
        plan.ifindex,
        { queues: nic?.plan.queues ?? 1, ring: plan.ring, hook: this.run.host.hook },
        this.#hook('offload', node, nic?.plan.ifindex ?? 0, party),
        rx,
        this.#accounting,
        host,
      ),
    );
  }

  #nicBehind(tap: string): { guest: GuestPlan; plan: GuestNicPlan } | undefined {
    for (const guest of this.run.guests) {
      const plan = guest.nics.find((nic) => nic.tap === tap);
      if (plan !== undefined) return { guest, plan };
    }
    return undefined;
  }

  /** A program of the host: without it the run makes no sense, so a rejection ends it. */
  async #attachHostProgram(hook: XdpHook, name: string, party: Party): Promise<void> {
    const { object, spec, initial } = await this.#readProgram(name);
    const loaded = requireAccepted(
      await loadObjectProgram(party, object, spec, { host: this.#helperHost(hook.node), initial }),
    );
    this.#teardown.push(() => loaded.close());
    hook.attach(loaded.loaded, name);
  }

  async #addGuest(
    host: ModelHost,
    guest: GuestPlan,
    offloadParties: ReadonlyMap<string, Party>,
  ): Promise<void> {
    const party = await this.context.openParty(guest.name, { cpus: guest.cpus });
    const siblings = new Map<number, GuestNic>();
    for (const plan of guest.nics) {
      const link = await this.#addGuestNic(host, guest, plan, party, offloadParties.get(plan.tap)!, siblings);
      siblings.set(plan.ifindex, link.nic);
      this.#links.push(link);
      host.announce(parseMac(plan.mac), plan.tap);
      if (plan.program !== undefined) await this.#attachGuestProgram(link, plan, plan.program);
    }
  }

  async #addGuestNic(
    host: ModelHost,
    guest: GuestPlan,
    plan: GuestNicPlan,
    guestParty: Party,
    offloadParty: Party,
    siblings: ReadonlyMap<number, GuestNic>,
  ): Promise<GuestLink> {
    const node = `${guest.name}.${plan.name}`;
    const tap = host.tap(plan.tap);
    const offered = parseFeatureNames(plan.features);
    const features = offered.ok
      ? negotiateFeatures(offered.features, featureSet(...Object.values(FEATURE_BITS)))
      : 0n;
    const emitRuling = (record: RulingRecord): void => {
      this.#rulings.add(record);
      this.context.emit({ event: 'ruling', run: this.run.id, record });
    };
    const state = { broken: false };
    const device = new QemuDevice({
      guest: guest.name,
      nic: plan.name,
      party: offloadParty,
      policies: this.context.policies,
      ledger: this.#ledger,
      // The tap's one hook serves all of its queues, so an offloaded program is attached to each.
      hooks: [
        {
          attach: (program) => tap.offload.attach(program, plan.program ?? program.name),
          detach: () => tap.offload.detach(),
        },
      ],
      events: {
        ruling: emitRuling,
        audit: (record) => {
          this.#audit.push(record);
          this.context.emit({ event: 'audit', run: this.run.id, record });
        },
      },
      host: this.#helperHost(node),
      features,
      mac: parseMac(plan.mac),
      queuePairs: plan.queues,
    });
    this.#teardown.push(async () => {
      device.unplug();
      await device.idle();
    });
    const transport = await this.context.openTransport(node);
    const link = await transport.open({
      label: node,
      queuePairs: plan.queues,
      queueSize: plan.queueSize,
      features,
      device: {
        control: (readable, writableLength) => device.handleControl(readable, writableLength),
        transmit: (_queue, frame) => {
          try {
            tap.receive(this.#accounting.resume(frame, this.#clock.now));
          } catch (error) {
            this.#failures.push(error);
            throw error;
          }
        },
        broken: (reason) => {
          state.broken = true;
          device.transportBroken(reason);
        },
      },
    });
    this.#teardown.push(() => link.close());
    const driverHook = this.#hook('guest-driver', node, plan.ifindex, guestParty);
    const nic = new GuestNic(
      node,
      plan.ifindex,
      link.driver,
      plan.queues,
      driverHook,
      this.#accounting,
      siblings,
      () => this.#clock.now,
    );
    const netdev = new OffloadNetdev({
      guest: guest.name,
      nic: plan.name,
      port: link.driver,
      party: guestParty,
      host: this.#helperHost(node),
      hook: {
        attach: (program) => driverHook.attach(program, plan.program ?? program.name),
        detach: () => driverHook.detach(),
      },
      ...(plan.hostile
        ? {
            verifyBeforeOffload: false,
            offloadableHelpers: EVERY_HELPER,
            offloadableMapTypes: 'any' as const,
          }
        : {}),
    });
    this.#teardown.push(async () => {
      if (!state.broken) await netdev.close();
    });
    if (plan.queues > 1) {
      const set = await netdev.setQueuePairs(plan.queues);
      if (!set.ok)
        throw new XdpbedError(
          'virtio-violation',
          `${node}: ${plan.queues} queue pairs were refused: ${set.message}`,
        );
    }
    nic.open();
    const reader = new TapReader(
      this.run.host.reader,
      tap,
      link.device,
      plan.queues,
      node,
      this.#accounting,
      () => state.broken,
    );
    return { guest: guest.name, nicName: plan.name, nic, netdev, link, reader };
  }

  /** Attaches a guest's program where the plan puts it. A refusal is a result of the run, not its end. */
  async #attachGuestProgram(link: GuestLink, plan: GuestNicPlan, name: string): Promise<void> {
    const { object, spec, initial } = await this.#readProgram(name);
    const mode = plan.placement === 'host' ? 'offload' : 'driver';
    const attached = await link.netdev.install(object, spec, mode, { initial });
    const record = { node: link.nic.node, program: name, placement: plan.placement };
    if (attached.ok) {
      this.#attachments.push({ ...record, attached: true });
      this.context.emit({ event: 'program-attached', run: this.run.id, ...record });
    } else {
      this.#attachments.push({ ...record, attached: false, reason: attached.message });
    }
  }

  async #readProgram(name: string): Promise<ProgramInput> {
    const plan = this.run.programs[name]!;
    const object = await this.context.readObject(plan.object);
    const selected = selectProgram(object, plan.section);
    if ('problem' in selected)
      throw new XdpbedError('object-invalid', `${plan.objectName}: ${selected.problem}`);
    return { object, spec: selected.program, initial: initialEntries(plan) };
  }

  #helperHost(node: string): HelperHost {
    return { trace: (text) => this.context.emit({ event: 'trace', run: this.run.id, node, text }) };
  }
}

function messages(errors: readonly unknown[]): string {
  return errors.map(messageOf).join('; ');
}

interface ProgramInput {
  readonly object: Awaited<ReturnType<FabricContext['readObject']>>;
  readonly spec: Extract<ReturnType<typeof selectProgram>, { program: unknown }>['program'];
  readonly initial: ReadonlyMap<string, readonly MapInitialEntry[]>;
}

const EVERY_HELPER: ReadonlySet<number> = new Set(HELPER_NAMES.keys());

function initialEntries(plan: ProgramPlan): Map<string, MapInitialEntry[]> {
  const bytes = (hex: string) => Uint8Array.from(Buffer.from(hex, 'hex'));
  return new Map(
    Object.entries(plan.presets).map(([map, presets]) => [
      map,
      presets.map(({ key, value }) => ({ key: bytes(key), value: bytes(value) })),
    ]),
  );
}
