import type { ProblemList } from './problem-list.js';
import type { Testbed } from './testbed-schema.js';
import { suggest } from './wiring.js';

/** Reports a comparison along an axis that the matrix does not have, or with a variant that the axis does not have. */
export function checkComparison(
  { comparison }: Testbed,
  matrix: NonNullable<Testbed['matrix']>,
  problems: ProblemList,
): void {
  const { axis, baseline } = comparison ?? {};
  if ((axis === undefined) !== (baseline === undefined)) {
    problems.report(['comparison'], 'an axis and its baseline go together', undefined, true);
  }
  if (axis === undefined || baseline === undefined) return;
  const axes = Object.keys(matrix);
  if (!axes.includes(axis)) {
    const hint = suggest(axis, axes, 'axes');
    problems.report(['comparison', 'axis'], `the matrix has no axis '${axis}'`, hint);
    return;
  }
  const variants = Object.keys(matrix[axis]!);
  if (variants.includes(baseline)) return;
  const hint = suggest(baseline, variants, 'variants');
  problems.report(['comparison', 'baseline'], `axis '${axis}' has no variant '${baseline}'`, hint);
}
