import type { CoverageSink } from '../contract/insn-coverage.js';
import type { Party } from '../contract/party.js';
import type { Role } from '../contract/plugin.js';
import { LifecycleManager } from '../plugin/lifecycle.js';
import type { PluginRegistry } from '../plugin/plugin-registry.js';
import { Scope } from '../plugin/scope.js';
import { PluginInstances } from '../run/plugin-instances.js';
import { choosePlugin, type PluginChoice } from '../testbed/choose-plugin.js';
import { MAX_ADDRESS_SPACE } from '../../bpf/runtime/address-space.js';
import { BpfRuntime, type BpfRuntimeOptions } from '../../bpf/runtime/bpf-runtime.js';

export interface WorkbenchOptions {
  readonly executor: string;
  /** Names, all of which must accept. */
  readonly verifiers: readonly string[];
  readonly executorConfig?: unknown;
  /** Default: the one whose maps the executor's programs can use. */
  readonly mapBackend?: string | undefined;
  readonly runtime?: BpfRuntimeOptions;
  /** Have it counted there which insns run; the executor has to be one that can. */
  readonly coverage?: CoverageSink | undefined;
}

/**
 * One party without a testbed around it: what programs are loaded in that are run by themselves. `close` stops its
 * plugins.
 */
export class Workbench {
  private constructor(
    readonly party: Party,
    /** Where the programs and maps of the in-process plugins lie. */
    readonly runtime: BpfRuntime,
    readonly lifecycle: LifecycleManager,
  ) {}

  static async open(registry: PluginRegistry, options: WorkbenchOptions): Promise<Workbench> {
    const lifecycle = new LifecycleManager();
    const instances = new PluginInstances(new Scope('workbench'), lifecycle, (name) =>
      choose(registry, 'executor', name),
    );
    const runtime = new BpfRuntime({ memoryBytes: MAX_ADDRESS_SPACE, ...options.runtime });
    try {
      const party = await instances.openParty(
        'workbench',
        {
          mapBackend: await choose(
            registry,
            'map-backend',
            options.mapBackend ?? (options.executor === 'kernel' ? 'kernel' : 'memory'),
          ),
          executor: await choose(registry, 'executor', options.executor, options.executorConfig),
          verifiers: {
            rule: 'all',
            choices: await Promise.all(options.verifiers.map((name) => choose(registry, 'verifier', name))),
          },
        },
        { cpus: runtime.cpus, runtime, coverage: options.coverage },
      );
      return new Workbench(party, runtime, lifecycle);
    } catch (error) {
      await lifecycle.stop();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.lifecycle.stop();
  }
}

/** A plugin by name with its default config. */
export function choose(
  registry: PluginRegistry,
  role: Role,
  name: string,
  config?: unknown,
): Promise<PluginChoice> {
  return choosePlugin(registry, role, name, process.cwd(), config);
}
