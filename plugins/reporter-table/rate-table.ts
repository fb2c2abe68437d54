import type { RateResult, ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { printable } from '../../src/report/printable.js';
import { drawTable, type Line } from './text-layout.js';

/**
 * What was measured: a row for each run, or for each group of runs that differ only on the axis of the testbed's
 * comparison, then with how many times as fast as its baseline each is. Beside them the figures of others, if the
 * testbed has any, and under the table what holds for all of it.
 */
export function rateTables(result: ResultDocument, color: boolean): (string | Line[])[] {
  const rated = result.runs.flatMap((run) => (run.rates ?? []).map((rate) => ({ run, rate })));
  if (rated.length === 0) return [];
  const rows = result.comparison === undefined ? plainRows(rated) : comparedRows(result, rated);
  const widths = rows[0]!.map((_, column) =>
    Math.max(...rows.flatMap((row) => row[column]!.map(({ text }) => text.length))),
  );
  return [drawTable(rows, widths, color), notes(rated)];
}

interface Rated {
  readonly run: RunResult;
  readonly rate: RateResult;
}

type Row = readonly (readonly Line[])[];

function plainRows(rated: readonly Rated[]): Row[] {
  return [
    head([['run'], ['measured', 'Mpps'], ['lowest –', 'highest'], ['hook'], ['offered', 'Mpps']]),
    ...rated.map(({ run, rate }): Row => [
      strong(label(run.id, rate, rated)),
      cell(mpps(rate.framesPerSecond.median)),
      cell(spread(rate)),
      cell(where(rate)),
      cell(mpps(rate.offeredPerSecond)),
    ]),
  ];
}

/** Groups of runs that differ only on the axis, the baseline first. */
function comparedRows({ comparison }: ResultDocument, rated: readonly Rated[]): Row[] {
  const { axis, baseline, reference } = comparison!;
  const keyOf = ({ run, rate }: Rated): string =>
    JSON.stringify([Object.entries(run.axes).filter(([name]) => name !== axis), rate.node]);
  const groups = new Map<string, Rated[]>();
  for (const each of rated) groups.set(keyOf(each), [...(groups.get(keyOf(each)) ?? []), each]);

  const header = [
    ['run'],
    ['measured', 'Mpps'],
    ['lowest –', 'highest'],
    [`÷ ${axis}`, `${baseline}`],
    ['hook'],
    ['of the', 'ceiling'],
    ...(reference === undefined
      ? []
      : [
          [reference.name, 'Mpps'],
          [reference.name, `÷ ${baseline}`],
        ]),
  ];
  const rows = [...groups.values()].flatMap((group) => {
    const base = group.find(({ run }) => run.axes[axis] === baseline);
    const theirBase = base === undefined ? undefined : reference?.mpps[base.run.id];
    return group.map(({ run, rate }): Row => {
      const theirs = reference?.mpps[run.id];
      const isBase = base?.run === run;
      const ours =
        base === undefined || isBase
          ? undefined
          : ratio(rate.framesPerSecond.median, base.rate.framesPerSecond.median);
      return [
        strong(label(run.id, rate, rated)),
        cell(mpps(rate.framesPerSecond.median)),
        cell(spread(rate)),
        cell(ours),
        cell(where(rate)),
        cell(
          rate.ceiling === undefined
            ? undefined
            : ratio(rate.framesPerSecond.median, rate.ceiling.framesPerSecond),
        ),
        ...(reference === undefined
          ? []
          : [
              cell(theirs === undefined ? undefined : theirs.toFixed(2)),
              cell(
                theirs === undefined || theirBase === undefined || isBase
                  ? undefined
                  : ratio(theirs, theirBase),
              ),
            ]),
      ];
    });
  });
  return [head(header), ...rows];
}

/** What holds for all that was measured, said once. */
function notes(rated: readonly Rated[]): Line[] {
  const said = new Set<string>();
  for (const { rate } of rated) {
    const { size, flows, seconds, samples, guest, ceiling } = rate;
    said.add(
      `frames of ${size} bytes, ${flows} flow${flows === 1 ? '' : 's'}; median of ${samples.length} × ${seconds} s; guest: ${guest}`,
    );
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

/** The run's id, and the nic where a run has several. */
function label(id: string, rate: RateResult, rated: readonly Rated[]): string {
  const several = rated.some((other) => other.run.id === id && other.rate.node !== rate.node);
  return several ? `${id} ${rate.node}` : id;
}

const where = ({ placement, hook }: RateResult): string => (placement === 'host' ? hook : '–');
const mpps = (perSecond: number): string => (perSecond / 1e6).toFixed(perSecond < 1e6 ? 3 : 2);
const spread = ({ framesPerSecond: { min, max } }: RateResult): string => `${mpps(min)} – ${mpps(max)}`;

function ratio(a: number, b: number): string | undefined {
  if (b === 0) return undefined;
  const value = a / b;
  return value < 10 ? value.toFixed(2) : value.toFixed(1);
}

const cell = (text: string | undefined): Line[] => [{ text: printable(text ?? '–') }];
const strong = (text: string): Line[] => [{ text: printable(text), tone: 'strong' }];
const head = (cells: readonly (readonly string[])[]): Row =>
  cells.map((lines) => lines.map((text): Line => ({ text: printable(text), tone: 'strong' })));
