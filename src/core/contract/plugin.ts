import type { Static, TSchema } from '@sinclair/typebox';
import type { Token } from './injection.js';
import type { GuestKind, HookPoint, HostCase, RingAccess } from './plan.js';

/** The extension points. A plugin implements exactly one. */
export const ROLES = [
  'transport',
  'device',
  'verifier',
  'executor',
  'map-backend',
  'policy',
  'fabric',
  'workload',
  'reporter',
  'attack',
] as const;
export type Role = (typeof ROLES)[number];

/** Version of the contracts in this folder. A plugin states the range it was written for in `api`. */
export const PLUGIN_API_VERSION = '2.1.0';

export interface PluginManifest {
  /** The bare name used in YAML, e.g. `abstract`. */
  readonly name: string;
  readonly version: string;
  readonly role: Role;
  /** Semver range of PLUGIN_API_VERSION, e.g. `^2`. */
  readonly api: string;
  /** One sentence for `plugins list`. */
  readonly description: string;
}

/** `Plugin.hooks` of a fabric that does not say. */
export const DEFAULT_HOOKS: NonNullable<Plugin['hooks']> = {
  redirect: ['tun_recvmsg', 'tun_xdp_xmit', 'tun_net_xmit'],
  bridge: ['tun_recvmsg', 'tun_net_xmit', 'tun_xdp_xmit'],
};

/** `Plugin.ringAccess` of a fabric that does not say: the RFC's data path, or that before it. */
export const DEFAULT_RING_ACCESS: NonNullable<Plugin['ringAccess']> = ['recvmsg', 'ptr-ring'];

/** What of a testbed the config of a policy may go by. */
export interface PolicySurroundings {
  /** Names of the guests, each of several (`count`) by itself. */
  readonly guests: readonly string[];
  /** What guests offload has its work counted if a policy wants it (`Plugin.countsWork` of the executor). */
  readonly countsWork: boolean;
}

export interface ConfigProblem {
  /** Keys of the config. */
  readonly path: readonly string[];
  readonly message: string;
  readonly hint?: string | undefined;
}

/** What a plugin package's default export is. Made by `definePlugin`. */
export interface Plugin<Schema extends TSchema = TSchema> extends PluginManifest {
  /** JSON Schema of `config`, as TypeBox; defaults in it are filled in before `register`. */
  readonly configSchema: Schema;
  /**
   * For a transport that is the control virtqueue: its format, which is that of all queues of the device. Every guest nic
   * has to offer VIRTIO_F_RING_PACKED for packed ones, and none of them for split ones. Default: it is beside the device.
   */
  readonly queueFormat?: 'split' | 'packed';
  /**
   * For a fabric: whose time its runs have. `virtual`: a clock of discrete events that the fabric itself sets going
   * (VIRTUAL_CLOCK); `machine`, the default: the machine's.
   */
  readonly time?: 'virtual' | 'machine';
  /**
   * For a verifier: `run` when it works only in the scope of its run, because it injects something. It then judges
   * guests' programs on the run's own event loop, where nothing but itself keeps it within the host's limits.
   * `process`, the default: it may be made in a process of its own, with nothing else bound there.
   */
  readonly judgesIn?: 'process' | 'run';
  /**
   * For a fabric: where it can have an offloaded program run, by the host's case, what it takes unless told first.
   * Default: DEFAULT_HOOKS, those of a patched tun driver.
   */
  readonly hooks?: Readonly<Record<HostCase, readonly [HookPoint, ...HookPoint[]]>>;
  /**
   * For a fabric: how vhost can get at the frames in a tap's ring, what it does unless told first. Default:
   * DEFAULT_RING_ACCESS, those of a kernel with the RFC's changes.
   */
  readonly ringAccess?: readonly [RingAccess, ...RingAccess[]];
  /** For a fabric: the kinds of guests that it has, what it takes unless told first. Default: one that has no name. */
  readonly guests?: readonly [GuestKind, ...GuestKind[]];
  /**
   * For a fabric: built-in plugins that do the work of these roles for the host whatever the testbed says, because only
   * with them can it put programs into its places. A verifier judges beside those of the testbed, and all must accept.
   */
  readonly host?: {
    readonly executor: string;
    readonly 'map-backend': string;
    readonly verifier: string;
    readonly transport?: string;
  };
  /** For an executor: it can count what programs do (`ExecutionEnvironment.countWork`). */
  readonly countsWork?: boolean;
  /** For a policy: the stable names of its rules (`Breach.rule`), each with what it demands. */
  readonly rules?: Readonly<Record<string, string>>;
  /**
   * For a policy: judges its config against the testbed that it is in, each problem at its path in the config. So
   * `validate` says it, and nothing is started.
   */
  checkTestbed?(config: Static<Schema>, testbed: PolicySurroundings): readonly ConfigProblem[];
  /**
   * Files that an instance with this config reads, relative to the testbed's folder. The core reads them, so that a
   * run's bytes can be named by their hash and be brought along to another machine.
   */
  files?(config: Static<Schema>): readonly string[];
  /**
   * Judges what those files hold, and the config beside them, as an instance will: throws an XdpbedError for what it
   * would refuse. So `validate` and `plan` say it, too, before anything is started.
   *
   * @param read the bytes of a file by the name that `files` gave it
   */
  checkFiles?(config: Static<Schema>, read: (name: string) => Uint8Array): void | Promise<void>;
  /**
   * Binds the role's token (and whatever else the implementation injects) in a scope of its own. Must have no
   * side effects: the core may register a plugin and never use it. May be asynchronous, to import here what the
   * implementation is made of: whoever only checks a config then does not load it.
   */
  register(scope: PluginScope, config: Static<Schema>): void | Promise<void>;
}

/** Where a plugin binds its tokens. Binding a token twice throws `plugin-conflict`. */
export interface PluginScope {
  bindValue<T>(token: Token<T>, value: T): void;
  /** The class's constructor parameters carry `@inject(TOKEN)`; one instance per scope. */
  bindClass<T>(token: Token<T>, constructor: new (...args: never[]) => T): void;
  /** For implementations that are not classes; one instance per scope. */
  bindFactory<T>(token: Token<T>, make: (resolve: <U>(token: Token<U>) => U) => T): void;
}

/** What a role's instance may have besides its role. The core calls these; a plugin never does. */
export interface Lifecycle {
  /** Can it work here? `inconclusive` is treated as supported until it fails. */
  probe?(): ProbeResult | Promise<ProbeResult>;
  /** Called in dependency order, before the first use. `signal` fires on time-out and on interruption. */
  start?(signal: AbortSignal): void | Promise<void>;
  /** Called in reverse order, always, even if `start` threw. */
  stop?(): void | Promise<void>;
}

export type ProbeResult =
  | { readonly status: 'supported' }
  /** `remedy` is what would help, for a person. */
  | { readonly status: 'unsupported'; readonly reason: string; readonly remedy?: string | undefined }
  | { readonly status: 'inconclusive'; readonly reason: string };

/** Types a plugin's config from its schema; returns its argument. */
export function definePlugin<Schema extends TSchema>(plugin: Plugin<Schema>): Plugin<Schema> {
  return plugin;
}
