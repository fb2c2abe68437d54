import { EventLoopTurns } from '../../src/core/clock/event-loop-turns.js';
import { VIRTUAL_CLOCK, type SteeredClock } from '../../src/core/contract/clock.js';
import type { Deployment, Fabric, HostPlace } from '../../src/core/contract/fabric.js';
import { inject, injectable, token } from '../../src/core/contract/injection.js';
import type { GuestNicPlan, GuestPlan, RunPlan, TapPlan } from '../../src/core/contract/plan.js';
import { RANDOM, RUN_SIGNAL, type Random } from '../../src/core/contract/run-scope.js';
import { OBJECTS, type Objects } from '../../src/core/contract/run-spec.js';
import { TRANSPORT, type Transport } from '../../src/core/contract/transport.js';
import { costModel, readCalibration, type CostModel } from '../../src/core/cost-model/index.js';
import { negotiatedFeatures } from '../../src/core/offload/nic-session.js';
import { UndoSteps } from '../../src/core/offload/undo-steps.js';
import { parseMac } from '../../src/packet/mac-address.js';
import { NetLink, receiveQueueIndex, transmitQueueIndex } from '../../src/virtio/index.js';
import { BurstScheduler } from './burst-scheduler.js';
import type { NicWorker } from './deployment-parts.js';
import { FrameAccounting, type Frame } from './frame-accounting.js';
import { GuestNic, NAPI_BUDGET } from './guest-nic.js';
import type { ModelConfig } from './model-config.js';
import { ModelCpus } from './model-cpus.js';
import { ModelDeployment } from './model-deployment.js';
import { ModelHost } from './model-host.js';
import { ModelNic } from './model-nic.js';
import { Tap } from './tap.js';
import { TapReader } from './tap-reader.js';
import { Timing } from './timing.js';
import type { VirtualCpu } from './virtual-cpu.js';
import { Worker, type Scheduler } from './worker.js';
import { XdpHook } from './xdp-hook.js';

export const MODEL_CONFIG = token<ModelConfig>('model-config');

/**
 * Fabric `model`: everything in this process. Control commands and frames cross real virtqueues, programs are
 * really verified and executed; only the hardware and the two kernels around them are modelled.
 */
@injectable()
export class ModelFabric implements Fabric {
  readonly name = 'model';

  constructor(
    @inject(MODEL_CONFIG) readonly config: ModelConfig,
    @inject(VIRTUAL_CLOCK) readonly clock: SteeredClock,
    @inject(TRANSPORT) readonly transport: Transport,
    @inject(RUN_SIGNAL) readonly signal: AbortSignal,
    @inject(RANDOM) readonly random: Random,
    @inject(OBJECTS) readonly objects: Objects,
  ) {}

  async deploy(plan: RunPlan): Promise<Deployment> {
    const building = new DeploymentBuilder(plan, this, this.#costs());
    try {
      return await building.build();
    } catch (error) {
      throw await building.undo.runAfter(error);
    }
  }

  #costs(): CostModel | undefined {
    const { calibration, costs } = this.config;
    if (calibration === undefined) return undefined;
    return costModel(readCalibration(calibration, this.objects.get(calibration)), costs);
  }
}

/** Builds one deployment, and takes down what it has built when it cannot go on. */
class DeploymentBuilder {
  readonly #accounting = new FrameAccounting();
  readonly #timing: Timing;
  readonly #cpus: ModelCpus;
  readonly #bursts: BurstScheduler;
  /** Whoever brings turns about at the moment. */
  readonly #turns: { scheduler: Scheduler };
  readonly #workers: NicWorker[] = [];
  readonly #hostPlaces: HostPlace[] = [];
  readonly #nics: ModelNic[] = [];
  /** Run by whoever cannot go on, and by the deployment's `down`. */
  readonly undo = new UndoSteps();

  constructor(
    readonly plan: RunPlan,
    readonly fabric: ModelFabric,
    readonly costs: CostModel | undefined,
  ) {
    this.#timing = new Timing(fabric.clock);
    this.#cpus = new ModelCpus(fabric.config);
    this.#bursts = new BurstScheduler(fabric.clock);
    this.#turns = { scheduler: this.#bursts };
  }

  async build(): Promise<Deployment> {
    const { host: plan, guests } = this.plan;
    const host = new ModelHost(plan, this.#accounting, this.#timing);
    for (const nic of plan.nics) {
      const hook = this.#hook(`host.${nic.name}`, nic.ifindex);
      this.#hostPlaces.push({ site: 'host-nic', interface: nic.name, place: hook });
      host.addNic(nic.name, nic.ifindex, hook);
    }
    for (const tap of plan.taps) this.#addTap(host, tap);
    host.wireBridges();
    for (const guest of guests) await this.#addGuest(host, guest);
    const { clock, signal, config, random } = this.fabric;
    return new ModelDeployment({
      plan: this.plan,
      config,
      host,
      hostPlaces: this.#hostPlaces,
      nics: this.#nics,
      accounting: this.#accounting,
      timing: this.#timing,
      cpus: this.#cpus,
      workers: this.#workers,
      bursts: this.#bursts,
      schedule: this.#turns,
      costs: this.costs,
      clock,
      random: random('model'),
      turns: new EventLoopTurns(signal),
      teardown: () => this.undo.run(),
    });
  }

  #hook(node: string, ifindex: number): XdpHook {
    const hook = new XdpHook(node, ifindex, this.#timing);
    this.undo.keep(hook);
    return hook;
  }

  #addTap(host: ModelHost, { name, ifindex, ring }: TapPlan): void {
    const nic = this.#nicBehind(name);
    const rx = this.#hook(`host.${name}`, ifindex);
    this.#hostPlaces.push({ site: 'tap-rx', interface: name, place: rx });
    const offload = this.#hook(nic?.node ?? `host.${name}`, nic?.plan.ifindex ?? 0);
    const options = { queues: nic?.plan.queues ?? 1, ring, hook: this.plan.host.hook };
    host.addTap(new Tap(name, ifindex, options, offload, rx, this.#accounting, this.#timing, host));
  }

  #nicBehind(tap: string): { node: string; plan: GuestNicPlan } | undefined {
    for (const guest of this.plan.guests) {
      const plan = guest.nics.find((nic) => nic.tap === tap);
      if (plan !== undefined) return { node: `${guest.name}.${plan.name}`, plan };
    }
    return undefined;
  }

  async #addGuest(host: ModelHost, guest: GuestPlan): Promise<void> {
    const siblings = new Map<number, GuestNic>();
    const cpus = Array.from({ length: guest.cpus }, (_, cpu) =>
      this.#cpus.forGuest(`${guest.name} cpu${cpu}`),
    );
    for (const plan of guest.nics) {
      const nic = await this.#addNic(host, guest.name, plan, siblings, cpus);
      siblings.set(plan.ifindex, nic.guestNic);
      this.#nics.push(nic);
      host.announce(parseMac(plan.mac), plan.tap);
    }
  }

  async #addNic(
    host: ModelHost,
    guest: string,
    plan: GuestNicPlan,
    siblings: ReadonlyMap<number, GuestNic>,
    cpus: readonly VirtualCpu[],
  ): Promise<ModelNic> {
    const { transport } = this.fabric;
    const label = `${guest}.${plan.name}`;
    const features = negotiatedFeatures(plan);
    const link = new NetLink<Frame>({
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
    link.onLost((frames) => this.#accounting.lost(label, 'link-broken', frames));

    const tap = host.tap(plan.tap);
    const hook = this.#hook(label, plan.ifindex);
    const accounting = this.#accounting;
    const timing = this.#timing;
    const driver = new GuestNic({
      node: label,
      ifindex: plan.ifindex,
      port: link.driver,
      queues: plan.queues,
      hook,
      accounting,
      timing,
      siblings,
    });
    const readers: Worker[] = [];
    for (let queue = 0; queue < plan.queues; queue++) {
      readers.push(this.#addReader(host, tap, link, label, queue));
      const napi = this.#addNapi(driver, label, queue, cpus[queue % cpus.length]!);
      link.onKick(transmitQueueIndex(queue), () => {
        timing.charge(timing.costs.kick);
        this.#turns.scheduler.wake(readers[queue]!);
      });
      link.onInterrupt(receiveQueueIndex(queue), () => {
        timing.charge(timing.costs['guest-interrupt']);
        this.#turns.scheduler.wake(napi);
      });
    }
    tap.onFrame = (queue) => this.#turns.scheduler.wake(readers[queue]!);
    return new ModelNic(guest, plan.name, link, channel, await channel.connect(), tap.offload, driver, cpus);
  }

  #addReader(host: ModelHost, tap: Tap, link: NetLink<Frame>, label: string, queue: number): Worker {
    const timing = this.#timing;
    const reader = new TapReader({
      plan: this.plan.host.reader,
      tap,
      port: link.device,
      queue,
      node: label,
      accounting: this.#accounting,
      timing,
      isBroken: () => link.status.isDown,
      flush: () => host.flush(),
    });
    const owner = `${label}${queue === 0 ? '' : `.${queue}`}`;
    const worker = new Worker({
      cpu: this.#cpus.forVhost(owner),
      batch: reader.batch,
      polls: reader.polls,
      work: (most) => (timing.isTimed ? reader.step() : reader.turn(most)),
      costs: () => ({
        wake: timing.costs['vhost-wakeup'],
        latency: timing.costs['vhost-latency'],
        jitter: timing.costs['vhost-jitter'],
        enter: timing.costs['vhost-enter'],
        leave: reader.leaving,
        pollTimeout: timing.costs['vhost-poll-timeout'],
      }),
    });
    this.#workers.push({ name: `${owner} vhost`, node: label, isGuest: false, worker });
    return worker;
  }

  #addNapi(driver: GuestNic, label: string, queue: number, cpu: VirtualCpu): Worker {
    const timing = this.#timing;
    const worker = new Worker({
      cpu,
      batch: NAPI_BUDGET,
      work: (most) => driver.poll(queue, most),
      costs: () => ({
        wake: 0,
        latency: timing.costs['guest-latency'],
        jitter: 0,
        enter: timing.costs['guest-irq'],
        leave: 0,
        pollTimeout: 0,
      }),
    });
    this.#workers.push({
      name: `${label}${queue === 0 ? '' : `.${queue}`} napi`,
      node: label,
      isGuest: true,
      worker,
    });
    return worker;
  }
}
