import type { RunPlan } from './plan.js';
import type { ChainMode } from './policy.js';
import type { Role } from './plugin.js';
import { token } from './injection.js';

/** SHA-256 of a file's bytes, 64 hex digits. */
export type Sha256 = string;

/**
 * One run as data and nothing else: what is to be built, which plugins do it, and which bytes they read. It can be
 * hashed, kept, or sent to another process or machine and run there; the same spec gives the same result wherever
 * the fabric's time is virtual.
 */
export interface RunSpec {
  readonly schema: typeof RUN_SPEC_SCHEMA;
  readonly plan: RunPlan;
  /** Draws everything random. */
  readonly seed: bigint;
  readonly plugins: RunPlugins;
  /** Files that the run reads, by the name that plan and configs give them: objects of programs, captures. */
  readonly objects: Readonly<Record<string, Sha256>>;
}

export const RUN_SPEC_SCHEMA = 'xdpbed.run-spec/1';

/** A plugin as a testbed names it, with its config, defaults filled in. */
export interface PluginReference {
  readonly role: Role;
  /** `abstract`, `./my-policy.js`, `@acme/xdp-policy`. */
  readonly use: string;
  readonly config: unknown;
}

export interface PolicyReference extends PluginReference {
  /** It rules and is recorded, and denies nothing. Absent: it denies. */
  readonly dryRun?: true | undefined;
}

/** What a party is made of. */
export interface PartyPlugins {
  readonly executor: PluginReference;
  readonly mapBackend: PluginReference;
  readonly verifiers: { readonly rule: PanelRule; readonly of: readonly PluginReference[] };
}

/** Guests in this process are parties of the plugins named first, and the host as well unless `host` is there. */
export interface RunPlugins extends PartyPlugins {
  readonly fabric: PluginReference;
  readonly transport: PluginReference;
  readonly device: PluginReference;
  /** On a fabric that puts programs into places of its own (`Plugin.host`). */
  readonly host?: PartyPlugins | undefined;
  /** In the order of the testbed. */
  readonly policies: readonly PolicyReference[];
  /** Absent: `all-report`. */
  readonly policyChain?: ChainMode | undefined;
  readonly workload: PluginReference;
  /** What hostile guests do, in the order of the plan's nics; absent where there are none. */
  readonly attacks?: readonly AttackReference[] | undefined;
  /** Which guests go to another host meanwhile, in the order of the plan; absent where none does. */
  readonly migrations?: readonly MigrationReference[] | undefined;
}

export interface MigrationReference {
  readonly guest: string;
  /** Frames of the workload that are sent before. */
  readonly afterFrames: number;
  /** Of the host that it goes to. */
  readonly policies: readonly PolicyReference[];
}

export interface AttackReference {
  readonly guest: string;
  readonly nic: string;
  readonly attack: PluginReference;
}

/**
 * When several verifiers are one: all of them must accept, one of them, or the first. `in-turn`: all, but one is asked only
 * when those before it have accepted, so that what they reject never reaches it.
 */
export type PanelRule = 'all' | 'in-turn' | 'any' | 'first';

/** The files of a run, by the names in `RunSpec.objects`. */
export interface Objects {
  /** Throws `file-unreadable` for a name that the run does not have. */
  get(name: string): Uint8Array;
}

export const OBJECTS = token<Objects>('objects');
