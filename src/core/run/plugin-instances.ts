import { XdpbedError } from '../diagnostic.js';
import { BpfRuntime, type BpfRuntimeOptions } from '../../bpf/runtime/bpf-runtime.js';
import { EXECUTOR, EXECUTOR_FACTORY } from '../contract/executor.js';
import { PARTY_MEMORY, type Party, type PartyOptions } from '../contract/party.js';
import type { Token } from '../contract/injection.js';
import { BPF_RUNTIME, MAP_BACKEND } from '../contract/map-backend.js';
import type { Lifecycle, Role } from '../contract/plugin.js';
import { VERIFIER, type Verifier } from '../contract/verifier.js';
import type { LifecycleManager } from '../plugin/lifecycle.js';
import { pluginFailure } from '../plugin/plugin-failure.js';
import type { Scope } from '../plugin/scope.js';
import type { PluginChoice } from '../testbed/choose-plugin.js';
import type { PanelRule } from '../contract/run-spec.js';
import { VerifierPanel } from './verifier-panel.js';

/** The plugins a party consists of. */
export interface PartyChoices {
  readonly mapBackend: PluginChoice;
  readonly executor: PluginChoice;
  readonly verifiers: { readonly rule: PanelRule; readonly choices: readonly PluginChoice[] };
}

/** What the party's runtime is like, where its plugins want one. */
export interface OpenPartyOptions extends PartyOptions, BpfRuntimeOptions {
  /** One that is there already, for who looks into it. */
  readonly runtime?: BpfRuntime | undefined;
}

/** Makes instances of plugins, each in a scope of its own, and starts them. */
export class PluginInstances {
  /** @param findExecutor for executors that are made of others; without it they cannot be opened. */
  constructor(
    readonly scope: Scope,
    readonly lifecycle: LifecycleManager,
    readonly findExecutor?: (name: string) => Promise<PluginChoice>,
  ) {}

  /** Registers a plugin in a scope below `parent`, resolves its role and starts it. */
  async instantiate<T>(choice: PluginChoice, token: Token<T>, parent = this.scope): Promise<T> {
    const name = pluginName(choice);
    const scope = parent.child(`${parent.label}, ${name}`);
    let instance: T;
    try {
      await choice.plugin.register(scope, choice.config);
      instance = scope.resolve(token);
    } catch (error) {
      throw pluginFailure(name, 'register', error);
    }
    const { role } = choice.plugin;
    requireMethods(name, 'instance', instance, METHODS[role]);
    if (typeof (instance as { name?: unknown }).name !== 'string') {
      throw new XdpbedError('plugin-invalid', `plugin ${name}: its instance has no 'name'`);
    }
    await this.lifecycle.start(name, instance as Lifecycle);
    return NAMED_ROLES.has(role)
      ? (withNamedFailures(instance as object, METHODS[role], name) as T)
      : instance;
  }

  /**
   * Opens a party in a scope of its own: map backend, then verifiers, then executor, each of which may inject
   * the runtime and those before it.
   */
  async openParty(name: string, choices: PartyChoices, options: OpenPartyOptions = {}): Promise<Party> {
    const scope = this.scope.child(name);
    // Made when somebody asks for it: a party of the kernel's has none.
    for (const { token, value } of options.bindings ?? []) scope.bindValue(token, value);
    if (options.memoryBytes !== undefined) scope.bindValue(PARTY_MEMORY, options.memoryBytes);
    scope.bindFactory(BPF_RUNTIME, () => options.runtime ?? new BpfRuntime(options));
    const mapBackend = await this.instantiate(choices.mapBackend, MAP_BACKEND, scope);
    scope.bindValue(MAP_BACKEND, mapBackend);
    const verifiers: Verifier[] = [];
    for (const choice of choices.verifiers.choices)
      verifiers.push(await this.instantiate(choice, VERIFIER, scope));
    const verifier =
      verifiers.length === 1 ? verifiers[0]! : new VerifierPanel(verifiers, choices.verifiers.rule);
    scope.bindValue(VERIFIER, verifier);
    const { findExecutor } = this;
    if (findExecutor !== undefined) {
      scope.bindValue(EXECUTOR_FACTORY, {
        open: async (use) => this.instantiate(await findExecutor(use), EXECUTOR, scope),
      });
    }
    const executor = await this.instantiate(choices.executor, EXECUTOR, scope);
    scope.bindValue(EXECUTOR, executor);
    const cpus = mapBackend.cpus ?? options.cpus ?? 1;
    return {
      name,
      cpus,
      mapBackend,
      verifier,
      executor,
      countWork: options.countWork,
      coverage: options.coverage,
    };
  }
}

/** What an implementation of each role must have; what else there is in its contract is optional. */
const METHODS: Readonly<Record<Role, readonly string[]>> = {
  transport: ['open'],
  device: ['open'],
  verifier: ['verify'],
  executor: ['load'],
  'map-backend': ['create', 'memoryCost'],
  policy: ['rule'],
  fabric: ['deploy'],
  workload: ['frames'],
  reporter: ['render'],
  attack: ['run'],
};

/** Roles that a fabric calls: without this what they throw would be told as the fabric's failure. */
const NAMED_ROLES: ReadonlySet<Role> = new Set([
  'transport',
  'device',
  'verifier',
  'executor',
  'map-backend',
]);

/** Throws `plugin-invalid` for what lacks one of these methods. */
export function requireMethods(
  name: string,
  what: string,
  candidate: unknown,
  methods: readonly string[],
): void {
  const members = (candidate ?? {}) as Record<string, unknown>;
  const missing = methods.find((method) => typeof members[method] !== 'function');
  if (missing !== undefined) {
    throw new XdpbedError('plugin-invalid', `plugin ${name}: its ${what} has no method '${missing}'`);
  }
}

/** The same instance, but what these methods throw carries the plugin's name. */
function withNamedFailures<T extends object>(instance: T, methods: readonly string[], name: string): T {
  const bound = new Map<PropertyKey, unknown>();
  return new Proxy(instance, {
    get(target, key) {
      if (bound.has(key)) return bound.get(key);
      const member: unknown = Reflect.get(target, key, target);
      if (typeof member !== 'function') return member;
      // Bound to the instance itself: private fields are not the proxy's.
      const call = (...args: unknown[]): unknown => Reflect.apply(member, target, args);
      const method = methods.includes(String(key)) ? namingFailures(call, name, String(key)) : call;
      bound.set(key, method);
      return method;
    },
  });
}

function namingFailures(
  call: (...args: unknown[]) => unknown,
  name: string,
  phase: string,
): (...args: unknown[]) => unknown {
  const fail = (error: unknown): never => {
    throw pluginFailure(name, phase, error);
  };
  return (...args) => {
    try {
      const result = call(...args);
      return result instanceof Promise ? result.catch(fail) : result;
    } catch (error) {
      return fail(error);
    }
  };
}

export function pluginName(choice: PluginChoice): string {
  return `${choice.plugin.role} ${choice.plugin.name}`;
}
