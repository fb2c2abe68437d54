import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, resolve as resolvePath } from 'node:path';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { whyNotXdp } from '../../bpf/link.js';
import { isResizable } from '../../bpf/map-sizes.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { parseObjectFile, takeForXdp } from '../../bpf/object-file.js';
import { selectProgram } from '../offload/select-program.js';
import type { Plugin, Role } from '../contract/plugin.js';
import {
  RUN_SPEC_SCHEMA,
  type PanelRule,
  type PluginReference,
  type RunSpec,
  type Sha256,
} from '../contract/run-spec.js';
import type { MapPreset, PresetValue, ProgramPlan, RunPlan } from '../contract/plan.js';
import type { PluginRegistry } from '../plugin/plugin-registry.js';
import { schemaOrigin, type PluginChoice, type PluginSource } from './choose-plugin.js';
import {
  assign,
  combinationCount,
  expandMatrix,
  MAX_RUNS,
  type Assignment,
  type Combination,
} from './matrix.js';
import { readFileBytes } from './object-file.js';
import { encodePreset, type PresetNames } from './preset-value.js';
import { ProblemList } from './problem-list.js';
import { SchemaValidator, type Violation } from './schema-validator.js';
import { CHECKS, TestbedSchema, type CheckSection, type PluginUse, type Testbed } from './testbed-schema.js';
import { SoundParts } from './sound-parts.js';
import { attachedPrograms, buildHostPlan, buildGuestPlans, presetNames } from './run-plan.js';
import { checkWiring, suggest } from './wiring.js';
import { YamlSource, type YamlPath } from './yaml-source.js';

/** A plugin from elsewhere whose module was found and not run. */
export interface UnreadPlugin {
  readonly role: Role;
  /** What the testbed says behind `use:`. */
  readonly use: string;
}

interface Chosen extends PluginChoice {
  readonly reference: PluginReference;
}

interface FileRead {
  readonly bytes: Uint8Array;
  readonly hash: Sha256;
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
  readonly checks: readonly CheckSection[];
  /** `--only` left out some of the runs. */
  readonly narrowed: boolean;
  /** Plugins whose config was not checked, because `trust` is false. With any, the testbed cannot be run. */
  readonly unread: readonly UnreadPlugin[];
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
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  return resolveTestbed(file, text, registry, options);
}

export async function resolveTestbed(
  file: string,
  text: string,
  registry: PluginRegistry,
  options: ResolveOptions = {},
): Promise<ResolvedTestbed> {
  const source = new YamlSource(file, text);
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
  'plugins.reporter',
] as const;

/**
 * Values of all runs together that a testbed may expand to: validating and wiring take one or two microseconds
 * for each.
 */
const MAX_VALUES = 500_000;

class Resolver {
  readonly #validator = new SchemaValidator();
  readonly #folder: string;
  /** What was read, by name; and the bytes of all of it by their hash. */
  readonly #files = new Map<string, Promise<FileRead | XdpbedError>>();
  readonly #specs = new Map<string, ObjectSpec | XdpbedError>();
  readonly #bytes = new Map<Sha256, Uint8Array>();
  readonly #unread = new Map<string, UnreadPlugin>();

  constructor(
    readonly source: YamlSource,
    readonly problems: ProblemList,
    readonly registry: PluginRegistry,
    readonly trust: boolean,
  ) {
    this.#folder = resolvePath(dirname(source.file));
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
    for (const combination of combinations) {
      if (this.problems.full) break;
      const run = await this.#resolveVariant(shared, parts, fromCommandLine, combination, seed);
      if (run !== undefined) runs.push(run);
    }
    this.problems.within(fromCommandLine);
    const checks = parts.hasKeysOf('checks') ? this.#resolveChecks(parts, Object.keys(matrix), matrix) : [];
    const reporter = await this.#chooseOf(parts, 'reporter', ['plugins', 'reporter']);
    this.problems.throwIfAny();
    return {
      name: testbed.name,
      file: this.source.file,
      seed,
      reporter: reporter!,
      runs,
      objects: this.#bytes,
      registry: this.registry,
      folder: this.#folder,
      checks,
      unread: [...this.#unread.values()],
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
      const problem = assign(data, assignment.path, assignment.value, TestbedSchema);
      const readable = into === undefined || into.hasKeysOf(...assignment.path.split('.').slice(0, -1));
      if (problem !== undefined && readable) this.problems.reportAssignment(assignment, problem);
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
    this.problems.within([...fromCommandLine, ...combination.assignments]);
    const parts = this.#validate(data);
    if (!parts.hasKeysOf()) return undefined;
    const { testbed } = parts;

    // Each of these looks for problems whatever the others found.
    if (parts.has('host') && parts.hasKeysOf('programs')) {
      checkWiring(parts.withSoundNics(), (path, message, hint, onKey) =>
        this.problems.report(path, message, hint, onKey),
      );
    }
    const fabric = await this.#chooseOf(parts, 'fabric', ['plugins', 'fabric']);
    const transport = await this.#chooseOf(parts, 'transport', ['plugins', 'transport']);
    const executor = await this.#chooseOf(parts, 'executor', ['plugins', 'executor']);
    const mapBackend = await this.#chooseOf(parts, 'map-backend', ['plugins', 'map-backend']);
    const workload = await this.#chooseOf(parts, 'workload', ['workload']);
    const verifiers = parts.has('plugins', 'verifier') ? await this.#chooseVerifiers(testbed) : undefined;
    const policies = await this.#choosePolicies(parts);
    const objects: Record<string, Sha256> = {};
    await this.#readPluginFiles(workload, ['workload', 'config'], objects);
    const programs = await this.#resolvePrograms(parts, objects);
    if (
      this.problems.count > 0 ||
      fabric === undefined ||
      transport === undefined ||
      executor === undefined ||
      mapBackend === undefined ||
      workload === undefined ||
      verifiers === undefined
    )
      return undefined;

    const plan: RunPlan = {
      id: Object.values(combination.axes).join('/') || 'default',
      axes: combination.axes,
      host: buildHostPlan(testbed),
      guests: buildGuestPlans(testbed),
      programs,
    };
    return {
      schema: RUN_SPEC_SCHEMA,
      plan,
      seed,
      plugins: {
        fabric: fabric.reference,
        transport: transport.reference,
        executor: executor.reference,
        mapBackend: mapBackend.reference,
        verifiers: { rule: verifiers.rule, of: verifiers.choices.map(({ reference }) => reference) },
        policies: policies.map(({ reference }) => reference),
        workload: workload.reference,
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

  async #chooseAll(role: Role, uses: readonly PluginUse[], path: YamlPath): Promise<Chosen[] | undefined> {
    const choices: Chosen[] = [];
    for (const [index, use] of uses.entries()) {
      if (this.problems.full) break;
      const choice = await this.#choose(role, use, [...path, index]);
      if (choice !== undefined) choices.push(choice);
    }
    return choices.length === uses.length ? choices : undefined;
  }

  async #choosePolicies(parts: SoundParts): Promise<Chosen[]> {
    const policies = parts.hasKeysOf('policies') ? parts.testbed.policies : [];
    const choices: Chosen[] = [];
    for (const index of policies.keys()) {
      if (this.problems.full) break;
      if (!parts.has('policies', index)) continue;
      const choice = await this.#choose('policy', policies[index]!, ['policies', index]);
      if (choice !== undefined) choices.push(choice);
    }
    return choices;
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

  /** The files that a plugin says it reads. */
  async #readPluginFiles(
    choice: Chosen | undefined,
    path: YamlPath,
    objects: Record<string, Sha256>,
  ): Promise<void> {
    for (const name of choice?.plugin.files?.(choice.config) ?? []) {
      const file = await this.#readFile(name);
      if (file instanceof XdpbedError) {
        const hint = 'the path is relative to the folder of the testbed file';
        this.problems.report(path, `${name}: ${file.message}`, file.hint ?? hint);
      } else objects[name] = file.hash;
    }
  }

  /** Programs by name; what those that are attached are read from is entered in `objects`. */
  async #resolvePrograms(
    parts: SoundParts,
    objects: Record<string, Sha256>,
  ): Promise<Record<string, ProgramPlan>> {
    const programs: Record<string, ProgramPlan> = {};
    if (!parts.hasKeysOf('programs')) return programs;
    const wired = parts.has('host') && parts.has('guests');
    const names = wired ? presetNames(parts.testbed) : undefined;
    const attached = wired ? attachedPrograms(parts.testbed) : new Set<string>();
    for (const [name, section] of Object.entries(parts.testbed.programs)) {
      const at = ['programs', name];
      if (this.problems.full) break;
      if (!parts.has(...at)) continue;
      const file = await this.#readFile(section.object);
      const object = file instanceof XdpbedError ? file : this.#parseObject(section.object, file.bytes);
      if (object instanceof XdpbedError) {
        this.problems.report([...at, 'object'], `${section.object}: ${object.message}`, object.hint);
        continue;
      }
      const typed = section.type === undefined ? object : takeForXdp(object);
      const selected = selectProgram(typed, section.section);
      if ('problem' in selected) {
        this.problems.report(
          [...at, section.section === undefined ? 'object' : 'section'],
          selected.problem,
          selected.hint,
        );
        continue;
      }
      const unfit = whyNotXdp(selected.program);
      if (unfit !== undefined) {
        this.problems.report([...at, 'section'], unfit.message, unfit.hint);
        continue;
      }
      if (selected.program.unsupported !== undefined) {
        this.problems.report([...at, 'object'], `${section.object}: ${selected.program.unsupported}`);
        continue;
      }
      const maxEntries = section['max-entries'] ?? {};
      for (const mapName of Object.keys(maxEntries)) {
        const where = [...at, 'max-entries', mapName];
        const map = this.#findMap(object, section.object, mapName, where);
        if (map !== undefined && !isResizable(map))
          this.problems.report(where, `map ${mapName} holds global variables and has one element`);
      }
      const presets: Record<string, MapPreset[]> = {};
      for (const [mapName, entries] of Object.entries(section.maps ?? {})) {
        const map = this.#findMap(object, section.object, mapName, [...at, 'maps', mapName]);
        if (map === undefined) continue;
        // Presets name interfaces; without those, nothing can be said of them.
        if (names === undefined) continue;
        presets[mapName] = entries.flatMap((entry, index) => {
          const where = [...at, 'maps', mapName, index];
          const key = this.#encode(entry.key, map.keySize, map.keyType, names, [...where, 'key']);
          const value = this.#encode(entry.value, map.valueSize, map.valueType, names, [...where, 'value']);
          return key === undefined || value === undefined ? [] : [{ key, value }];
        });
      }
      if (wired) this.#checkLookups(parts.testbed, name, section.object, object.maps);
      if (!attached.has(name) || file instanceof XdpbedError) continue;
      objects[section.object] = file.hash;
      programs[name] = {
        name,
        object: section.object,
        function: selected.program.name,
        ...(section.type !== undefined && { type: section.type }),
        ...(Object.keys(maxEntries).length > 0 && { maxEntries: { ...maxEntries } }),
        presets,
      };
    }
    return programs;
  }

  /** What guests ask for by the name of a map of this program. */
  #checkLookups(testbed: Testbed, program: string, file: string, maps: readonly MapSpec[]): void {
    for (const [guest, { nics }] of Object.entries(testbed.guests)) {
      for (const [name, nic] of Object.entries(nics)) {
        const lookup = nic.program === program ? nic.requests?.lookup : undefined;
        const declared = maps.map((map) => map.name);
        if (lookup === undefined || declared.includes(lookup)) continue;
        this.problems.report(
          ['guests', guest, 'nics', name, 'requests', 'lookup'],
          `${file} has no map '${lookup}'`,
          suggest(lookup, declared, 'maps'),
        );
      }
    }
  }

  /** A map of an object; one that is not there is a problem of the key that names it. */
  #findMap(object: ObjectSpec, file: string, name: string, path: YamlPath): MapSpec | undefined {
    const map = object.maps.find((candidate) => candidate.name === name);
    if (map === undefined) {
      const declared = object.maps.map((candidate) => candidate.name);
      this.problems.report(path, `${file} has no map '${name}'`, suggest(name, declared, 'maps'), true);
    }
    return map;
  }

  #encode(
    value: unknown,
    size: number,
    type: BtfTypeRef | undefined,
    names: PresetNames,
    path: YamlPath,
  ): Uint8Array | undefined {
    const encoded = encodePreset(value as PresetValue, size, names, type);
    if ('bytes' in encoded) return encoded.bytes;
    const near =
      encoded.candidates === undefined
        ? undefined
        : suggest(JSON.stringify(value), encoded.candidates, 'interfaces');
    this.problems.report(path, encoded.problem, near);
    return undefined;
  }

  /** A file by the name that the testbed gives it. */
  #readFile(name: string): Promise<FileRead | XdpbedError> {
    let file = this.#files.get(name);
    if (file === undefined) {
      file = readFileBytes(resolvePath(this.#folder, name)).then((bytes) => {
        const hash = createHash('sha256').update(bytes).digest('hex');
        this.#bytes.set(hash, bytes);
        return { bytes, hash };
      }, asXdpbedError);
      this.#files.set(name, file);
    }
    return file;
  }

  #parseObject(name: string, bytes: Uint8Array): ObjectSpec | XdpbedError {
    let object = this.#specs.get(name);
    if (object === undefined) {
      try {
        object = parseObjectFile(bytes, resolvePath(this.#folder, name));
      } catch (error) {
        object = asXdpbedError(error);
      }
      this.#specs.set(name, object);
    }
    return object;
  }

  /** The nic that a check names is there; whether it asks for anything a run may decide. */
  #checkAsks(parts: SoundParts, node: string, path: YamlPath): void {
    if (!parts.has('guests')) return;
    const nodes = Object.entries(parts.testbed.guests).flatMap(([guest, { nics }]) =>
      Object.keys(nics).map((nic) => `${guest}.${nic}`),
    );
    if (!nodes.includes(node)) {
      this.problems.report(path, `there is no guest nic '${node}'`, suggest(node, nodes, 'nics'));
    }
  }

  #resolveChecks(
    parts: SoundParts,
    axes: readonly string[],
    matrix: NonNullable<Testbed['matrix']>,
  ): CheckSection[] {
    return parts.testbed.checks.flatMap((section, index) => {
      const path = ['checks', index];
      if (!parts.has(...path) || !Object.hasOwn(CHECKS, section.kind)) return [];
      const checked = structuredClone(section);
      const violations = this.#validator.validate(CHECKS[section.kind], checked);
      for (const violation of violations) this.problems.reportViolation(violation, path);
      if (violations.length > 0) return [];
      const check = checked as unknown as CheckSection;
      const hasAxis = (axis: string, at: YamlPath, onKey?: boolean): boolean => {
        if (axes.includes(axis)) return true;
        this.problems.report(at, `the matrix has no axis '${axis}'`, suggest(axis, axes, 'axes'), onKey);
        return false;
      };
      const checkVariant = (axis: string, variant: string, at: YamlPath): void => {
        const variants = Object.hasOwn(matrix, axis) ? Object.keys(matrix[axis]!) : [];
        if (variants.includes(variant)) return;
        const hint = suggest(variant, variants, 'variants');
        this.problems.report(at, `axis '${axis}' has no variant '${variant}'`, hint);
      };
      switch (check.kind) {
        case 'same-across':
          hasAxis(check.axis, [...path, 'axis']);
          break;
        case 'requests-undisturbed':
          if (hasAxis(check.axis, [...path, 'axis'])) {
            checkVariant(check.axis, check.baseline, [...path, 'baseline']);
          }
          this.#checkAsks(parts, check.node, [...path, 'node']);
          break;
        case 'expect':
          for (const [axis, variant] of Object.entries(check.where ?? {})) {
            if (hasAxis(axis, [...path, 'where', axis], true))
              checkVariant(axis, variant, [...path, 'where', axis]);
          }
          break;
        case 'conservation':
        case 'offload-shields-guest':
          break;
      }
      return [check];
    });
  }
}

/** The testbed as its runs see it. They cannot set the matrix, and it may be larger than all the rest. */
function withoutMatrix(base: unknown): unknown {
  if (typeof base !== 'object' || base === null) return base;
  const { matrix: _, ...rest } = base as { matrix?: unknown };
  return rest;
}

function countValues(data: unknown): number {
  if (typeof data !== 'object' || data === null) return 1;
  return Object.values(data).reduce((count: number, value) => count + countValues(value), 1);
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

function asXdpbedError(error: unknown): XdpbedError {
  if (error instanceof XdpbedError) return error;
  throw error;
}

/** `path=value`; the value is YAML, so that numbers, lists and maps can be given. */
function parseSetArgument(text: string): Assignment {
  const equals = text.indexOf('=');
  if (equals <= 0)
    throw new XdpbedError('usage', `--set '${text}' is not path=value`, {
      hint: '--set workload.config.frames=100',
    });
  const value = new YamlSource('--set', text.slice(equals + 1));
  if (value.problems.length > 0)
    throw new XdpbedError('usage', `--set '${text}': ${value.problems[0]!.message}`);
  return { path: text.slice(0, equals), value: value.value, origin: { kind: 'command-line', text } };
}

function parseOnlyArguments(
  args: readonly string[],
  matrix: NonNullable<Testbed['matrix']>,
): Record<string, string[]> {
  const only: Record<string, string[]> = {};
  for (const text of args) {
    const equals = text.indexOf('=');
    if (equals <= 0)
      throw new XdpbedError('usage', `--only '${text}' is not axis=variant`, { hint: '--only case=bridge' });
    const axis = text.slice(0, equals);
    const fail = (what: string, word: string, candidates: readonly string[]): never => {
      const near = nearest(word, candidates);
      throw new XdpbedError('usage', `--only '${text}': ${what}`, {
        hint:
          near !== undefined
            ? `did you mean '${near}'?`
            : candidates.length > 0
              ? `there are: ${candidates.join(', ')}`
              : 'the testbed has no matrix',
      });
    };
    if (!Object.hasOwn(matrix, axis))
      return fail(`the matrix has no axis '${axis}'`, axis, Object.keys(matrix));
    for (const variant of text.slice(equals + 1).split(',')) {
      if (!Object.hasOwn(matrix[axis]!, variant)) {
        return fail(`axis '${axis}' has no variant '${variant}'`, variant, Object.keys(matrix[axis]!));
      }
      (only[axis] ??= []).push(variant);
    }
  }
  return only;
}
