import type { Comparison, RateResult, RunResult } from '../contract/result.js';
import type { CheckSection } from '../testbed/testbed-schema.js';

type NearReference = Extract<CheckSection, { kind: 'near-reference' }>;
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
