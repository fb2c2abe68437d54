import type { Comparison, RateResult, ResultDocument, RunResult } from '../../src/core/contract/result.js';
import {
  cell,
  comparedWith,
  drawRows,
  groupBy,
  head,
  isBaseline,
  ratio,
  strong,
  type Row,
} from './comparison-rows.js';
import { printable } from '../../src/core/printable.js';
import { quantity, type Line } from './text-layout.js';

/**
 * What was measured: a row for each run, or for each group of runs that differ only on the axis of the testbed's
 * comparison, then with how many times as fast as its baseline each is. Beside them the figures of others, if the
 * testbed has any, and under the table what holds for all of it.
 */
export function rateTables(result: ResultDocument, color: boolean): (string | Line[])[] {
  const rated = result.runs.flatMap(ratesOf);
  const unmeasured = result.runs.flatMap(({ id, ratesUnmeasured: why }): Line[] =>
    why === undefined ? [] : [{ text: printable(`  ${id}: no rates: ${why}`) }],
  );
  if (rated.length === 0) return unmeasured.length === 0 ? [] : [unmeasured];
  const rows = result.comparison === undefined ? plainRows(rated) : comparedRows(result.comparison, rated);
  return [drawRows(rows, color), [...notes(rated), ...unmeasured]];
}

interface Rated {
  readonly run: RunResult;
  readonly rate: RateResult;
  /** The rates that it is the sum of, where nics were loaded together. */
  readonly of?: readonly RateResult[] | undefined;
}

/** Of nics that were loaded together only the sum: there may be very many. */
function ratesOf(run: RunResult): Rated[] {
  const { rates = [], totalRate } = run;
  const [first] = rates;
  if (totalRate === undefined || first === undefined) return rates.map((rate) => ({ run, rate }));
  const { framesPerSecond, samples, offeredPerSecond } = totalRate;
  const { explanation, rate: wanted } = first;
  const sum = (part: (rate: RateResult) => number): number =>
    rates.reduce((all, rate) => all + part(rate), 0);
  const rate: RateResult = {
    ...first,
    node: 'all',
    framesPerSecond,
    samples,
    offeredPerSecond,
    ...(wanted === undefined ? {} : { rate: sum((each) => each.rate ?? 0) }),
    unexplained: sum(({ unexplained }) => Math.abs(unexplained)),
    ...(explanation === undefined ? {} : { explanation: { ...explanation, bottleneck: limits(rates) } }),
  };
  return [{ run, rate, of: rates }];
}

/** Who limits the rates, and of several kinds of limits how many rates each. */
function limits(rates: readonly RateResult[]): string {
  const groups = groupBy(rates, ({ explanation }) => (explanation?.bottleneck ?? '–').replace(/\d+/g, '*'));
  return groups
    .map((group) => {
      const names = new Set(group.map(({ explanation }) => explanation?.bottleneck ?? '–'));
      const [name] = names;
      const what = names.size === 1 ? name! : name!.replace(/\d+/g, '*');
      return groups.length === 1 ? what : `${what} (${group.length})`;
    })
    .join(', ');
}

/** Cells of what each of several nics had. */
function shares(of: readonly RateResult[] | undefined, { totalRate }: RunResult): Line[][] {
  const each = of?.map(({ framesPerSecond }) => framesPerSecond.median) ?? [];
  return [
    cell(of === undefined ? undefined : String(of.length)),
    cell(of === undefined ? undefined : `${mpps(Math.min(...each))} – ${mpps(Math.max(...each))}`),
    cell(totalRate?.fairness.toFixed(3)),
  ];
}
const SHARES = [
  ['nics', 'together'],
  ['each', 'Mpps'],
  ['fair-', 'ness'],
];

function plainRows(rated: readonly Rated[]): Row[] {
  const isExplained = rated.some(({ rate }) => rate.explanation !== undefined);
  const isShared = rated.some(({ of }) => of !== undefined);
  return [
    head([
      ['run'],
      [isExplained ? 'predicted' : 'measured', 'Mpps'],
      ['lowest –', 'highest'],
      ...(isShared ? SHARES : []),
      ['hook'],
      ['offered', 'Mpps'],
      ...(isExplained ? [['limited', 'by']] : []),
    ]),
    ...rated.map(({ run, rate, of }): Row => [
      strong(label(run.id, rate, rated)),
      cell(mpps(rate.framesPerSecond.median)),
      cell(spread(rate)),
      ...(isShared ? shares(of, run) : []),
      cell(where(rate)),
      cell(mpps(rate.offeredPerSecond)),
      ...(isExplained ? [cell(rate.explanation?.bottleneck)] : []),
    ]),
  ];
}

/** Groups of runs that differ only on the axis, if there is one. */
function comparedRows({ axis, baseline, reference }: Comparison, rated: readonly Rated[]): Row[] {
  const groups = groupBy(rated, ({ run, rate }) => comparedWith(run, axis, rate.node));
  const figures = reference?.mpps;
  const isExplained = rated.some(({ rate }) => rate.explanation !== undefined);
  const hasCeiling = rated.some(({ rate }) => rate.ceiling !== undefined);
  const isPaced = rated.some(({ rate }) => rate.rate !== undefined);
  const isShared = rated.some(({ of }) => of !== undefined);
  const hasBaseline = baseline !== undefined;

  const header = [
    ['run'],
    [isExplained ? 'predicted' : 'measured', 'Mpps'],
    ['lowest –', 'highest'],
    ...(isShared ? SHARES : []),
    ...(hasBaseline ? [[`÷ ${axis}`, baseline]] : []),
    ...(isPaced ? [['offered', 'Mpps']] : []),
    ['hook'],
    ...(hasCeiling ? [['of the', 'ceiling']] : []),
    ...(figures === undefined ? [] : [[reference!.name, 'Mpps'], ...(isExplained ? [['off', 'by']] : [])]),
    ...(figures === undefined || !hasBaseline ? [] : [[reference!.name, `÷ ${baseline}`]]),
    ...(isExplained ? [['limited', 'by']] : []),
  ];
  const rows = groups.flatMap((group) => {
    const base = group.find(({ run }) => isBaseline(run, axis, baseline));
    const theirBase = base === undefined ? undefined : figures?.[base.run.id];
    return group.map(({ run, rate, of }): Row => {
      const theirs = figures?.[run.id];
      const isBase = base?.run === run;
      const ours =
        base === undefined || isBase
          ? undefined
          : ratio(rate.framesPerSecond.median, base.rate.framesPerSecond.median);
      return [
        strong(label(run.id, rate, rated)),
        cell(mpps(rate.framesPerSecond.median)),
        cell(spread(rate)),
        ...(isShared ? shares(of, run) : []),
        ...(hasBaseline ? [cell(ours)] : []),
        ...(isPaced ? [cell(mpps(rate.offeredPerSecond))] : []),
        cell(where(rate)),
        ...(hasCeiling
          ? [
              cell(
                rate.ceiling === undefined
                  ? undefined
                  : ratio(rate.framesPerSecond.median, rate.ceiling.framesPerSecond),
              ),
            ]
          : []),
        ...(figures === undefined
          ? []
          : [cell(theirs?.toFixed(2)), ...(isExplained ? [cell(offBy(rate, theirs))] : [])]),
        ...(figures === undefined || !hasBaseline
          ? []
          : [
              cell(
                theirs === undefined || theirBase === undefined || isBase
                  ? undefined
                  : ratio(theirs, theirBase),
              ),
            ]),
        ...(isExplained ? [cell(rate.explanation?.bottleneck)] : []),
      ];
    });
  });
  return [head(header), ...rows];
}

/** What holds for all that was measured, said once. */
function notes(rated: readonly Rated[]): Line[] {
  const said = new Set<string>();
  for (const { rate } of rated) {
    const { seconds, samples, guest, ceiling } = rate;
    said.add(`${traffic(rate)}; median of ${samples.length} × ${seconds} s; guest: ${guest}`);
    if (ceiling !== undefined)
      said.add(
        `ceiling: ${ceiling.what}, ${mpps(ceiling.framesPerSecond)} Mpps in ${rated.find((each) => each.rate === rate)!.run.id}`,
      );
  }
  const unexplained = rated.reduce((sum, { rate }) => sum + Math.abs(rate.unexplained), 0);
  return [
    ...[...said].map((text): Line => ({ text: `  ${text}` })),
    { text: `  ${unexplained} frames unexplained`, tone: unexplained === 0 ? undefined : 'bad' },
  ];
}

function traffic({ size, flows = 1, workloadFrames, rate }: RateResult): string {
  const frames =
    workloadFrames === undefined
      ? `frames of ${size} bytes, ${quantity(flows, 'flow')}`
      : `${quantity(workloadFrames, 'frame')} of the workload over and over, ${size.toFixed(0)} bytes on average`;
  return rate === undefined ? frames : `${frames}, ${mpps(rate)} Mpps wanted`;
}

/** The run's id, and the nic where a run has several. */
function label(id: string, rate: RateResult, rated: readonly Rated[]): string {
  const several = rated.some((other) => other.run.id === id && other.rate.node !== rate.node);
  return several ? `${id} ${rate.node}` : id;
}

/** How far a prediction is from the figure of somebody who measured it. */
function offBy(rate: RateResult, theirs: number | undefined): string | undefined {
  if (theirs === undefined) return undefined;
  const off = (rate.framesPerSecond.median / 1e6 / theirs - 1) * 100;
  return `${off < 0 ? '−' : '+'}${Math.abs(off).toFixed(1)} %`;
}

const where = ({ placement, hook }: RateResult): string => (placement === 'host' ? hook : '–');
const mpps = (perSecond: number): string => (perSecond / 1e6).toFixed(perSecond < 1e6 ? 3 : 2);
const spread = ({ framesPerSecond: { min, max } }: RateResult): string => `${mpps(min)} – ${mpps(max)}`;
