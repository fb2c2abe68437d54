import { inject, injectable } from '../../src/core/contract/injection.js';
import { VIRTUAL_CLOCK, type SteeredClock } from '../../src/core/contract/clock.js';
import type { Deployment, Fabric, HostPlace } from '../../src/core/contract/fabric.js';
import type { GuestNicPlan, GuestPlan, RunPlan, TapPlan } from '../../src/core/contract/plan.js';
import { RUN_SIGNAL } from '../../src/core/contract/run-scope.js';
import { TRANSPORT, type Transport } from '../../src/core/contract/transport.js';
import { negotiatedFeatures } from '../../src/core/offload/nic-session.js';
import { EventLoopTurns } from '../../src/core/clock/event-loop-turns.js';
import { UndoSteps } from '../../src/core/offload/undo-steps.js';
import { parseMac } from '../../src/packet/mac-address.js';
import { NetLink, receiveQueueIndex, transmitQueueIndex } from '../../src/virtio/index.js';
import { FrameAccounting, type FrameIdentity } from './frame-accounting.js';
import { GuestNic } from './guest-nic.js';
import { ModelDeployment } from './model-deployment.js';
import { ModelHost } from './model-host.js';
import { ModelNic } from './model-nic.js';
import { Tap } from './tap.js';
import { TapReader } from './tap-reader.js';
import { Softirq, Worker } from './worker.js';
import { XdpHook } from './xdp-hook.js';

/**
 * Fabric `model`: everything in this process. Control commands and frames cross real virtqueues, programs are
 * really verified and executed; only the hardware and the two kernels around them are modelled.
 */
@injectable()
export class ModelFabric implements Fabric {
  readonly name = 'model';

  constructor(
    @inject(VIRTUAL_CLOCK) readonly clock: SteeredClock,
    @inject(TRANSPORT) readonly transport: Transport,
    @inject(RUN_SIGNAL) readonly signal: AbortSignal,
  ) {}

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
  readonly #accounting = new FrameAccounting();
  readonly #softirq = new Softirq();
  readonly #hostPlaces: HostPlace[] = [];
  readonly #nics: ModelNic[] = [];
  /** Run by whoever cannot go on, and by the deployment's `down`. */
  readonly undo = new UndoSteps();

  constructor(
    readonly plan: RunPlan,
    readonly fabric: ModelFabric,
  ) {}

  async build(): Promise<Deployment> {
    const { host: plan, guests } = this.plan;
    const host = new ModelHost(plan, this.#accounting);
    for (const nic of plan.nics) {
      const hook = this.#hook(`host.${nic.name}`, nic.ifindex);
      this.#hostPlaces.push({ site: 'host-nic', interface: nic.name, place: hook });
      host.addNic(nic.name, nic.ifindex, hook);
    }
    for (const tap of plan.taps) this.#addTap(host, tap);
    host.wireBridges();
    for (const guest of guests) await this.#addGuest(host, guest);
    return new ModelDeployment({
      nic: plan.nics[0]!.name,
      host,
      hostPlaces: this.#hostPlaces,
      nics: this.#nics,
      accounting: this.#accounting,
      softirq: this.#softirq,
      clock: this.fabric.clock,
      turns: new EventLoopTurns(this.fabric.signal),
      teardown: () => this.undo.run(),
    });
  }

  #hook(node: string, ifindex: number): XdpHook {
    const hook = new XdpHook(node, ifindex);
    this.undo.keep(hook);
    return hook;
  }

  #addTap(host: ModelHost, { name, ifindex, ring }: TapPlan): void {
    const nic = this.#nicBehind(name);
    const rx = this.#hook(`host.${name}`, ifindex);
    this.#hostPlaces.push({ site: 'tap-rx', interface: name, place: rx });
    const offload = this.#hook(nic?.node ?? `host.${name}`, nic?.plan.ifindex ?? 0);
    const options = { queues: nic?.plan.queues ?? 1, ring, hook: this.plan.host.hook };
    host.addTap(new Tap(name, ifindex, options, offload, rx, this.#accounting, host));
  }

  #nicBehind(tap: string): { node: string; plan: GuestNicPlan } | undefined {
    for (const guest of this.plan.guests) {
      const plan = guest.nics.find((nic) => nic.tap === tap);
      if (plan !== undefined) return { node: `${guest.name}.${plan.name}`, plan };
    }
    return undefined;
  }

  async #addGuest(host: ModelHost, guest: GuestPlan): Promise<void> {
    const nics = new Map<number, GuestNic>();
    for (const plan of guest.nics) {
      const nic = await this.#addNic(host, guest.name, plan, nics);
      nics.set(plan.ifindex, nic.guestNic);
      this.#nics.push(nic);
      host.announce(parseMac(plan.mac), plan.tap);
    }
  }

  async #addNic(
    host: ModelHost,
    guest: string,
    plan: GuestNicPlan,
    siblings: ReadonlyMap<number, GuestNic>,
  ): Promise<ModelNic> {
    const { clock, transport } = this.fabric;
    const label = `${guest}.${plan.name}`;
    const now = (): number => clock.now();
    const features = negotiatedFeatures(plan);
    const link = new NetLink<FrameIdentity>({
      label,
      queuePairs: plan.queues,
      queueSize: plan.queueSize,
      features,
    });
    this.undo.keep(link);
    const channel = await transport.open({ label, features });
    this.undo.keep(channel);
    // A nic is broken as a whole, whichever of its queues a rule was broken on (DEVICE_NEEDS_RESET).
    link.status.onBroken((reason) => channel.break(reason));
    channel.onBroken((reason) => link.status.break(reason));
    link.onLost((frames) => {
      for (let frame = 0; frame < frames; frame++) this.#accounting.end(label, 'link-broken');
    });

    const tap = host.tap(plan.tap);
    const hook = this.#hook(label, plan.ifindex);
    const { driver: port, device, status } = link;
    const driver = new GuestNic(
      label,
      plan.ifindex,
      port,
      plan.queues,
      hook,
      this.#accounting,
      siblings,
      now,
    );
    const { reader: readerPlan } = this.plan.host;
    const isBroken = (): boolean => status.isDown;
    const reader = new TapReader(
      readerPlan,
      tap,
      device,
      plan.queues,
      label,
      this.#accounting,
      isBroken,
      now,
    );

    const readerWork = new Worker(clock, this.#softirq, () => reader.turn(), reader.polls);
    const guestNapi = new Worker(clock, this.#softirq, () => driver.poll());
    tap.onFrame = () => readerWork.wake();
    for (let pair = 0; pair < plan.queues; pair++) {
      link.onKick(transmitQueueIndex(pair), () => readerWork.wake());
      link.onInterrupt(receiveQueueIndex(pair), () => guestNapi.wake());
    }
    return new ModelNic(guest, plan.name, link, channel, await channel.connect(), tap.offload, driver);
  }
}
