import type { ProblemList } from './problem-list.js';
import type { SchemaValidator } from './schema-validator.js';
import type { SoundParts } from './sound-parts.js';
import { CHECKS, type CheckSection, type Testbed } from './testbed-schema.js';
import { suggest } from './wiring.js';
import type { YamlPath } from './yaml-source.js';

/** The testbed's checks, each by the schema of its kind, after reporting those that are none. */
export function resolveChecks(
  parts: SoundParts,
  matrix: NonNullable<Testbed['matrix']>,
  validator: SchemaValidator,
  problems: ProblemList,
): CheckSection[] {
  const axes = Object.keys(matrix);
  return parts.testbed.checks.flatMap((section, index) => {
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

/** What an expectation's schema cannot say. */
function checkExpectation(
  check: Extract<CheckSection, { kind: 'expect' }>,
  parts: SoundParts,
  problems: ProblemList,
  path: YamlPath,
): void {
  const { value, guest, nic, between } = check;
  if (DEMANDS.filter((demand) => check[demand] !== undefined).length !== 1)
    problems.report(path, `exactly one of ${DEMANDS.join(', ')} must be there`);
  if (between !== undefined && between[0]! > between[1]!)
    problems.report(
      [...path, 'between'],
      `${between[0]} is more than ${between[1]}`,
      'the lower one comes first',
    );
  for (const key of ['policy', 'operation'] as const) {
    if (check[key] !== undefined && !value.startsWith('rulings.'))
      problems.report([...path, key], `'${value}' is no ruling of a policy`, undefined, true);
  }
  for (const key of ['guest', 'nic'] as const) {
    if (check[key] !== undefined && OF_THE_RUN.test(value))
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
