import { Type, type TSchema } from '@sinclair/typebox';
import { MAX_ADDRESS_SPACE } from '../../bpf/runtime/address-space.js';
import { parseIpv4Address, parseMac } from '../../packet/index.js';
import { EventLoopTurns } from '../clock/event-loop-turns.js';
import { MachineClock } from '../clock/machine-clock.js';
import { VirtualClock } from '../clock/virtual-clock.js';
import { CLOCK, VIRTUAL_CLOCK, type Clock } from '../contract/clock.js';
import { ATTACK, type Attack } from '../contract/attack.js';
import { DEVICE } from '../contract/device.js';
import { EVENTS, type TimedEvent } from '../contract/event.js';
import { FABRIC, type Deployment, type Measurements, type Presence } from '../contract/fabric.js';
import type { Token } from '../contract/injection.js';
import { PARTY_FACTORY, type PartyFactory } from '../contract/party.js';
import type { RunPlan } from '../contract/plan.js';
import { POLICY, POLICY_CHAIN, type ChainedPolicy } from '../contract/policy.js';
import {
  ExchangeResult,
  RateResult,
  RunResult,
  type OffloadResult,
  type RunFailure,
} from '../contract/result.js';
import { RANDOM, RUN_SIGNAL, type Random } from '../contract/run-scope.js';
import {
  OBJECTS,
  type Objects,
  type PartyPlugins,
  type PluginReference,
  type PolicyReference,
  type RunSpec,
  type Sha256,
} from '../contract/run-spec.js';
import { TRANSPORT } from '../contract/transport.js';
import {
  SENDER_MAC,
  WORKLOAD,
  type Workload,
  type WorkloadContext,
  type WorkloadFrame,
} from '../contract/workload.js';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { LifecycleManager, PHASE_TIMEOUT_MS, withTimeLimit } from '../plugin/lifecycle.js';
import { pluginFailure } from '../plugin/plugin-failure.js';
import { Scope } from '../plugin/scope.js';
import { choosePlugin, type PluginChoice, type PluginSource } from '../testbed/choose-plugin.js';
import { SchemaValidator } from '../testbed/schema-validator.js';
import { chained } from '../offload/policy-chain.js';
import type { ProgramInPlace } from '../offload/nic-session.js';
import { GuestVerification } from '../verification/guest-verification.js';
import type { JudgeRecipe } from '../verification/judge-messages.js';
import { assembleResult } from './assemble-result.js';
import { EventStream } from './event-stream.js';
import { Offloading, type Migration } from './offloading.js';
import { pluginName, PluginInstances, requireMethods, type PartyChoices } from './plugin-instances.js';
import { randomStream } from './random.js';
import { loadObjects } from './run-objects.js';
import { countedFrames, type RunProgress } from './run-progress.js';

/** Milliseconds that deploying or attaching gets to end, once interrupted, before the run ends without it. */
const INTERRUPTION_GRACE_MS = 5_000;

/** What a spec does not bring along: where it is run. */
export interface RunEnvironment {
  readonly registry: PluginSource;
  /** Where relative names of plugins start from. */
  readonly folder: string;
  /** The bytes of a file by their hash. */
  readonly object: (hash: Sha256) => Uint8Array | Promise<Uint8Array>;
  readonly signal?: AbortSignal | undefined;
  readonly emit?: ((event: TimedEvent) => void) | undefined;
  /** Told when a phase begins, and ten times a second in the midst of traffic. */
  readonly onProgress?: ((progress: RunProgress) => void) | undefined;
  /** Milliseconds a plugin may take to start or stop. */
  readonly phaseTimeoutMs?: number | undefined;
}

/** How a run ended. */
export interface RunEnd {
  /** Absent when the run failed. */
  readonly result?: RunResult | undefined;
  /** What ended the run before it had a result, first, then what failed while it was taken down. */
  readonly failures: readonly { readonly stage: RunFailure['stage']; readonly error: unknown }[];
}

/**
 * Carries out one run: brings it up, drives its traffic, reads what came of it, and takes everything down again,
 * however it ended. Needs nothing but the spec and the bytes it names, so it does not matter in which process it
 * is called. What went wrong is part of what it gives: this never throws.
 */
export async function carryOutRun(spec: RunSpec, environment: RunEnvironment): Promise<RunEnd> {
  return new RunExecution(spec, environment).execute((up) => up.drive());
}

/**
 * As `carryOutRun`, for who wants the result or nothing. Throws the error that ended the run, or an AggregateError
 * with that first when taking it down failed too.
 */
export async function executeRun(spec: RunSpec, environment: RunEnvironment): Promise<RunResult> {
  const end = await carryOutRun(spec, environment);
  if (end.failures.length > 0) throw failureOf(end);
  return end.result!;
}

/** A run that is up, with everything attached. */
export interface HeldRun {
  readonly presence: Presence;
  /** Every program that was to be attached, and what it has returned so far. */
  programs(): Promise<ProgramInPlace[]>;
  /** What the host holds now at each tap for its guest. */
  offloads(): Promise<OffloadResult[]>;
}

/**
 * Brings one run up, without any traffic of its own, says so, and holds it until the environment's signal fires: that
 * is how it is meant to end once it is up, and a failure before. Then takes everything down. What went wrong is part of
 * what it gives, which has no result: this never throws.
 */
export async function holdRun(
  spec: RunSpec,
  environment: RunEnvironment,
  onUp: (run: HeldRun) => void | Promise<void>,
): Promise<RunEnd> {
  return new RunExecution(spec, environment).execute((up) => up.hold(onUp));
}

/** All that went wrong with a run as one error. */
export function failureOf({ failures }: RunEnd): unknown {
  const errors = failures.map(({ error }) => error);
  return errors.length === 1 ? errors[0] : new AggregateError(errors, errors.map(messageOf).join('; '));
}

/** What can be done with a run that is up. */
interface RunUp {
  drive(): Promise<RunResult>;
  hold(onUp: (run: HeldRun) => void | Promise<void>): Promise<undefined>;
}

/** One run under way. Used once. */
class RunExecution {
  readonly #spec: RunSpec;
  readonly #environment: RunEnvironment;
  readonly #signal: AbortSignal;
  readonly #phaseTimeoutMs: number;
  readonly #scope: Scope;
  readonly #instances: PluginInstances;
  /** What went wrong while something was taken down. */
  readonly #cleanUpFailures: unknown[] = [];

  constructor(spec: RunSpec, environment: RunEnvironment) {
    this.#spec = spec;
    this.#environment = environment;
    this.#signal = environment.signal ?? new AbortController().signal;
    this.#phaseTimeoutMs = environment.phaseTimeoutMs ?? PHASE_TIMEOUT_MS;
    this.#scope = new Scope(`run ${spec.plan.id}`);
    this.#instances = new PluginInstances(
      this.#scope,
      new LifecycleManager(this.#phaseTimeoutMs, this.#signal),
      (use) => this.#choose({ role: 'executor', use, config: {} }),
    );
  }

  /** @param work what is done with the run while it is up. */
  async execute(work: (up: RunUp) => Promise<RunResult | undefined>): Promise<RunEnd> {
    const failures: { stage: RunFailure['stage']; error: unknown }[] = [];
    let result: RunResult | undefined;
    let run: { readonly name: string; readonly deploying: Promise<Deployment> } | undefined;
    let offloading: Offloading | undefined;
    let attaching: Promise<void> | undefined;
    try {
      const { plan } = this.#spec;
      const fabricChoice = await this.#choose(this.#spec.plugins.fabric);
      const name = pluginName(fabricChoice);
      const bindings = await this.#bind(fabricChoice);
      const workloadChoice = await this.#choose(this.#spec.plugins.workload);
      const workload = await this.#instances.instantiate(workloadChoice, WORKLOAD);
      const fabric = await this.#instances.instantiate(fabricChoice, FABRIC);

      this.#progress({ phase: 'bring-up' });
      const deploying = this.#deploy(name, fabric.deploy.bind(fabric));
      run = { name, deploying };
      const deployment = await this.#guard(name, 'deploy', deploying);
      const attachments = new Offloading({ plan, deployment, ...bindings });
      offloading = attachments;
      attaching = attachments.attach();
      await this.#guard(name, 'attach', attaching);
      result = await work({
        drive: () => {
          const frames = (): Iterable<WorkloadFrame> =>
            this.#frames(workloadChoice, workload, bindings.random, bindings.objects);
          return this.#drive(name, fabric.name, deployment, attachments, workload, frames);
        },
        hold: (onUp) => this.#hold(name, deployment, attachments, onUp),
      });
    } catch (error) {
      failures.push({ stage: 'run', error });
    }
    await this.#takeDown(run, offloading, attaching);
    failures.push(...this.#cleanUpFailures.map((error) => ({ stage: 'clean-up' as const, error })));
    return { result, failures };
  }

  /** Requests and traffic, and what came of them. */
  async #drive(
    name: string,
    fabric: string,
    deployment: Deployment,
    offloading: Offloading,
    workload: Workload,
    frames: () => Iterable<WorkloadFrame>,
  ): Promise<RunResult> {
    this.#progress({ phase: 'requests' });
    await this.#guard(name, 'requests', offloading.requests(this.#signal));
    this.#progress({ phase: 'attack' });
    await this.#guard(name, 'attack', offloading.attack());
    await this.#guard(name, 'migrate', offloading.prepareMoves());
    this.#progress({ phase: 'traffic' });
    const { onProgress } = this.#environment;
    const sent =
      onProgress === undefined ? frames() : countedFrames(frames(), () => workload.frameCount, onProgress);
    const traffic = await this.#guard(name, 'traffic', startTraffic(deployment, offloading.moving(sent)));
    await this.#guard(name, 'migrate', offloading.finishMoves());
    check(name, 'a traffic report', TRAFFIC_REPORT, traffic);
    const outcomes = await this.#guard(name, 'traffic', offloading.outcomes());
    if (this.#spec.plan.measure !== undefined) this.#progress({ phase: 'measure' });
    const measured = await this.#guard(name, 'measure', this.#measure(deployment, frames));
    if (measured !== undefined) check(name, 'a measurement', MEASUREMENTS, measured);
    const result = assembleResult(this.#spec.plan, { fabric, traffic, measured, ...outcomes });
    check(name, 'a result', RunResult, result);
    return result;
  }

  #progress(progress: RunProgress): void {
    this.#environment.onProgress?.(progress);
  }

  async #hold(
    name: string,
    { presence }: Deployment,
    offloading: Offloading,
    onUp: (run: HeldRun) => void | Promise<void>,
  ): Promise<undefined> {
    if (presence === undefined) {
      throw new XdpbedError('usage', `plugin ${name} has nothing that could be held up for others`, {
        hint: '--fabric linux',
      });
    }
    requireMethods(name, 'presence', presence, ['announce', 'serve']);
    await this.#guard(
      name,
      'hold',
      (async () =>
        onUp({
          presence,
          programs: () => offloading.programs(),
          offloads: () => offloading.offloads(),
        }))(),
    );
    try {
      await presence.serve(this.#signal);
    } catch (error) {
      throw pluginFailure(name, 'serve', error);
    }
  }

  /** Undefined where nothing is to be measured, or the fabric cannot. */
  async #measure(
    deployment: Deployment,
    frames: () => Iterable<WorkloadFrame>,
  ): Promise<Measurements | undefined> {
    const { measure } = this.#spec.plan;
    if (measure === undefined) return undefined;
    return deployment.measure?.(measure, measure.frames === 'workload' ? frames() : []);
  }

  /** What the run's plugins and the core itself take from the scope; see contract/run-scope.ts. */
  async #bind(fabric: PluginChoice) {
    const { plugins, seed } = this.#spec;
    const clock = this.#bindClock(fabric.plugin.time ?? 'machine');
    const events = new EventStream(clock, this.#environment.emit ?? (() => undefined));
    const random: Random = (stream) => randomStream(seed, stream);
    const objects = await loadObjects(this.#spec.objects, this.#environment.object);
    const signal = this.#signal;
    this.#scope.bindValue(EVENTS, events);
    this.#scope.bindValue(RANDOM, random);
    this.#scope.bindValue(RUN_SIGNAL, signal);
    this.#scope.bindValue(OBJECTS, objects);

    const guest = await this.#partyChoices(plugins);
    const host = plugins.host === undefined ? guest : await this.#partyChoices(plugins.host);
    const { plan } = this.#spec;
    const recipes = { guest: judgeRecipe(guest), host: judgeRecipe(host) };
    const judging = (side: 'guest' | 'host'): GuestVerification =>
      new GuestVerification(plan.host.verification, recipes[side], signal);
    // While everything else is brought up.
    GuestVerification.prepare(
      plan.host.verification,
      judgingSides(plan).map((side) => recipes[side]),
    );
    const parties: PartyFactory = {
      open: (name, options) =>
        this.#instances.openParty(name, options?.side === 'host' ? host : guest, {
          seed,
          memoryBytes: MAX_ADDRESS_SPACE,
          ...options,
        }),
    };
    this.#scope.bindValue(PARTY_FACTORY, parties);
    const policies = await this.#policies(plugins.policies, 'policies');
    const migrations: Migration[] = [];
    for (const { guest, afterFrames, policies: there } of plugins.migrations ?? []) {
      const path = `guests.${guest}.migration.policies`;
      migrations.push({ guest, afterFrames, policies: await this.#policies(there, path) });
    }
    this.#scope.bindValue(POLICY_CHAIN, policies);
    this.#scope.bindValue(TRANSPORT, await this.#instance(plugins.transport, TRANSPORT));
    const device = await this.#instance(plugins.device, DEVICE);
    const attacks: { node: string; attack: Attack }[] = [];
    for (const { guest, nic, attack } of plugins.attacks ?? []) {
      attacks.push({ node: `${guest}.${nic}`, attack: await this.#instance(attack, ATTACK) });
    }
    const turns = new EventLoopTurns(signal);
    return {
      clock,
      events,
      random,
      objects,
      parties,
      device,
      attacks,
      migrations,
      verification: judging('host'),
      ownVerification: { guest: judging('guest'), host: judging('host') },
      policies,
      turns,
    };
  }

  #bindClock(time: 'virtual' | 'machine'): Clock {
    if (time === 'machine') {
      const clock = new MachineClock();
      this.#scope.bindValue(CLOCK, clock);
      return clock;
    }
    const clock = new VirtualClock();
    this.#scope.bindValue(CLOCK, clock);
    this.#scope.bindValue(VIRTUAL_CLOCK, clock);
    return clock;
  }

  async #partyChoices({ mapBackend, executor, verifiers }: PartyPlugins): Promise<PartyChoices> {
    const choices: PluginChoice[] = [];
    for (const reference of verifiers.of) choices.push(await this.#choose(reference));
    return {
      mapBackend: await this.#choose(mapBackend),
      executor: await this.#choose(executor),
      verifiers: { rule: verifiers.rule, choices },
    };
  }

  /** @param path where they are in the testbed */
  async #policies(references: readonly PolicyReference[], path: string): Promise<ChainedPolicy[]> {
    const policies: ChainedPolicy[] = [];
    for (const [index, reference] of references.entries()) {
      policies.push(
        chained(await this.#instance(reference, POLICY), {
          dryRun: reference.dryRun,
          endsChain: this.#spec.plugins.policyChain === 'first-deny',
          configPath: `${path}.${index}.config`,
        }),
      );
    }
    return policies;
  }

  #choose({ role, use, config }: PluginReference): Promise<PluginChoice> {
    const { registry, folder } = this.#environment;
    return choosePlugin(registry, role, use, folder, config);
  }

  async #instance<T>(reference: PluginReference, token: Token<T>): Promise<T> {
    return this.#instances.instantiate(await this.#choose(reference), token);
  }

  async #deploy(name: string, deploy: (plan: RunPlan) => Promise<Deployment>): Promise<Deployment> {
    const deployment: unknown = await deploy(this.#spec.plan);
    try {
      requireMethods(name, 'deployment', deployment, ['traffic', 'down']);
    } catch (error) {
      // What it brought up must not stay behind, if only it can be told to come down.
      const { down } = Object(deployment) as Partial<Deployment>;
      if (typeof down !== 'function') throw error;
      try {
        await down.call(deployment as Deployment);
      } catch (failure) {
        this.#cleanUpFailures.push(pluginFailure(name, 'down', failure));
      }
      throw error;
    }
    return deployment as Deployment;
  }

  /** Everything that was brought up, last first, whatever fails; also what an interruption left under way. */
  async #takeDown(
    run: { readonly name: string; readonly deploying: Promise<Deployment> } | undefined,
    offloading: Offloading | undefined,
    attaching: Promise<void> | undefined,
  ): Promise<void> {
    const name = run?.name ?? '';
    const step = async (phase: string, work: Promise<void>): Promise<void> => {
      try {
        await work;
      } catch (error) {
        this.#cleanUpFailures.push(
          ...(error instanceof AggregateError
            ? (error.errors as unknown[])
            : [pluginFailure(name, phase, error)]),
        );
      }
    };
    // Nothing may be taken away from under what is still being attached.
    if (attaching !== undefined)
      await step(
        'attach',
        this.#ended(name, 'attach', attaching).then(() => undefined),
      );
    if (offloading !== undefined) await step('detach', this.#within(name, offloading.close()));
    if (run !== undefined) await step('down', this.#comeDown(run.name, run.deploying));
    await step('stop', this.#instances.lifecycle.stop());
  }

  async #comeDown(name: string, deploying: Promise<Deployment>): Promise<void> {
    const deployment = await this.#ended(name, 'deploy', deploying);
    // In a function of its own, so that a throw is a rejection like any other.
    if (deployment !== undefined) await this.#within(name, (async () => deployment.down())());
  }

  /** What came of work that an interruption may have left under way: undefined when it failed, which was told already. */
  async #ended<T>(name: string, phase: string, work: Promise<T>): Promise<T | undefined> {
    const late = new XdpbedError(
      'plugin-timeout',
      `plugin ${name} was interrupted in ${phase} and did not end`,
    );
    const ms = Math.min(INTERRUPTION_GRACE_MS, this.#phaseTimeoutMs);
    return withTimeLimit(ms, work, () => late).catch((error: unknown) => {
      // What was deployed in part, the fabric has taken down before it failed.
      if (error === late) throw late;
      return undefined;
    });
  }

  #within(name: string, work: Promise<void>): Promise<void> {
    const ms = this.#phaseTimeoutMs;
    return withTimeLimit(
      ms,
      work,
      () => new XdpbedError('plugin-timeout', `plugin ${name} did not come down within ${ms} ms`),
    );
  }

  /** Gives what a plugin does while the run is under way the plugin's name, and ends it on interruption. */
  async #guard<T>(name: string, phase: string, work: Promise<T>): Promise<T> {
    let onAbort: (() => void) | undefined;
    const interrupted = new Promise<never>((_, reject) => {
      onAbort = () => reject(new XdpbedError('interrupted', `interrupted while ${name} was in ${phase}`));
      if (this.#signal.aborted) onAbort();
      this.#signal.addEventListener('abort', onAbort, { once: true });
    });
    try {
      return await Promise.race([work, interrupted]);
    } catch (error) {
      throw pluginFailure(name, phase, error);
    } finally {
      this.#signal.removeEventListener('abort', onAbort!);
    }
  }

  /** A workload's frames come lazily, in the middle of the fabric's work: its errors carry its own name. */
  *#frames(
    choice: PluginChoice,
    workload: Workload,
    random: Random,
    objects: Objects,
  ): Generator<WorkloadFrame> {
    const context: WorkloadContext = {
      random: random('workload'),
      file: (name) => objects.get(name),
      senderMac: SENDER_MAC,
      targets: this.#spec.plan.guests.flatMap((guest) =>
        guest.nics.map((nic) => ({
          guest: guest.name,
          nic: nic.name,
          mac: parseMac(nic.mac),
          ipv4: parseIpv4Address(nic.ipv4),
        })),
      ),
    };
    try {
      for (const frame of workload.frames(context)) {
        checkFrame(frame);
        yield frame;
      }
    } catch (error) {
      throw pluginFailure(pluginName(choice), 'frames', error);
    }
  }
}

/** Whose verifiers, as far as they are here, are going to judge programs that the run attaches. */
function judgingSides({ host, guests }: RunPlan): ('guest' | 'host')[] {
  const attached = guests.flatMap(({ kind, nics }) =>
    nics.flatMap(({ program, placement }) => (program === undefined ? [] : [{ kind, placement }])),
  );
  const sides: ('guest' | 'host')[] = [];
  const isHosts =
    host.nics.some(({ program }) => program !== undefined) ||
    host.taps.some(({ rxProgram }) => rxProgram !== undefined) ||
    attached.some(({ placement }) => placement === 'host');
  if (isHosts) sides.push('host');
  if (attached.some(({ kind }) => kind !== 'qemu')) sides.push('guest');
  return sides;
}

/** Undefined when a verifier works only in the scope of the run, or has no module that another process could import. */
function judgeRecipe({ verifiers }: PartyChoices): JudgeRecipe | undefined {
  const members: { module: string; config: unknown }[] = [];
  for (const { plugin, config, module } of verifiers.choices) {
    if (module === undefined || plugin.judgesIn === 'run') return undefined;
    members.push({ module, config });
  }
  return { rule: verifiers.rule, verifiers: members };
}

// Asynchronous, so that a throw is a rejection like any other.
async function startTraffic(deployment: Deployment, frames: Iterable<WorkloadFrame>) {
  return deployment.traffic(frames);
}

const validator = new SchemaValidator();

const { framesSent, framesCopied, ends } = RunResult.properties;
const TRAFFIC_REPORT = Type.Object({ framesSent, framesCopied, ends });

const { framesPerSecond, samples, offeredPerSecond } = RateResult.properties;
/** What sums are made of; what else a rate is, the result's own schema says when it is put together. */
const MEASUREMENTS = Type.Object({
  rates: Type.Array(Type.Object({ framesPerSecond, samples, offeredPerSecond })),
  ratesUnmeasured: Type.Optional(Type.String()),
  exchanges: Type.Array(ExchangeResult),
});

/** A fabric of somebody else's may report anything; reporters and checks rely on the contract. */
function check(name: string, what: string, schema: TSchema, value: unknown): void {
  const [violation] = validator.validate(schema, value);
  if (violation === undefined) return;
  const at = violation.path.length === 0 ? '' : `${violation.path.join('.')}: `;
  throw new XdpbedError(
    'plugin-failed',
    `plugin ${name} gave ${what} that is none: ${at}${violation.message}`,
  );
}

function checkFrame(frame: unknown): asserts frame is WorkloadFrame {
  const { bytes, at } = (frame ?? {}) as Partial<Record<keyof WorkloadFrame, unknown>>;
  if (!(bytes instanceof Uint8Array) || bytes.length === 0) {
    throw new TypeError('a frame without bytes (a Uint8Array that is not empty)');
  }
  if (!Number.isInteger(at) || (at as number) < 0) {
    throw new TypeError('a frame without a time (an integer of picoseconds, not negative)');
  }
}
