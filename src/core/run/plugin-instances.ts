import { XdpbedError, messageOf } from '../diagnostic.js';
import { BpfRuntime, type BpfRuntimeOptions } from '../../bpf/runtime/bpf-runtime.js';
import { EXECUTOR, EXECUTOR_FACTORY } from '../contract/executor.js';
import type { Party } from '../contract/fabric.js';
import type { Token } from '../contract/injection.js';
import { BPF_RUNTIME, MAP_BACKEND } from '../contract/map-backend.js';
import type { Lifecycle } from '../contract/plugin.js';
import { VERIFIER, type Verifier } from '../contract/verifier.js';
import type { LifecycleManager } from '../plugin/lifecycle.js';
import type { Scope } from '../plugin/scope.js';
import type { PluginChoice } from '../testbed/resolve-testbed.js';
import { VerifierPanel, type PanelRule } from './verifier-panel.js';

/** The plugins a party consists of. */
export interface PartyChoices {
  readonly mapBackend: PluginChoice;
  readonly executor: PluginChoice;
  readonly verifiers: { readonly rule: PanelRule; readonly choices: readonly PluginChoice[] };
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
      choice.plugin.register(scope, choice.config);
      instance = scope.resolve(token);
    } catch (error) {
      throw pluginFailure(name, 'register', error);
    }
    await this.lifecycle.start(name, instance as Lifecycle);
    return instance;
  }

  /**
   * Opens a party in a scope of its own: map backend, then verifiers, then executor, each of which may inject
   * the runtime and those before it.
   */
  async openParty(name: string, choices: PartyChoices, options: BpfRuntimeOptions = {}): Promise<Party> {
    const scope = this.scope.child(name);
    const runtime = new BpfRuntime(options);
    scope.bindValue(BPF_RUNTIME, runtime);
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
    return { name, runtime, mapBackend, verifier, executor };
  }
}

export function pluginName(choice: PluginChoice): string {
  return `${choice.plugin.role} ${choice.plugin.name}`;
}

/** What a plugin threw, with its name; an XdpbedError says enough by itself. */
export function pluginFailure(name: string, phase: string, error: unknown): XdpbedError {
  if (error instanceof XdpbedError) return error;
  return new XdpbedError('plugin-failed', `plugin ${name} failed in ${phase}: ${messageOf(error)}`, {
    cause: error,
  });
}
