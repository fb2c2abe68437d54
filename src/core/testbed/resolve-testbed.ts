import { readFile } from 'node:fs/promises';
import { dirname, resolve as resolvePath } from 'node:path';
import { EventLoopTurns } from '../clock/event-loop-turns.js';
import { XdpbedError, formatLocation, messageOf } from '../diagnostic.js';
import type { Plugin, PolicySurroundings, Role } from '../contract/plugin.js';
import {
  RUN_SPEC_SCHEMA,
  type AttackReference,
  type MigrationReference,
  type PanelRule,
  type PluginReference,
  type PolicyReference,
  type RunPlugins,
  type RunSpec,
  type Sha256,
} from '../contract/run-spec.js';
import type { RunPlan } from '../contract/plan.js';
import type { Comparison } from '../contract/result.js';
import { pluginFailure } from '../plugin/plugin-failure.js';
import type { PluginRegistry } from '../plugin/plugin-registry.js';
import { schemaOrigin, type PluginChoice, type PluginSource } from './choose-plugin.js';
import {
  assign,
  combinationCount,
  expandMatrix,
  expandPath,
  MAX_RUNS,
  type Assignment,
  type Combination,
} from './matrix.js';
import { countValues, MAX_VALUES } from './count-values.js';
import { copyGuests } from './guest-copies.js';
import { ProblemList, TestbedError } from './problem-list.js';
import { SchemaValidator, type Violation } from './schema-validator.js';
import { TestbedSchema, type PluginUse, type Testbed } from './testbed-schema.js';
import { SoundParts } from './sound-parts.js';
import { parseOnlyArguments, parseSetArgument } from './resolve-arguments.js';
import { checkComparison } from './resolve-comparison.js';
import { resolveChecks, type ResolvedCheck } from './resolve-checks.js';
import { resolvePrograms } from './resolve-programs.js';
import { buildHostPlan, buildGuestPlans, buildMeasurePlan } from './run-plan.js';
import { TestbedFiles } from './testbed-files.js';
import { checkFabric, checkTransport, checkWiring } from './wiring.js';
import { YamlSource, type Problem, type YamlPath } from './yaml-source.js';
import { setOwn } from '../own-property.js';

/** A plugin from elsewhere whose module was found and not run. */
export interface UnreadPlugin {
  readonly role: Role;
  /** What the testbed says behind `use:`. */
  readonly use: string;
}

interface Chosen extends PluginChoice {
  readonly reference: PluginReference;
}

interface ChosenPolicy extends Chosen {
  /** Its place in the testbed's list. */
  readonly path: YamlPath;
  readonly dryRun: boolean;
}

/** What a fabric brings along for the host. */
interface HostChoices {
  readonly executor: Chosen;
  readonly mapBackend: Chosen;
  readonly verifier: Chosen;
  readonly transport: Chosen | undefined;
}

/** A testbed that has no problems: everything found, checked and expanded. Nothing has been started. */
export interface ResolvedTestbed {
  readonly name: string;
  readonly file: string;
  readonly seed: bigint;
  readonly reporter: PluginChoice;
  readonly runs: readonly RunSpec[];
  /** The bytes of the files that the runs name by their hash. */
  readonly objects: ReadonlyMap<Sha256, Uint8Array>;
  /** Where its plugins were found. */
  readonly registry: PluginSource;
  /** Absolute path of the testbed's folder, which relative names of plugins start from. */
  readonly folder: string;
  readonly checks: readonly ResolvedCheck[];
  /** How the rates of the runs are to be read, if it says so. */
  readonly comparison: Comparison | undefined;
  /** `--only` left out some of the runs. */
  readonly narrowed: boolean;
  /** Plugins whose config was not checked, because `trust` is false. With any, the testbed cannot be run. */
  readonly unread: readonly UnreadPlugin[];
  /** What is allowed, and still hardly what was meant. */
  readonly warnings: readonly Problem[];
}

export interface ResolveOptions {
  /** `path=value` arguments; the value is read as YAML. */
  readonly set?: readonly string[] | undefined;
  /** `axis=variant` arguments. */
  readonly only?: readonly string[] | undefined;
  readonly seed?: bigint | undefined;
  /**
   * Run the modules of plugins that are not built in, as running the testbed does, to check their config by their
   * own schema (the default). False: they are only looked up; `unread` then names them.
   */
  readonly trust?: boolean | undefined;
}

/** Reads a testbed file. Throws `file-unreadable`, or `testbed-invalid` with all problems at once. */
export async function loadTestbed(
  file: string,
  registry: PluginRegistry,
  options: ResolveOptions = {},
): Promise<ResolvedTestbed> {
  let content: Uint8Array;
  try {
    content = await readFile(file);
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  return resolveTestbed(file, content, registry, options);
}

export async function resolveTestbed(
  file: string,
  content: string | Uint8Array,
  registry: PluginRegistry,
  options: ResolveOptions = {},
): Promise<ResolvedTestbed> {
  const source = new YamlSource(file, content);
  const problems = new ProblemList(source);
  problems.throwIfAny();
  return new Resolver(source, problems, registry, options.trust !== false).resolve(options);
}

/** Paths of the testbed that are read once, whatever the matrix. */
const ONE_FOR_ALL_RUNS = [
  'version',
  'name',
  'description',
  'seed',
  'matrix',
  'checks',
  'comparison',
  'plugins.reporter',
] as const;

class Resolver {
  readonly #validator = new SchemaValidator();
  readonly #folder: string;
  readonly #files: TestbedFiles;
  readonly #unread = new Map<string, UnreadPlugin>();
  /** Of the copies of guests in all runs so far. */
  #values = 0;

  constructor(
    readonly source: YamlSource,
    readonly problems: ProblemList,
    readonly registry: PluginRegistry,
    readonly trust: boolean,
  ) {
    this.#folder = resolvePath(dirname(source.file));
    this.#files = new TestbedFiles(this.#folder);
  }

  async resolve(options: ResolveOptions): Promise<ResolvedTestbed> {
    const base = structuredClone(this.source.value);
    const fromCommandLine = (options.set ?? []).map(parseSetArgument);
    this.#apply(base, fromCommandLine);
    this.problems.within(fromCommandLine);

    // The file by itself first: a mistake in it is told once, not once for each variant.
    const parts = this.#validate(structuredClone(base));
    if (!parts.hasKeysOf() || !parts.has('matrix')) this.problems.throwIfAny();
    const { testbed } = parts;
    const matrix = testbed.matrix ?? {};
    const only = parseOnlyArguments(options.only ?? [], matrix);
    if (combinationCount(matrix) > MAX_RUNS) {
      this.problems.report(
        ['matrix'],
        `${combinationCount(matrix)} combinations exceed the limit of ${MAX_RUNS} runs`,
        undefined,
        true,
      );
      this.problems.throwIfAny();
    }

    const seed = options.seed ?? BigInt(testbed.seed);
    const runs: RunSpec[] = [];
    const combinations = expandMatrix(matrix, only);
    this.#checkMatrixPaths(combinations, fromCommandLine);
    const shared = withoutMatrix(base);
    const values = countValues(shared);
    if (values * combinations.length > MAX_VALUES) {
      this.problems.report(
        ['matrix'],
        `${combinations.length} runs of a testbed of ${values} values exceed the limit of ${MAX_VALUES} values in all`,
        undefined,
        true,
      );
      this.problems.throwIfAny();
    }
    const turns = new EventLoopTurns();
    for (const combination of combinations) {
      if (this.problems.full) break;
      const turn = turns.next();
      if (turn !== undefined) await turn;
      const run = await this.#resolveVariant(shared, parts, fromCommandLine, combination, seed);
      if (run !== undefined) runs.push(run);
    }
    this.problems.within(fromCommandLine);
    const checks = parts.hasKeysOf('checks')
      ? resolveChecks(parts, matrix, this.#validator, this.problems, {
          plans: runs.map(({ plan }) => plan),
          mapsOf: (program) => this.#files.objectOf(program.object)?.maps ?? [],
          policiesOf: (plan) => this.#policiesOf(runs.find((run) => run.plan === plan)!.plugins),
        })
      : [];
    if (parts.has('comparison')) checkComparison(testbed, matrix, this.problems);
    const reporter = await this.#chooseOf(parts, 'reporter', ['plugins', 'reporter']);
    this.problems.throwIfAny();
    return {
      name: testbed.name,
      file: this.source.file,
      seed,
      reporter: reporter!,
      runs,
      objects: this.#files.bytes,
      registry: this.registry,
      folder: this.#folder,
      checks,
      comparison: parts.has('comparison') ? testbed.comparison : undefined,
      unread: [...this.#unread.values()],
      warnings: this.problems.warnings,
      narrowed: combinations.length < combinationCount(matrix),
    };
  }

  /** A variant must not set what is one for all runs, and `--set` not what each variant sets anew after it. */
  #checkMatrixPaths(combinations: readonly Combination[], fromCommandLine: readonly Assignment[]): void {
    for (const assignment of combinations.flatMap((combination) => combination.assignments)) {
      const { path, origin } = assignment;
      const common = ONE_FOR_ALL_RUNS.find((shared) => path === shared || path.startsWith(`${shared}.`));
      if (common !== undefined) {
        this.problems.reportAssignment(
          assignment,
          `'${common}' is the same for all runs, so a variant cannot set it`,
        );
      }
      const axis = origin.kind === 'matrix' ? String(origin.at[1]) : '';
      for (const set of fromCommandLine) {
        if (set.path !== path && !set.path.startsWith(`${path}.`)) continue;
        this.problems.reportAssignment(
          set,
          `axis '${axis}' of the matrix sets '${path}' anew; choose one of its variants with --only ${axis}=…`,
        );
      }
    }
  }

  /** @param into what is known of the data already: of a section that cannot be read nothing more is said. */
  #apply(data: unknown, assignments: readonly Assignment[], into?: SoundParts): void {
    for (const assignment of assignments) {
      const paths = expandPath(data, assignment.path);
      if (paths.length === 0)
        this.problems.reportAssignment(assignment, `nothing is at '${assignment.path}'`);
      for (const path of paths) {
        const problem = assign(data, path, assignment.value, TestbedSchema);
        const readable = into === undefined || into.hasKeysOf(...path.split('.').slice(0, -1));
        if (problem !== undefined && readable) this.problems.reportAssignment(assignment, problem);
      }
    }
  }

  /** The testbed with defaults filled in, after reporting where it is none. */
  #validate(data: unknown): SoundParts {
    const parts = new SoundParts(this.#validator, data);
    for (const violation of parts.violations) this.problems.reportViolation(violation);
    return parts;
  }

  /** The run of one combination, or undefined after reporting why there is none. */
  async #resolveVariant(
    shared: unknown,
    whole: SoundParts,
    fromCommandLine: readonly Assignment[],
    combination: Combination,
    seed: bigint,
  ): Promise<RunSpec | undefined> {
    const data = structuredClone(shared);
    this.#apply(data, combination.assignments, whole);
    const assignments = [...fromCommandLine, ...combination.assignments];
    this.problems.within(assignments);
    const copied = copyGuests(data, MAX_VALUES - this.#values);
    for (const { path, message } of copied.problems) this.problems.report(path, message);
    if (copied.problems.length > 0) return undefined;
    this.#values += copied.values;
    this.problems.within(assignments, copied.origin);
    const parts = this.#validate(copied.data);
    if (!parts.hasKeysOf()) return undefined;
    const { testbed } = parts;

    // Each of these looks for problems whatever the others found.
    if (parts.has('host') && parts.hasKeysOf('programs')) {
      checkWiring(
        parts.withSoundNics(),
        (path, message, hint, onKey) => this.problems.report(path, message, hint, onKey),
        (path, message, hint, onKey) => this.problems.warn(path, message, hint, onKey),
      );
    }
    const fabric = await this.#chooseOf(parts, 'fabric', ['plugins', 'fabric']);
    if (fabric !== undefined && parts.has('host') && parts.has('guests')) {
      checkFabric(testbed, fabric.plugin, (path, message, hint) => this.problems.report(path, message, hint));
    }
    const host = fabric === undefined ? undefined : await this.#chooseForHost(fabric);
    const transport = await this.#chooseOf(parts, 'transport', ['plugins', 'transport']);
    const device = await this.#chooseOf(parts, 'device', ['plugins', 'device']);
    const carrier = host?.transport ?? transport;
    if (carrier !== undefined && parts.has('guests')) {
      checkTransport(parts.withSoundNics(), carrier.plugin, (path, message, hint) =>
        this.problems.report(path, message, hint),
      );
    }
    const executor = await this.#chooseOf(parts, 'executor', ['plugins', 'executor']);
    const mapBackend = await this.#chooseOf(parts, 'map-backend', ['plugins', 'map-backend']);
    const workload = await this.#chooseOf(parts, 'workload', ['workload']);
    const verifiers = parts.has('plugins', 'verifier') ? await this.#chooseVerifiers(testbed) : undefined;
    const policies = await this.#choosePolicies(parts);
    const migrations = await this.#chooseMigrations(parts);
    const counting = fabric?.plugin.host === undefined ? executor : host?.executor;
    if (parts.hasKeysOf('guests') && counting !== undefined) {
      this.#checkPolicies([...policies, ...migrations.policies], {
        guests: Object.keys(testbed.guests),
        countsWork: counting.plugin.countsWork === true,
      });
    }
    const objects: Record<string, Sha256> = {};
    const attacks = await this.#chooseAttacks(parts, objects);
    await this.#readPluginFiles(fabric, ['plugins', 'fabric', 'config'], objects);
    await this.#readPluginFiles(workload, ['workload', 'config'], objects);
    const programs = await resolvePrograms(parts, this.#files, this.problems, objects);
    if (
      this.problems.count > 0 ||
      fabric === undefined ||
      transport === undefined ||
      device === undefined ||
      executor === undefined ||
      mapBackend === undefined ||
      workload === undefined ||
      verifiers === undefined
    )
      return undefined;

    const plan: RunPlan = {
      id: Object.values(combination.axes).join('/') || 'default',
      axes: combination.axes,
      host: buildHostPlan(testbed, fabric.plugin),
      guests: buildGuestPlans(testbed, fabric.plugin),
      measure: buildMeasurePlan(testbed),
      programs,
    };
    return {
      schema: RUN_SPEC_SCHEMA,
      plan,
      seed,
      plugins: {
        fabric: fabric.reference,
        transport: host?.transport?.reference ?? transport.reference,
        device: device.reference,
        executor: executor.reference,
        mapBackend: mapBackend.reference,
        verifiers: { rule: verifiers.rule, of: verifiers.choices.map(({ reference }) => reference) },
        ...(host === undefined ? {} : { host: hostPlugins(host, verifiers) }),
        policies: policies.map(policyReference),
        ...(testbed['policy-chain'] === 'all-report' ? {} : { policyChain: testbed['policy-chain'] }),
        workload: workload.reference,
        ...(attacks.length === 0 ? {} : { attacks }),
        ...(migrations.references.length === 0 ? {} : { migrations: migrations.references }),
      },
      objects,
    };
  }

  /** The plugin of a section that may be unsound; then there is none, and nothing more to say. */
  async #chooseOf(parts: SoundParts, role: Role, path: readonly string[]): Promise<Chosen | undefined> {
    if (!parts.has(...path)) return undefined;
    const use = path.reduce<unknown>((node, step) => (node as Record<string, unknown>)[step], parts.testbed);
    return this.#choose(role, use as PluginUse, path);
  }

  async #choose(role: Role, { use, config = {} }: PluginUse, path: YamlPath): Promise<Chosen | undefined> {
    let plugin: Plugin;
    let origin: 'own' | 'foreign';
    try {
      const location = await this.registry.locate(role, use, this.#folder);
      if (location.kind === 'module' && !this.trust) {
        this.#unread.set(`${role}/${use}`, { role, use });
        return { plugin: unreadPlugin(role, use), config, reference: { role, use, config } };
      }
      origin = schemaOrigin(location);
      plugin = await this.registry.load(role, use, location);
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      this.problems.report([...path, 'use'], error.message, error.hint);
      return undefined;
    }
    const checked = structuredClone(config);
    let violations: Violation[];
    try {
      violations = this.#validator.validate(plugin.configSchema, checked, origin);
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      this.problems.report([...path, 'use'], `'${use}' is not a usable ${role} plugin: ${error.message}`);
      return undefined;
    }
    for (const violation of violations) this.problems.reportViolation(violation, [...path, 'config']);
    return violations.length === 0
      ? { plugin, config: checked, reference: { role, use, config: checked } }
      : undefined;
  }

  /** What the fabric brings along for the host. */
  async #chooseForHost({ plugin }: Chosen): Promise<HostChoices | undefined> {
    const { host } = plugin;
    if (host === undefined) return undefined;
    const choose = (role: Role, use: string): Promise<Chosen | undefined> =>
      this.#choose(role, { use }, ['plugins', 'fabric']);
    const executor = await choose('executor', host.executor);
    const mapBackend = await choose('map-backend', host['map-backend']);
    const verifier = await choose('verifier', host.verifier);
    const transport = host.transport === undefined ? undefined : await choose('transport', host.transport);
    if (executor === undefined || mapBackend === undefined || verifier === undefined) return undefined;
    return { executor, mapBackend, verifier, transport };
  }

  async #chooseAll(role: Role, uses: readonly PluginUse[], path: YamlPath): Promise<Chosen[] | undefined> {
    const choices: Chosen[] = [];
    for (const [index, use] of uses.entries()) {
      if (this.problems.full) break;
      const choice = await this.#choose(role, use, [...path, index]);
      if (choice !== undefined) choices.push(choice);
    }
    return choices.length === uses.length ? choices : undefined;
  }

  async #choosePolicies(parts: SoundParts): Promise<ChosenPolicy[]> {
    const policies = parts.hasKeysOf('policies') ? parts.testbed.policies : [];
    const choices: ChosenPolicy[] = [];
    for (const index of policies.keys()) {
      if (this.problems.full) break;
      if (!parts.has('policies', index)) continue;
      const policy = policies[index]!;
      const path = ['policies', index];
      const choice = await this.#choose('policy', policy, path);
      if (choice !== undefined) choices.push({ ...choice, path, dryRun: policy['dry-run'] });
    }
    return choices;
  }

  #policiesOf({ policies, migrations = [] }: RunPlugins): string[] | undefined {
    const builtIn = this.registry.builtIn('policy').map(({ name }) => name);
    const uses = [policies, ...migrations.map((migration) => migration.policies)]
      .flat()
      .map(({ use }) => use);
    return uses.every((use) => builtIn.includes(use)) ? uses : undefined;
  }

  /** Which guests go to another host, and the policies there. */
  async #chooseMigrations(
    parts: SoundParts,
  ): Promise<{ references: MigrationReference[]; policies: ChosenPolicy[] }> {
    const references: MigrationReference[] = [];
    const policies: ChosenPolicy[] = [];
    if (!parts.has('guests')) return { references, policies };
    for (const [guest, { migration }] of Object.entries(parts.testbed.guests)) {
      if (migration === undefined) continue;
      const there: ChosenPolicy[] = [];
      for (const [index, policy] of migration.policies.entries()) {
        if (this.problems.full) break;
        const path = ['guests', guest, 'migration', 'policies', index];
        const choice = await this.#choose('policy', policy, path);
        if (choice !== undefined) there.push({ ...choice, path, dryRun: policy['dry-run'] });
      }
      policies.push(...there);
      references.push({
        guest,
        afterFrames: migration['after-frames'],
        policies: there.map(policyReference),
      });
    }
    return { references, policies };
  }

  /** What is wrong with policies in this testbed, each by its own account. */
  #checkPolicies(policies: readonly ChosenPolicy[], surroundings: PolicySurroundings): void {
    for (const { plugin, config, path } of policies) {
      const at = [...path, 'config'];
      try {
        for (const { path: within, message, hint } of plugin.checkTestbed?.(config, surroundings) ?? []) {
          this.problems.report([...at, ...within], message, hint, true);
        }
      } catch (error) {
        this.#reportThrown(plugin, 'checkTestbed', at, error);
      }
    }
  }

  /** What a plugin threw that was asked about its config. */
  #reportThrown({ role, name }: Plugin, phase: string, path: YamlPath, error: unknown): void {
    if (error instanceof TestbedError) {
      this.problems.take(error.problems);
      return;
    }
    const { at, message, hint } = pluginFailure(`${role} ${name}`, phase, error);
    const isPlace = at !== undefined && !(error instanceof XdpbedError);
    this.problems.report(path, isPlace ? `${formatLocation(at)}: ${message}` : message, hint);
  }

  /** What hostile guests do, with the files that it takes. */
  async #chooseAttacks(parts: SoundParts, objects: Record<string, Sha256>): Promise<AttackReference[]> {
    const attacks: AttackReference[] = [];
    if (!parts.has('guests')) return attacks;
    for (const [guest, { nics }] of Object.entries(parts.testbed.guests)) {
      for (const [nic, { attack }] of Object.entries(nics)) {
        if (attack === undefined || this.problems.full) continue;
        const path = ['guests', guest, 'nics', nic, 'attack'];
        const choice = await this.#choose('attack', attack, path);
        await this.#readPluginFiles(choice, [...path, 'config'], objects);
        if (choice !== undefined) attacks.push({ guest, nic, attack: choice.reference });
      }
    }
    return attacks;
  }

  async #chooseVerifiers(
    testbed: Testbed,
  ): Promise<{ rule: PanelRule; choices: readonly Chosen[] } | undefined> {
    const { use, of, config, rule } = testbed.plugins.verifier;
    const path = ['plugins', 'verifier'];
    if ((use === undefined) === (of === undefined)) {
      this.problems.report(path, "exactly one of 'use' and 'of' must be there", undefined, true);
      return undefined;
    }
    const choices =
      of === undefined
        ? [await this.#choose('verifier', { use: use!, ...(config === undefined ? {} : { config }) }, path)]
        : await this.#chooseAll('verifier', of, [...path, 'of']);
    if (choices === undefined || choices.includes(undefined)) return undefined;
    return { rule: rule ?? 'all', choices: choices as Chosen[] };
  }

  /** The files that a plugin says it reads, and what it says of them. */
  async #readPluginFiles(
    choice: Chosen | undefined,
    path: YamlPath,
    objects: Record<string, Sha256>,
  ): Promise<void> {
    if (choice === undefined) return;
    const { plugin, config } = choice;
    const bytes = new Map<string, Uint8Array>();
    let isUnread = false;
    let names: readonly string[];
    try {
      names = [...(plugin.files?.(config) ?? [])];
    } catch (error) {
      this.#reportThrown(plugin, 'files', path, error);
      return;
    }
    for (const name of names) {
      const file = await this.#files.read(name);
      if (file instanceof XdpbedError) {
        isUnread = true;
        const hint = 'the path is relative to the folder of the testbed file';
        const at = [...path, ...(pathOf(config, name) ?? [])];
        this.problems.report(at, `${name}: ${file.message}`, file.hint ?? hint);
        continue;
      }
      setOwn(objects, name, file.hash);
      bytes.set(name, file.bytes);
    }
    if (isUnread) return;
    try {
      await plugin.checkFiles?.(config, (name) => bytes.get(name)!);
    } catch (error) {
      this.#reportThrown(plugin, 'checkFiles', path, error);
    }
  }
}

/**
 * The plugins of the host's side: the fabric's, and before its verifier those of the testbed. One of several rules
 * (`any`, `first`) cannot be kept beside a verifier that must accept in any case.
 */
function hostPlugins(
  { executor, mapBackend, verifier }: HostChoices,
  { choices }: { readonly choices: readonly Chosen[] },
): NonNullable<RunPlugins['host']> {
  const own = choices.map(({ reference }) => reference).filter(({ use }) => use !== verifier.reference.use);
  return {
    executor: executor.reference,
    mapBackend: mapBackend.reference,
    // What the testbed's own reject must not reach the kernel: its verifier has faults, too, and runs in the host.
    verifiers: { rule: 'in-turn', of: [...own, verifier.reference] },
  };
}

/** The testbed as its runs see it. They cannot set the matrix, and it may be larger than all the rest. */
function withoutMatrix(base: unknown): unknown {
  if (typeof base !== 'object' || base === null) return base;
  const { matrix: _, ...rest } = base as { matrix?: unknown };
  return rest;
}

/** Where a text stands in a config; undefined where it does not as it is. */
function pathOf(config: unknown, text: string): YamlPath | undefined {
  if (config === text) return [];
  if (typeof config !== 'object' || config === null) return undefined;
  for (const [key, value] of Object.entries(config)) {
    const path = pathOf(value, text);
    if (path !== undefined) return [key, ...path];
  }
  return undefined;
}

/** Stands for a plugin whose module was not run. */
function unreadPlugin(role: Role, use: string): Plugin {
  return {
    name: use,
    version: 'unread',
    role,
    api: '*',
    description: 'a plugin from elsewhere whose module was not run',
    configSchema: {} as Plugin['configSchema'],
    register() {
      throw new XdpbedError('plugin-invalid', `the module of ${role} '${use}' was looked up and not run`);
    },
  };
}

function policyReference({ reference, dryRun }: ChosenPolicy): PolicyReference {
  return dryRun ? { ...reference, dryRun } : reference;
}
