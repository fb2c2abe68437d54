import { readFile } from 'node:fs/promises';
import { dirname, resolve as resolvePath } from 'node:path';
import { XdpbedError, messageOf } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { readAssembly } from '../../bpf/assembly-object.js';
import { readObject } from '../../bpf/elf/object-spec.js';
import { selectProgram } from '../offload/select-program.js';
import type { Plugin, Role } from '../contract/plugin.js';
import type { MapPreset, PresetValue, ProgramPlan, RunPlan } from '../contract/plan.js';
import type { PluginRegistry } from '../plugin/plugin-registry.js';
import {
  assign,
  combinationCount,
  expandMatrix,
  MAX_RUNS,
  type Assignment,
  type Combination,
} from './matrix.js';
import { encodePreset, type PresetNames } from './preset-value.js';
import { ProblemList } from './problem-list.js';
import { SchemaValidator, type Violation } from './schema-validator.js';
import { CHECKS, TestbedSchema, type CheckSection, type PluginUse, type Testbed } from './testbed-schema.js';
import { attachedPrograms, buildHostPlan, buildGuestPlans, presetNames } from './run-plan.js';
import { checkWiring, suggest } from './wiring.js';
import { YamlSource, type YamlPath } from './yaml-source.js';

/** A plugin that a testbed names, with its checked config (defaults filled in). */
export interface PluginChoice {
  readonly plugin: Plugin;
  readonly config: unknown;
}

/** One run with the plugins that do its work. */
export interface ResolvedRun {
  readonly plan: RunPlan;
  readonly fabric: PluginChoice;
  readonly transport: PluginChoice;
  readonly executor: PluginChoice;
  readonly mapBackend: PluginChoice;
  readonly verifiers: { readonly rule: 'all' | 'any' | 'first'; readonly choices: readonly PluginChoice[] };
  readonly policies: readonly PluginChoice[];
  readonly workload: PluginChoice;
}

/** A testbed that has no problems: everything found, checked and expanded. Nothing has been started. */
export interface ResolvedTestbed {
  readonly name: string;
  readonly file: string;
  readonly seed: bigint;
  readonly reporter: PluginChoice;
  readonly runs: readonly ResolvedRun[];
  readonly checks: readonly CheckSection[];
  /** `--only` left out some of the runs. */
  readonly narrowed: boolean;
  /** Finds an executor by name as the file itself would, for one that is made of others. */
  readonly findExecutor: (name: string) => Promise<PluginChoice>;
}

export interface ResolveOptions {
  /** `path=value` arguments; the value is read as YAML. */
  readonly set?: readonly string[] | undefined;
  /** `axis=variant` arguments. */
  readonly only?: readonly string[] | undefined;
  readonly seed?: bigint | undefined;
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
  return new Resolver(source, problems, registry).resolve(options);
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

class Resolver {
  readonly #validator = new SchemaValidator();
  readonly #folder: string;
  readonly #objects = new Map<string, Promise<ObjectSpec | XdpbedError>>();

  constructor(
    readonly source: YamlSource,
    readonly problems: ProblemList,
    readonly registry: PluginRegistry,
  ) {
    this.#folder = resolvePath(dirname(source.file));
  }

  async resolve(options: ResolveOptions): Promise<ResolvedTestbed> {
    const base = structuredClone(this.source.value);
    const fromCommandLine = (options.set ?? []).map(parseSetArgument);
    this.#apply(base, fromCommandLine);
    this.problems.within(fromCommandLine);

    // The file by itself first: a mistake in it is told once, not once for each variant.
    const validated = this.#validate(structuredClone(base));
    if (validated === undefined) this.problems.throwIfAny();
    const testbed = validated!;
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

    const runs: ResolvedRun[] = [];
    const combinations = expandMatrix(matrix, only);
    this.#checkMatrixPaths(combinations, fromCommandLine);
    for (const combination of combinations) {
      const run = await this.#resolveVariant(base, fromCommandLine, combination);
      if (run !== undefined) runs.push(run);
    }
    this.problems.within(fromCommandLine);
    const checks = this.#resolveChecks(testbed, Object.keys(matrix), matrix);
    const reporter = await this.#choose('reporter', testbed.plugins.reporter, ['plugins', 'reporter']);
    this.problems.throwIfAny();
    return {
      name: testbed.name,
      file: this.source.file,
      seed: options.seed ?? BigInt(testbed.seed),
      reporter: reporter!,
      runs,
      checks,
      narrowed: combinations.length < combinationCount(matrix),
      findExecutor: (name) => choosePlugin(this.registry, 'executor', name, this.#folder),
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

  #apply(data: unknown, assignments: readonly Assignment[]): void {
    for (const assignment of assignments) {
      const problem = assign(data, assignment.path, assignment.value, TestbedSchema);
      if (problem !== undefined) this.problems.reportAssignment(assignment, problem);
    }
  }

  /** The testbed with defaults filled in, or undefined after reporting why it is none. */
  #validate(data: unknown): Testbed | undefined {
    const violations = this.#validator.validate(TestbedSchema, data);
    for (const violation of violations) this.problems.reportViolation(violation);
    return violations.length === 0 ? (data as Testbed) : undefined;
  }

  async #resolveVariant(
    base: unknown,
    fromCommandLine: readonly Assignment[],
    combination: Combination,
  ): Promise<ResolvedRun | undefined> {
    const data = structuredClone(base);
    this.#apply(data, combination.assignments);
    this.problems.within([...fromCommandLine, ...combination.assignments]);
    const testbed = this.#validate(data);
    if (testbed === undefined) return undefined;

    const before = this.problems.count;
    checkWiring(testbed, (path, message, hint, onKey) => this.problems.report(path, message, hint, onKey));
    const { plugins } = testbed;
    const fabric = await this.#choose('fabric', plugins.fabric, ['plugins', 'fabric']);
    const transport = await this.#choose('transport', plugins.transport, ['plugins', 'transport']);
    const executor = await this.#choose('executor', plugins.executor, ['plugins', 'executor']);
    const mapBackend = await this.#choose('map-backend', plugins['map-backend'], ['plugins', 'map-backend']);
    const workload = await this.#choose('workload', testbed.workload, ['workload']);
    const verifiers = await this.#chooseVerifiers(testbed);
    const policies = await this.#chooseAll('policy', testbed.policies, ['policies']);
    const programs = await this.#resolvePrograms(testbed, presetNames(testbed));
    if (
      this.problems.count > before ||
      fabric === undefined ||
      transport === undefined ||
      executor === undefined
    )
      return undefined;
    if (
      mapBackend === undefined ||
      workload === undefined ||
      verifiers === undefined ||
      policies === undefined
    )
      return undefined;

    const attached = attachedPrograms(testbed);
    const plan: RunPlan = {
      id: Object.values(combination.axes).join('/') || 'default',
      axes: combination.axes,
      host: buildHostPlan(testbed),
      guests: buildGuestPlans(testbed),
      programs: Object.fromEntries(Object.entries(programs).filter(([name]) => attached.has(name))),
    };
    return { plan, fabric, transport, executor, mapBackend, workload, policies, verifiers };
  }

  async #choose(
    role: Role,
    { use, config = {} }: PluginUse,
    path: YamlPath,
  ): Promise<PluginChoice | undefined> {
    let plugin: Plugin;
    try {
      plugin = await this.registry.find(role, use, this.#folder);
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      this.problems.report([...path, 'use'], error.message, error.hint);
      return undefined;
    }
    const checked = structuredClone(config);
    let violations: Violation[];
    try {
      violations = this.#validator.validate(plugin.configSchema, checked);
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      this.problems.report([...path, 'use'], `'${use}' is not a usable ${role} plugin: ${error.message}`);
      return undefined;
    }
    for (const violation of violations) this.problems.reportViolation(violation, [...path, 'config']);
    return violations.length === 0 ? { plugin, config: checked } : undefined;
  }

  async #chooseAll(
    role: Role,
    uses: readonly PluginUse[],
    path: YamlPath,
  ): Promise<PluginChoice[] | undefined> {
    const choices: PluginChoice[] = [];
    for (const [index, use] of uses.entries()) {
      const choice = await this.#choose(role, use, [...path, index]);
      if (choice !== undefined) choices.push(choice);
    }
    return choices.length === uses.length ? choices : undefined;
  }

  async #chooseVerifiers(testbed: Testbed): Promise<ResolvedRun['verifiers'] | undefined> {
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
    return { rule: rule ?? 'all', choices: choices as PluginChoice[] };
  }

  async #resolvePrograms(testbed: Testbed, names: PresetNames): Promise<Record<string, ProgramPlan>> {
    const programs: Record<string, ProgramPlan> = {};
    for (const [name, section] of Object.entries(testbed.programs)) {
      const at = ['programs', name];
      const path = resolvePath(this.#folder, section.object);
      const object = await this.#readObject(path);
      if (object instanceof XdpbedError) {
        this.problems.report([...at, 'object'], `${section.object}: ${object.message}`, object.hint);
        continue;
      }
      const selected = selectProgram(object, section.section);
      if ('problem' in selected) {
        this.problems.report(
          [...at, section.section === undefined ? 'object' : 'section'],
          selected.problem,
          selected.hint,
        );
        continue;
      }
      if (selected.program.unsupported !== undefined) {
        this.problems.report([...at, 'object'], `${section.object}: ${selected.program.unsupported}`);
        continue;
      }
      const presets: Record<string, MapPreset[]> = {};
      for (const [mapName, entries] of Object.entries(section.maps ?? {})) {
        const map = object.maps.find((candidate) => candidate.name === mapName);
        if (map === undefined) {
          const declared = object.maps.map((candidate) => candidate.name);
          this.problems.report(
            [...at, 'maps', mapName],
            `${section.object} has no map '${mapName}'`,
            suggest(mapName, declared, 'maps'),
            true,
          );
          continue;
        }
        presets[mapName] = entries.flatMap((entry, index) => {
          const where = [...at, 'maps', mapName, index];
          const key = this.#encode(entry.key, map.keySize, map.keyType, names, [...where, 'key']);
          const value = this.#encode(entry.value, map.valueSize, map.valueType, names, [...where, 'value']);
          return key === undefined || value === undefined ? [] : [{ key, value }];
        });
      }
      programs[name] = { name, object: path, objectName: section.object, section: section.section, presets };
    }
    return programs;
  }

  #encode(
    value: unknown,
    size: number,
    type: BtfTypeRef | undefined,
    names: PresetNames,
    path: YamlPath,
  ): string | undefined {
    const encoded = encodePreset(value as PresetValue, size, names, type);
    if ('bytes' in encoded) return Buffer.from(encoded.bytes).toString('hex');
    const near =
      encoded.candidates === undefined
        ? undefined
        : suggest(JSON.stringify(value), encoded.candidates, 'interfaces');
    this.problems.report(path, encoded.problem, near);
    return undefined;
  }

  #readObject(path: string): Promise<ObjectSpec | XdpbedError> {
    let object = this.#objects.get(path);
    if (object === undefined) {
      object = readObjectFile(path).catch((error: unknown) => {
        if (error instanceof XdpbedError) return error;
        throw error;
      });
      this.#objects.set(path, object);
    }
    return object;
  }

  #resolveChecks(
    testbed: Testbed,
    axes: readonly string[],
    matrix: NonNullable<Testbed['matrix']>,
  ): CheckSection[] {
    return testbed.checks.flatMap((section, index) => {
      const path = ['checks', index];
      const checked = structuredClone(section);
      const violations = this.#validator.validate(CHECKS[section.kind], checked);
      for (const violation of violations) this.problems.reportViolation(violation, path);
      if (violations.length > 0) return [];
      const check = checked as unknown as CheckSection;
      if (check.kind === 'same-across' && !axes.includes(check.axis)) {
        this.problems.report(
          [...path, 'axis'],
          `the matrix has no axis '${check.axis}'`,
          suggest(check.axis, axes, 'axes'),
        );
      }
      if (check.kind === 'expect') {
        for (const [axis, variant] of Object.entries(check.where ?? {})) {
          const variants = Object.hasOwn(matrix, axis) ? Object.keys(matrix[axis]!) : undefined;
          if (variants === undefined) {
            this.problems.report(
              [...path, 'where', axis],
              `the matrix has no axis '${axis}'`,
              suggest(axis, axes, 'axes'),
              true,
            );
          } else if (!variants.includes(variant)) {
            this.problems.report(
              [...path, 'where', axis],
              `axis '${axis}' has no variant '${variant}'`,
              suggest(variant, variants, 'variants'),
            );
          }
        }
      }
      return [check];
    });
  }
}

/** A plugin by the name a testbed file in `folder` would use. Throws `usage` for a config it does not take. */
export async function choosePlugin(
  registry: PluginRegistry,
  role: Role,
  name: string,
  folder: string,
  config: unknown = {},
): Promise<PluginChoice> {
  const plugin = await registry.find(role, name, folder);
  const checked = structuredClone(config);
  const violations = new SchemaValidator().validate(plugin.configSchema, checked);
  if (violations.length > 0) {
    const { path, message } = violations[0]!;
    throw new XdpbedError('usage', `${role} ${name}: ${path.join('.')}: ${message}`);
  }
  return { plugin, config: checked };
}

/**
 * Reads an ELF object, or a program as text when the file is called `.s`. Throws `file-unreadable`,
 * `object-invalid`, `object-unsupported` or `asm-invalid`.
 */
export async function readObjectFile(path: string): Promise<ObjectSpec> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    throw new XdpbedError('file-unreadable', missing ? 'there is no such file' : messageOf(cause), { cause });
  }
  return path.endsWith('.s') ? readAssembly(new TextDecoder().decode(bytes), path) : readObject(bytes, path);
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
