import type { MapSpec } from '../../bpf/map-spec.js';
import { isPerCpu } from '../../bpf/per-cpu-value.js';
import { finalProgram, type GuestNicPlan, type ProgramPlan, type RunPlan } from '../contract/plan.js';
import { findMapNumber, type MapNumber, type MapNumberFound, type MapNumbers } from './map-number.js';
import type { ProblemList } from './problem-list.js';
import type { SchemaValidator } from './schema-validator.js';
import type { SoundParts } from './sound-parts.js';
import { CHECKS, type CheckSection, type Testbed } from './testbed-schema.js';
import { suggest } from './wiring.js';
import type { YamlPath } from './yaml-source.js';

/** A check with what it takes to evaluate it. */
export type ResolvedCheck = CheckSection & {
  /** Of an `expect` on a map. */
  readonly numbers?: MapNumbers;
  /** Of `same-across`. */
  readonly perCpu?: PerCpuMaps;
};

/** Per-CPU maps by the run's id, then by the nic whose program has them (`guest0.eth0`), then by name. */
export type PerCpuMaps = ReadonlyMap<string, ReadonlyMap<string, ReadonlyMap<string, MapSpec>>>;

/** What the checks are about. */
export interface CheckedRuns {
  readonly plans: readonly RunPlan[];
  /** The maps of the object that a program is read from. */
  readonly mapsOf: (program: ProgramPlan) => readonly MapSpec[];
  /** Names of a run's policies; undefined where plugins from elsewhere are among them, which have names of their own. */
  readonly policiesOf: (run: RunPlan) => readonly string[] | undefined;
}

/** The testbed's checks, each by the schema of its kind, after reporting those that are none. */
export function resolveChecks(
  parts: SoundParts,
  matrix: NonNullable<Testbed['matrix']>,
  validator: SchemaValidator,
  problems: ProblemList,
  runs: CheckedRuns,
): ResolvedCheck[] {
  const axes = Object.keys(matrix);
  return parts.testbed.checks.flatMap((section, index): ResolvedCheck[] => {
    const path = ['checks', index];
    if (!parts.has(...path) || !Object.hasOwn(CHECKS, section.kind)) return [];
    const checked = structuredClone(section);
    const violations = validator.validate(CHECKS[section.kind], checked);
    for (const violation of violations) problems.reportViolation(violation, path);
    if (violations.length > 0) return [];
    const check = checked as unknown as CheckSection;
    const hasAxis = (axis: string, at: YamlPath, onKey?: boolean): boolean => {
      if (axes.includes(axis)) return true;
      problems.report(at, `the matrix has no axis '${axis}'`, suggest(axis, axes, 'axes'), onKey);
      return false;
    };
    const checkVariant = (axis: string, variant: string, at: YamlPath): void => {
      const variants = Object.hasOwn(matrix, axis) ? Object.keys(matrix[axis]!) : [];
      if (variants.includes(variant)) return;
      const hint = suggest(variant, variants, 'variants');
      problems.report(at, `axis '${axis}' has no variant '${variant}'`, hint);
    };
    const checkWhere = (where: Readonly<Record<string, string>> = {}): void => {
      for (const [axis, variant] of Object.entries(where)) {
        if (hasAxis(axis, [...path, 'where', axis], true))
          checkVariant(axis, variant, [...path, 'where', axis]);
      }
    };
    switch (check.kind) {
      case 'same-across':
        hasAxis(check.axis, [...path, 'axis']);
        if (check.compare.includes('maps')) return [{ ...check, perCpu: findPerCpuMaps(runs) }];
        break;
      case 'requests-undisturbed':
        if (hasAxis(check.axis, [...path, 'axis'])) {
          checkVariant(check.axis, check.baseline, [...path, 'baseline']);
        }
        checkNic(parts, problems, check.node, [...path, 'node']);
        break;
      case 'outpaces':
        if (hasAxis(check.axis, [...path, 'axis'])) {
          checkVariant(check.axis, check.variant, [...path, 'variant']);
          checkVariant(check.axis, check.baseline, [...path, 'baseline']);
        }
        checkWhere(check.where);
        break;
      case 'near-reference':
        if (parts.has('comparison') && parts.testbed.comparison?.reference?.mpps === undefined)
          problems.report(path, 'there is nothing to be near to: comparison.reference.mpps is not set');
        break;
      case 'near-change':
        if (hasAxis(check.axis, [...path, 'axis']))
          checkVariant(check.axis, check.baseline, [...path, 'baseline']);
        if (parts.has('comparison') && parts.testbed.comparison?.reference?.exchanges === undefined)
          problems.report(path, 'there is nothing to be near to: comparison.reference.exchanges is not set');
        break;
      case 'expect':
        checkWhere(check.where);
        checkExpectation(check, parts, problems, path);
        checkPolicy(check, runs, problems, path);
        if (check.map !== undefined)
          return [{ ...check, numbers: locateNumbers(check, check.map, runs, problems, path) }];
        break;
      case 'attacks':
        checkWhere(check.where);
        break;
      case 'conservation':
      case 'offload-shields-guest':
        break;
    }
    return [check];
  });
}

const DEMANDS = ['equals', 'at-least', 'at-most', 'between'] as const;

/** Counters that are nobody's in particular. */
const OF_THE_RUN = /^(frames-sent$|verification\.)/;

type ExpectSection = Extract<CheckSection, { kind: 'expect' }>;

/** What an expectation's schema cannot say. */
function checkExpectation(
  check: ExpectSection,
  parts: SoundParts,
  problems: ProblemList,
  path: YamlPath,
): void {
  const { value, map, guest, nic } = check;
  checkDemand(check, problems, path);
  if ((value === undefined) === (map === undefined))
    problems.report(path, 'exactly one of value, map must be there');
  for (const key of ['key', 'member', 'cpu'] as const) {
    if (check[key] !== undefined && map === undefined)
      problems.report([...path, key], `'${key}' is of a map, and there is no 'map'`, undefined, true);
  }
  if (check.code !== undefined && value !== 'verifier.rejected')
    problems.report([...path, 'code'], `'${value ?? map}' is no rejection of the verifier`, undefined, true);
  for (const key of ['policy', 'operation'] as const) {
    if (check[key] !== undefined && !value?.startsWith('rulings.'))
      problems.report([...path, key], `'${value ?? map}' is no ruling of a policy`, undefined, true);
  }
  for (const key of ['guest', 'nic'] as const) {
    if (check[key] !== undefined && OF_THE_RUN.test(value ?? ''))
      problems.report([...path, key], `'${value}' is of the whole run`, undefined, true);
  }
  if (!parts.has('guests')) return;
  const guests = Object.entries(parts.testbed.guests);
  const isNamed = ([name, { count }]: (typeof guests)[number]): boolean =>
    guest === undefined ||
    (count === undefined
      ? name === guest
      : guest.startsWith(name) && /^\d{1,3}$/.test(guest.slice(name.length)));
  const named = guests.filter(isNamed);
  if (named.length === 0) {
    const names = guests.map(([name]) => name);
    problems.report([...path, 'guest'], `there is no guest '${guest}'`, suggest(guest!, names, 'guests'));
    return;
  }
  const nics = [...new Set(named.flatMap(([, { nics: own }]) => Object.keys(own)))];
  if (nic !== undefined && !nics.includes(nic))
    problems.report([...path, 'nic'], `there is no nic '${nic}'`, suggest(nic, nics, 'nics'));
}

/** The policy that an expectation names is in each of its runs. */
function checkPolicy(
  { policy, value, where }: ExpectSection,
  { plans, policiesOf }: CheckedRuns,
  problems: ProblemList,
  path: YamlPath,
): void {
  if (policy === undefined || !value?.startsWith('rulings.')) return;
  for (const plan of plansAt(where, plans)) {
    const policies = policiesOf(plan);
    if (policies === undefined || policies.includes(policy)) continue;
    const hint = suggest(policy, policies, 'policies');
    problems.report([...path, 'policy'], `there is no policy '${policy}' in run ${plan.id}`, hint);
    return;
  }
}

function checkDemand(check: ExpectSection, problems: ProblemList, path: YamlPath): void {
  const given = DEMANDS.filter((demand) => check[demand] !== undefined);
  if (given.length !== 1) problems.report(path, `exactly one of ${DEMANDS.join(', ')} must be there`);
  for (const demand of given) {
    const { [demand]: limits } = check;
    const before = problems.count;
    for (const [index, limit] of [limits].flat().entries()) {
      const at = [...path, demand, ...(demand === 'between' ? [index] : [])];
      if (typeof limit === 'number' && !Number.isSafeInteger(limit))
        problems.report(at, `${limit} is not an exact integer`, 'write all of its digits');
      else if (check.map === undefined && BigInt(limit!) < 0n)
        problems.report(at, `${limit} is out of range: it must be >= 0`);
    }
    if (demand !== 'between' || problems.count > before) continue;
    const [low, high] = check.between!;
    if (BigInt(low!) > BigInt(high!))
      problems.report([...path, demand], `${low} is more than ${high}`, 'the lower one comes first');
  }
}

/** Where the number stands in every run and nic that the check is about, after reporting where it is in none. */
function locateNumbers(
  check: ExpectSection,
  name: string,
  { plans, mapsOf }: CheckedRuns,
  problems: ProblemList,
  path: YamlPath,
): MapNumbers {
  const numbers = new Map<string, Map<string, MapNumber>>();
  // Of many nics that run the same program the number is at the same place.
  const known = new Map<MapSpec, Map<number, MapNumberFound>>();
  const names = new Set<string>();
  let isThere = false;
  for (const { plan, node, nic } of nicsOf(check, plans)) {
    const program = nic.program === undefined ? undefined : plan.programs[nic.program];
    if (program === undefined) continue;
    const maps = mapsOf(program);
    const map = maps.find((candidate) => candidate.name === name);
    for (const other of maps) names.add(other.name);
    if (map === undefined) continue;
    isThere = true;
    const entries = program.maxEntries?.[name] ?? map.maxEntries;
    const ofSizes = known.get(map) ?? new Map<number, MapNumberFound>();
    known.set(map, ofSizes);
    const found = ofSizes.get(entries) ?? findMapNumber(map, { ...check, map: name }, entries);
    ofSizes.set(entries, found);
    if ('number' in found) {
      const ofRun = numbers.get(plan.id) ?? new Map<string, MapNumber>();
      numbers.set(plan.id, ofRun.set(node, found.number));
      continue;
    }
    for (const { path: within, message, hint, onKey } of found.problems)
      problems.report([...path, ...within], message, hint, onKey);
  }
  if (!isThere && names.size > 0) {
    const hint = suggest(name, [...names], 'maps');
    problems.report([...path, 'map'], `no program of these guests has a map '${name}'`, hint);
  }
  return numbers;
}

function findPerCpuMaps({ plans, mapsOf }: CheckedRuns): PerCpuMaps {
  const found = new Map<string, Map<string, ReadonlyMap<string, MapSpec>>>();
  // Of many nics that run the same program they are the same.
  const known = new Map<ProgramPlan, ReadonlyMap<string, MapSpec>>();
  for (const { plan, node, nic } of nicsOf({}, plans)) {
    const name = finalProgram(nic);
    const program = name === undefined ? undefined : plan.programs[name];
    if (program === undefined) continue;
    const maps =
      known.get(program) ??
      new Map(mapsOf(program).flatMap((map) => (isPerCpu(map) ? [[map.name, map] as const] : [])));
    known.set(program, maps);
    if (maps.size === 0) continue;
    const ofRun = found.get(plan.id) ?? new Map<string, ReadonlyMap<string, MapSpec>>();
    found.set(plan.id, ofRun.set(node, maps));
  }
  return found;
}

function* nicsOf(
  { where, guest, nic }: Pick<ExpectSection, 'where' | 'guest' | 'nic'>,
  plans: readonly RunPlan[],
): Generator<{ readonly plan: RunPlan; readonly node: string; readonly nic: GuestNicPlan }> {
  for (const plan of plansAt(where, plans)) {
    for (const { name, nics } of plan.guests) {
      if (guest !== undefined && name !== guest) continue;
      for (const each of nics) {
        if (nic === undefined || each.name === nic) yield { plan, node: `${name}.${each.name}`, nic: each };
      }
    }
  }
}

function plansAt(where: ExpectSection['where'], plans: readonly RunPlan[]): RunPlan[] {
  return plans.filter((plan) =>
    Object.entries(where ?? {}).every(([axis, variant]) => plan.axes[axis] === variant),
  );
}

/** The nic that a check names is there; whether it asks for anything a run may decide. */
function checkNic(parts: SoundParts, problems: ProblemList, node: string, path: YamlPath): void {
  if (!parts.has('guests')) return;
  const guests = Object.entries(parts.testbed.guests);
  const nodes = guests.flatMap(([guest, { nics }]) => Object.keys(nics).map((nic) => `${guest}.${nic}`));
  // How many there are of a guest a variant may decide.
  const isCopy = guests.some(
    ([guest, { count, nics }]) =>
      count !== undefined &&
      Object.keys(nics).some(
        (nic) =>
          node.startsWith(guest) &&
          node.endsWith(`.${nic}`) &&
          /^\d{1,3}$/.test(node.slice(guest.length, -nic.length - 1)),
      ),
  );
  if (!nodes.includes(node) && !isCopy) {
    problems.report(path, `there is no guest nic '${node}'`, suggest(node, nodes, 'nics'));
  }
}
