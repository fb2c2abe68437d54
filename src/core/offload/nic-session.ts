import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import {
  FEATURE_BITS,
  featureNames,
  featureSet,
  hasFeature,
  negotiateFeatures,
  VIRTIO_NET_F_BPF_OFFLOAD,
  VIRTIO_NET_F_XDP_OFFLOAD,
} from '../../virtio/features.js';
import { encodeNetConfig, VIRTIO_NET_S_LINK_UP, type NetConfig } from '../../virtio/net-config.js';
import { parseMac } from '../../packet/index.js';
import type { Clock } from '../contract/clock.js';
import type {
  Device,
  DeviceEvents,
  DeviceInspection,
  DeviceMove,
  MoveRefusal,
  NicDevice,
  NicDeviceOptions,
} from '../contract/device.js';
import type { LinkStatistics, LocalDriver, NicPlaces } from '../contract/fabric.js';
import type {
  ControlCounts,
  GuestDriver,
  GuestMapContent,
  GuestView,
  InstallRequest,
} from '../contract/guest-driver.js';
import type { Party } from '../contract/party.js';
import type { GuestNicPlan, ProgramPlan } from '../contract/plan.js';
import type { ChainedPolicy } from '../contract/policy.js';
import {
  emptyVerdictCounts,
  type AttachmentResult,
  type HookResult,
  type OffloadResult,
  type RequestsResult,
  type VerdictCounts,
} from '../contract/result.js';
import { messageOf, XdpbedError } from '../diagnostic.js';
import type { Closer, ControlServer } from '../contract/transport.js';
import { CountedPlace } from './counted-place.js';
import type { CommandTurns } from './command-turns.js';
import { LocalGuestDriver } from './local-guest-driver.js';
import type { ControlProtocol } from './protocol/control-protocol.js';
import { protocolOf } from './protocol/protocol-of.js';
import type { QuotaAccounts } from './quota-accounts.js';
import {
  capabilityNames,
  capabilityWord,
  formatCapabilities,
  type TapCapability,
} from './tap-capabilities.js';

export interface NicSessionOptions {
  /** Name of the guest. */
  readonly guest: string;
  readonly plan: GuestNicPlan;
  readonly places: NicPlaces;
  /** What answers the guest. */
  readonly device: Device;
  /** The host on behalf of this nic: no other shares its memory. */
  readonly hostParty: Party;
  /** The guest's own kernel, asked for when the guest is in this process. */
  readonly guestParty: () => Promise<Party>;
  /** What programs of this nic see of the world, in the guest and offloaded. */
  readonly world: HelperWorld;
  readonly policies: readonly ChainedPolicy[];
  readonly accounts: QuotaAccounts;
  readonly clock: Clock;
  /** Whose command the device carries out next, where commands take time. */
  readonly commandTurns: CommandTurns;
  /** The guest is an attacker: its kernel looks at nothing that it sends. */
  readonly attacks?: boolean | undefined;
  readonly events: DeviceEvents;
  /** Called for each key of a map that is read; what it returns is awaited. */
  readonly giveWay?: (() => Promise<void> | undefined) | undefined;
}

/** What was seen at one guest nic. */
export interface NicOutcome {
  readonly guest: string;
  readonly nic: string;
  /** The guest's program, and whether it was attached; undefined when the nic has none. */
  readonly attachment: AttachmentResult | undefined;
  /** By where it ran; undefined where no program ever was. */
  readonly verdicts: {
    readonly offload: VerdictCounts | undefined;
    readonly driver: VerdictCounts | undefined;
  };
  readonly maps: readonly GuestMapContent[];
  /** Undefined when the plan asks for none. */
  readonly requests: RequestsResult | undefined;
  /** What the plan has the guest show. */
  readonly views: readonly GuestView[];
  readonly control: ControlCounts;
  readonly link: LinkStatistics;
}

/** A program where packets meet it, or where they would if it had been taken. */
export interface ProgramInPlace {
  readonly site: HookResult['site'];
  /** The interface, e.g. `guest0.eth0` or `host.tap0`. */
  readonly node: string;
  readonly program: string;
  readonly attached: boolean;
  /** Why it is not attached. */
  readonly reason?: string | undefined;
  readonly verdicts: VerdictCounts;
}

/** The feature bits that driver and device agree on: a driver of ours takes all it knows and that go together. */
export function negotiatedFeatures({ features }: GuestNicPlan): bigint {
  return negotiateFeatures(features, featureSet(...Object.values(FEATURE_BITS)));
}

/** Frames of Ethernet, as long as they are by default: no testbed says otherwise to a guest. */
const MTU = 1500;

function netConfig({ mac, queues }: GuestNicPlan): NetConfig {
  return { mac: parseMac(mac), status: VIRTIO_NET_S_LINK_UP, maxVirtqueuePairs: queues, mtu: MTU };
}

/** Only a device that says it is unguarded is shown the guest's memory. */
function serve(
  control: ControlServer,
  { name, unguarded }: Device,
  device: NicDevice,
  node: string,
  turns: CommandTurns,
): Promise<Closer> {
  if (unguarded !== true) {
    return control.serve(
      (request, room) =>
        turns.isTimed
          ? turns.take(node, request.length + room, () => device.handle(request, room))
          : device.handle(request, room),
      // As a device reset: commands that come wait for it.
      () => void device.reset(),
    );
  }
  if (control.serveUnguarded === undefined) {
    throw new XdpbedError(
      'host-unsupported',
      `device ${name} reads commands out of the guest's memory, which this transport does not lend`,
      { hint: 'transport virtqueue on fabric model does' },
    );
  }
  return control.serveUnguarded((request, room, chain) =>
    turns.isTimed
      ? turns.take(node, request.length + room, () => device.handle(request, room, chain))
      : device.handle(request, room, chain),
  );
}

/**
 * One guest nic for the time of a run: the device that answers the guest, the guest's driver, the program between
 * them, and what is to be told of it afterwards. The same on every fabric; a fabric only lends the places.
 */
export class NicSession {
  readonly #options: NicSessionOptions;
  readonly #device: NicDevice;
  readonly #offload: CountedPlace;
  readonly #driver: GuestDriver;
  readonly #stopServing: Closer;
  /** Where the guest is: another host once it has moved. */
  #host: Pick<NicDeviceOptions, 'party' | 'policies'>;
  #broken = false;
  #attachment: AttachmentResult | undefined;
  #requests: RequestsResult | undefined;

  private constructor(
    options: NicSessionOptions,
    device: NicDevice,
    offload: CountedPlace,
    driver: GuestDriver,
    stopServing: Closer,
  ) {
    this.#options = options;
    this.#host = { party: options.hostParty, policies: options.policies };
    this.#device = device;
    this.#offload = offload;
    this.#driver = driver;
    this.#stopServing = stopServing;
    options.places.onBroken((reason) => {
      this.#broken = true;
      device.transportBroken(reason);
    });
  }

  /** Has the device answer, and brings the guest's driver up. */
  static async open(options: NicSessionOptions): Promise<NicSession> {
    const { guest, plan, places, world } = options;
    const offload = new CountedPlace(places.offload);
    const device = await options.device.open({
      guest,
      nic: plan.name,
      party: options.hostParty,
      policies: options.policies,
      accounts: options.accounts,
      place: offload,
      clock: options.clock,
      world,
      events: options.events,
      features: negotiatedFeatures(plan),
      queuePairs: plan.queues,
    });
    places.control.configure?.(encodeNetConfig(netConfig(plan), device.configuration));
    const { driver } = places;
    // Before the device is served: a guest that there cannot be must not leave it behind.
    const guestParty = driver.kind === 'remote' ? undefined : await options.guestParty();
    const stopServing = await serve(
      places.control,
      options.device,
      device,
      `${guest}.${plan.name}`,
      options.commandTurns,
    );
    if (driver.kind === 'remote') return new NicSession(options, device, offload, driver, stopServing);
    const local = new LocalGuestDriver({
      guest,
      nic: plan.name,
      driver,
      party: guestParty!,
      world,
      hostile: plan.hostile || options.attacks === true,
      driverHelpers: plan.driverHelpers,
      features: negotiatedFeatures(plan),
      giveWay: options.giveWay,
    });
    const session = new NicSession(options, device, offload, local, stopServing);
    try {
      if (plan.queues > 1) await local.setQueuePairs(plan.queues);
      await driver.up();
    } catch (error) {
      // What went wrong first comes first; what then could not be closed must not hide it.
      const failures = await session.close().then(
        () => [],
        (failure: AggregateError) => failure.errors as unknown[],
      );
      if (failures.length > 0) throw new AggregateError([error, ...failures], messageOf(error));
      throw error;
    }
    return session;
  }

  /** See `NicDevice.prepareMove`. */
  async prepareMove(
    to: Pick<NicDeviceOptions, 'party' | 'policies' | 'accounts'>,
  ): Promise<DeviceMove | MoveRefusal> {
    const { device } = this.#options;
    if (this.#device.prepareMove === undefined)
      return { ok: false, reason: `device ${device.name} cannot be moved` };
    const move = await this.#device.prepareMove(to);
    if ('ok' in move) return move;
    return {
      copy: () => move.copy(),
      commit: () => move.commit(),
      finish: async () => {
        const report = await move.finish();
        if (!('ok' in report)) this.#host = to;
        return report;
      },
      abort: () => move.abort(),
    };
  }

  get guest(): string {
    return this.#options.guest;
  }

  /** Name of the nic in its guest. */
  get nic(): string {
    return this.#options.plan.name;
  }

  /** What its driver and its device speak. */
  get protocol(): ControlProtocol {
    return protocolOf(negotiatedFeatures(this.#options.plan));
  }

  get queuePairs(): number {
    return this.#options.plan.queues;
  }

  get deviceName(): string {
    return this.#options.device.name;
  }

  /** The driver's ends. Throws `host-unsupported` for a guest that is not in this process. */
  get localDriver(): LocalDriver {
    const { driver } = this.#options.places;
    if (driver.kind === 'local') return driver;
    throw new XdpbedError('host-unsupported', `${this.node}: this guest's queues are not in this process`);
  }

  /** A program of the guest's is in front of it. */
  get isOffloaded(): boolean {
    return this.#offload.isOccupied;
  }

  /** What offloaded programs have returned so far; undefined when there never was one. */
  offloadCounters(): Promise<VerdictCounts | undefined> {
    return this.#offload.counters();
  }

  /** Bytes of the host's party that are taken, as its map backend has it; undefined where that does not say. */
  get hostMemoryUsed(): number | undefined {
    return this.#host.party.mapBackend.memory?.().used;
  }

  /** What the host finds when it looks at the device. */
  inspect(): DeviceInspection {
    return this.#device.inspect();
  }

  /** Device reset by the guest: its queues are new, and nothing of it is on the host any more. */
  async reset(): Promise<void> {
    const { localDriver } = this;
    if (localDriver.reset === undefined) {
      throw new XdpbedError('host-unsupported', `${this.node}: this fabric's devices cannot be reset`);
    }
    const reset = this.#device.reset();
    await localDriver.reset();
    await reset;
    await this.#device.idle();
    this.#broken = false;
  }

  /** Has the guest's kernel send a program to the device. Undefined when it was taken, else why not. */
  async offload(file: string, name: string, object: Uint8Array): Promise<string | undefined> {
    const program: ProgramPlan = { name, object: file, function: name, presets: {} };
    const answer = await this.#driver.install({ program, object, placement: 'host' });
    return answer.attached ? undefined : answer.reason;
  }

  get node(): string {
    return `${this.#options.guest}.${this.#options.plan.name}`;
  }

  /** What the host holds at the nic's tap for the guest, and what it can do for it. */
  async offloadState(): Promise<OffloadResult> {
    const { guest, plan } = this.#options;
    const { program, maps } = this.#device.held ?? { program: undefined, maps: [] };
    const features = negotiatedFeatures(plan);
    const word = capabilityWord(this.#capabilities(features));
    const name = plan.requests?.kind === 'load' ? plan.requests.name : plan.program;
    const verdicts = (await this.#offload.counters()) ?? emptyVerdictCounts();
    return {
      tap: plan.tap,
      guest,
      nic: plan.name,
      features: featureNames(features),
      capabilities: { word: formatCapabilities(word), names: capabilityNames(word) },
      ...(program === undefined
        ? {}
        : { program: { ...(name === undefined ? {} : { name }), ...program, verdicts } }),
      maps: [...maps],
      mapMemory: maps.reduce((sum, { memory }) => sum + memory, 0),
    };
  }

  #capabilities(features: bigint): TapCapability[] {
    const { plan } = this.#options;
    const has: Partial<Record<TapCapability, boolean>> = {
      XDP_OFFLOAD: true,
      MULTI_QUEUE: plan.queues > 1,
      POLICED: this.#host.policies.length > 0,
      INSNS_COUNTED: this.#offload.countsWork,
      RFC_2019: hasFeature(features, VIRTIO_NET_F_XDP_OFFLOAD),
      BPF_OFFLOAD: hasFeature(features, VIRTIO_NET_F_BPF_OFFLOAD),
    };
    return (Object.keys(has) as TapCapability[]).filter((name) => has[name]);
  }

  /** Has the guest attach its program where the plan puts it. A refusal is a result of the run, not its end. */
  async install(program: ProgramPlan, object: Uint8Array): Promise<AttachmentResult> {
    const { placement } = this.#options.plan;
    const answer = await this.#driver.install({ program, object, placement });
    this.#attachment = { node: this.node, program: program.name, placement, ...answer };
    return this.#attachment;
  }

  /** The guest's program where the plan puts it; undefined when the nic has none. */
  async program(): Promise<ProgramInPlace | undefined> {
    if (this.#attachment === undefined) return undefined;
    const { node, program, placement, attached, reason } = this.#attachment;
    const counted = placement === 'host' ? this.#offload : this.#driver;
    const verdicts = (await counted.counters()) ?? emptyVerdictCounts();
    const site = placement === 'host' ? 'offload' : 'guest-driver';
    return { site, node, program, attached, reason, verdicts };
  }

  /** Has the guest keep asking for what the plan says; nothing when it says nothing. */
  async sendRequests(load: InstallRequest | undefined, signal: AbortSignal): Promise<void> {
    const plan = this.#options.plan.requests;
    if (plan === undefined) return;
    if (this.#driver.sendRequests === undefined) {
      throw new XdpbedError('host-unsupported', `${this.node}: this guest cannot be told to send requests`);
    }
    const { kind, name, perSecond, warmUp, seconds } = plan;
    const ask = kind === 'load' ? { kind, install: load! } : { kind, map: name };
    const report = await this.#driver.sendRequests({ ask, perSecond, warmUp, seconds, signal });
    const { sent, refused, refusal, latency } = report;
    this.#requests = {
      node: this.node,
      request: kind,
      name,
      sent,
      refused,
      ...(refusal === undefined ? {} : { refusal }),
      ...(latency === undefined ? {} : { latency }),
    };
  }

  /** Read when the traffic is over. */
  async outcome(): Promise<NicOutcome> {
    // Maps are read over the control channel too, so they come before its counters.
    const maps = await this.#driver.readMaps();
    const views: GuestView[] = [];
    for (const view of this.#options.plan.show ?? []) {
      const shown = await this.#driver.show?.(view);
      if (shown !== undefined) views.push(shown);
    }
    return {
      guest: this.#options.guest,
      nic: this.#options.plan.name,
      attachment: this.#attachment,
      verdicts: { offload: await this.#offload.counters(), driver: await this.#driver.counters() },
      maps,
      views,
      requests: this.#requests,
      control: await this.#driver.control(),
      link: await this.#options.places.statistics(),
    };
  }

  /** Takes the guest's programs away, then unplugs the device. What fails does not keep the rest up. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    const step = async (work: () => Promise<unknown>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        failures.push(error);
      }
    };
    // A broken link answers no command; unplugging takes all away that the guest has on the host.
    if (!this.#broken) await step(() => this.#driver.close());
    await step(() => this.#device.unplug());
    await step(() => this.#device.idle());
    await step(() => this.#stopServing());
    if (failures.length > 0) throw new AggregateError(failures, `${this.node} did not close`);
  }
}
