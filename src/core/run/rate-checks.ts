import type { Comparison, RateResult, RunResult } from '../contract/result.js';
import { exchangeChange, referenceChange } from '../measurement/exchange-figures.js';
import type { CheckSection } from '../testbed/testbed-schema.js';

type NearReference = Extract<CheckSection, { kind: 'near-reference' }>;
type NearChange = Extract<CheckSection, { kind: 'near-change' }>;
type Outpaces = Extract<CheckSection, { kind: 'outpaces' }>;

/** Runs whose rate has a figure to be compared with, and which are too far from theirs, or in another order. */
export function nearReference(
  { within, ordered, fabric }: NearReference,
  runs: readonly RunResult[],
  reference: Comparison['reference'],
): [RunResult[], string[]] {
  const cells = runs.flatMap((run) => {
    const theirs = reference?.mpps?.[run.id];
    const ours = rateOf(run);
    if (theirs === undefined || ours === undefined) return [];
    return fabric === undefined || run.fabric === fabric ? [{ run, theirs, ours: mpps(ours) }] : [];
  });
  const problems = cells
    .filter(({ theirs, ours }) => Math.abs(ours / theirs - 1) * 100 > within)
    .map(({ run, theirs, ours }) => `${run.id}: ${ours.toFixed(3)} Mpps, ${reference!.name} has ${theirs}`);
  if (ordered) {
    cells.forEach((a, index) => {
      for (const b of cells.slice(index + 1)) {
        if (Math.sign(a.theirs - b.theirs) === Math.sign(a.ours - b.ours) || a.theirs === b.theirs) continue;
        const [slow, fast] = a.theirs < b.theirs ? [a, b] : [b, a];
        problems.push(`${fast.run.id} is not faster than ${slow.run.id}, in ${reference!.name} it is`);
      }
    });
  }
  return [cells.map(({ run }) => run), problems];
}

/**
 * Runs with exchanges that others have figures of in the baseline, too; and which of these changed by another percentage
 * than theirs, or were not measured.
 */
export function nearChange(
  { axis, baseline, within }: NearChange,
  groups: Iterable<readonly RunResult[]>,
  reference: Comparison['reference'],
): [RunResult[], string[]] {
  const looked = new Set<RunResult>();
  const problems: string[] = [];
  for (const group of groups) {
    const base = group.find(({ axes }) => axes[axis] === baseline);
    for (const run of group) {
      if (base === undefined || run === base) continue;
      for (const exchange of run.exchanges ?? []) {
        const theirs = referenceChange(reference, run, base, exchange);
        if (theirs === undefined) continue;
        looked.add(base).add(run);
        const ours = exchangeChange(exchange, base);
        const name = `${run.id} ${exchange.kind}/${exchange.size}`;
        if (ours === undefined) problems.push(`${name}: not measured, or not in ${base.id}`);
        else if (!(Math.abs(ours - theirs) <= within))
          problems.push(`${name}: ${percent(ours)}, ${reference!.name} has ${percent(theirs)}`);
      }
    }
  }
  return [[...looked], problems];
}

function percent(value: number): string {
  return `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)} %`;
}

/** Runs of the variant that were compared with the baseline, and those that were not faster by as much. */
export function outpaces(
  { axis, variant, baseline, where = {}, 'at-least-times': times }: Outpaces,
  groups: Iterable<readonly RunResult[]>,
): [RunResult[], string[]] {
  const compared: RunResult[] = [];
  const problems: string[] = [];
  for (const group of groups) {
    const chosen = group.filter(({ axes }) =>
      Object.entries(where).every(([other, value]) => axes[other] === value),
    );
    const fast = chosen.find(({ axes }) => axes[axis] === variant);
    const slow = chosen.find(({ axes }) => axes[axis] === baseline);
    if (fast === undefined || slow === undefined) continue;
    compared.push(fast, slow);
    const [ours, theirs] = [rateOf(fast), rateOf(slow)];
    if (ours === undefined || theirs === undefined) {
      problems.push(`${fast.id}: nothing was measured that could be compared with ${slow.id}`);
      continue;
    }
    const ratio = ours.framesPerSecond.median / theirs.framesPerSecond.median;
    if (!(ratio >= times))
      problems.push(
        `${fast.id}: ${mpps(ours).toFixed(3)} Mpps is ${ratio.toFixed(2)} times the ${mpps(theirs).toFixed(3)} of ${slow.id}`,
      );
  }
  return [compared, problems];
}

/** Of nics that were loaded together, all of them; else of the first. */
function rateOf({ totalRate, rates }: RunResult): Pick<RateResult, 'framesPerSecond'> | undefined {
  return totalRate ?? rates?.[0];
}

const mpps = ({ framesPerSecond }: Pick<RateResult, 'framesPerSecond'>): number =>
  framesPerSecond.median / 1e6;
