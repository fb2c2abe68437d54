import type { RenderOptions, Reporter } from '../../src/core/contract/reporter.js';
import type { CheckResult, ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { printable } from '../../src/core/printable.js';
import { formatFailure, reportedRuns, type ReportedRun } from '../../src/report/reported-runs.js';
import { attackTables } from './attack-table.js';
import { exchangeTables } from './exchange-table.js';
import { mapListing } from './map-listing.js';
import { rateTables } from './rate-table.js';
import { COLUMNS, guestNics, NOTHING, slashed, type Words } from './run-cells.js';
import { cut, drawTable, fitTable, MAX_WIDTH, paint, quantity, wrap, type Line } from './text-layout.js';

/** Lines of a list beneath the table. */
const MAX_LISTED = 20;

/**
 * What a person wants to know: one table with a row for each run, what failed, what was refused, the checks with
 * their problems, and one line that sums it up.
 */
export class TableReporter implements Reporter {
  readonly name = 'table';

  render(result: ResultDocument, { color, words = () => ({}) }: RenderOptions): string {
    const outcomes = reportedRuns(result);
    // Where all that happens is attacks, how they ended is what there is to say.
    const isAttacked = outcomes.length > 0 && outcomes.every((run) => run.result?.attacks !== undefined);
    const sections = [
      title(result),
      ...(outcomes.length === 0 || isAttacked ? [] : [table(outcomes, color, words)]),
      failures(outcomes),
      requests(result.runs),
      migrations(result.runs),
      views(result.runs),
      isAttacked ? [] : mapListing(result.runs, words),
      ...attackTables(result, color),
      ...rateTables(result, color),
      ...exchangeTables(result, color),
      isAttacked ? [] : refusals(result.runs),
      result.checks.flatMap(checkLines),
      summary(result, outcomes),
    ];
    const text = sections
      .filter((section) => section.length > 0)
      .map((section) => (typeof section === 'string' ? section : lines(section, color)))
      .join('\n\n');
    return `${text}\n`;
  }
}

function lines(section: readonly Line[], color: boolean): string {
  return section
    .flatMap((line) => wrap({ ...line, text: printable(line.text) }, MAX_WIDTH))
    .map((line) => paint(line, color))
    .join('\n');
}

/** What guests showed of their offload. */
function views(runs: ResultDocument['runs']): Line[] {
  return runs.flatMap(({ id, views: shown = [] }) =>
    shown.flatMap(({ node, command, text }): Line[] => [
      { text: `${id} ${node}$ ${command}`, tone: 'strong' },
      // No line of the report's own begins so.
      ...text.split('\n').map((line) => ({ text: `  | ${line.replaceAll('\t', '    ')}` })),
    ]),
  );
}

/** Who went to another host, and who was not let go. */
function migrations(runs: ResultDocument['runs']): Line[] {
  const lines = runs.flatMap(({ id, migrations: moves = [] }) =>
    moves.map(
      ({
        node,
        moved,
        reason,
        maps = 0,
        programs = 0,
        bytesBefore = 0,
        bytesAtSwitch = 0,
        afterFrames,
      }): Line =>
        moved
          ? {
              text: `  ${id}: ${node} moved after ${afterFrames} frames, with ${programs} programs and ${maps} maps: ${bytesBefore} bytes before, ${bytesAtSwitch} at the switch`,
            }
          : { text: `  ${id}: ${node} stayed: ${reason ?? ''}`, tone: 'bad' },
    ),
  );
  return lines.length === 0 ? [] : [{ text: 'migrations:', tone: 'strong' }, ...lines];
}

function title(result: ResultDocument): Line[] {
  const fabrics = [...new Set(result.runs.map((run) => run.fabric))];
  const on = fabrics.length === 0 ? '' : ` on fabric ${fabrics.join(', ')}`;
  return [{ text: `testbed ${result.testbed}${on}, seed ${result.seed}`, tone: 'strong' }];
}

function table(runs: readonly ReportedRun[], color: boolean, words: Words): string {
  const single = runs.every(({ result }) => result === undefined || guestNics(result).size <= 1);
  const axes = Object.keys(runs[0]!.axes).join('/');
  const head: Line[][] = [
    [{ text: 'run', tone: 'strong' }, ...(axes === '' ? [] : slashed(axes))],
    ...COLUMNS.map((column) => column.head.map((text): Line => ({ text, tone: 'strong' }))),
  ];
  const [header, ...rows] = [head, ...runs.map((run) => [slashed(run.id), ...cells(run, single, words)])].map(
    (row) => row.map((cell) => cell.map((line) => ({ ...line, text: printable(line.text) }))),
  );

  const natural = header!.map((cell, index) =>
    [cell, ...rows.map((row) => row[index]!)]
      .flat()
      .reduce((widest, line) => Math.max(widest, line.text.length), 0),
  );
  return drawTable([header!, ...rows], fitTable(natural), color);
}

/** What guests kept asking for, how long it took, and what judging their programs cost the host. */
function requests(runs: readonly RunResult[]): Line[] {
  const listed = runs.flatMap((run): Line[] => {
    const { requests = [], verification } = run;
    const asked = requests.map(({ node, request, name, sent, refused, latency }): Line => {
      const took =
        latency === undefined
          ? ''
          : `; p50 ${duration(latency.p50)}, p90 ${duration(latency.p90)}, p99 ${duration(latency.p99)}, max ${duration(latency.max)}`;
      return { text: `  ${run.id}: ${node} ${request} ${name}: ${sent} sent, ${refused} refused${took}` };
    });
    if (verification === undefined || verification.programs + verification.cancelled === 0) return asked;
    const { programs, outOfTime, outOfMemory, cancelled, longestMs, peakMemoryMiB } = verification;
    const cost = `longest ${duration(longestMs * 1000)}, at most ${Math.round(peakMemoryMiB)} MiB`;
    const ends = `${outOfTime} out of time, ${outOfMemory} out of memory, ${cancelled} cancelled`;
    return [...asked, { text: `  ${run.id}: ${quantity(programs, 'program')} judged, ${ends}; ${cost}` }];
  });
  return listed.length === 0 ? [] : [{ text: 'requests:' }, ...cut(listed, MAX_LISTED, more)];
}

/** Microseconds, as a person reads them. */
function duration(us: number): string {
  if (us < 1000) return `${us.toFixed(0)} µs`;
  return us < 1e6 ? `${(us / 1000).toFixed(1)} ms` : `${(us / 1e6).toFixed(1)} s`;
}

/** A row behind the run's name; of a run without a result, what became of it. */
function cells({ state, result }: ReportedRun, single: boolean, words: Words): (readonly Line[])[] {
  if (result !== undefined) return COLUMNS.map((column) => column.cell(result, single, words));
  const lines = state
    .split(' ')
    .map((text): Line => ({ text, tone: state === 'not started' ? undefined : 'bad' }));
  return [lines, ...COLUMNS.slice(1).map(() => NOTHING)];
}

/** What went wrong with runs: with no result because of it, or when they were taken down. */
function failures(runs: readonly ReportedRun[]): Line[] {
  const listed = runs.flatMap(({ id, failures: own }) =>
    own.flatMap((failure): Line[] => [
      { text: `  ${id}: ${formatFailure(failure)}`, tone: 'bad' },
      ...(failure.hint === undefined ? [] : [{ text: `    hint: ${failure.hint}` }]),
    ]),
  );
  return listed.length === 0 ? [] : [{ text: 'failed:' }, ...cut(listed, MAX_LISTED, more)];
}

/** What was refused, and why: programs that were not attached and commands that failed, equal ones counted. */
function refusals(runs: readonly RunResult[]): Line[] {
  const counted = new Map<string, number>();
  for (const run of runs) {
    for (const { node, program, attached, reason } of run.attachments) {
      if (!attached)
        counted.set(`${run.id}: ${node} ${program} not attached: ${reason ?? 'no reason given'}`, 1);
    }
    for (const { guest, nic, command, outcome, reason } of run.audit) {
      const what = outcome === 'violation' ? `${command} (violation)` : command;
      const text = `${run.id}: ${guest}.${nic} ${what}: ${reason}`;
      counted.set(text, (counted.get(text) ?? 0) + 1);
    }
  }
  if (counted.size === 0) return [];
  const listed = [...counted].map(([text, count]): Line => ({
    text: `  ${text}${count > 1 ? ` (${count} times)` : ''}`,
  }));
  return [{ text: 'refused:' }, ...cut(listed, MAX_LISTED, more)];
}

function checkLines(check: CheckResult): Line[] {
  const of = `${check.check}, ${quantity(check.runs.length, 'run')}`;
  return [
    {
      text: `${check.passed ? '✓' : '✗'} ${check.description} (${of})`,
      tone: check.passed ? 'good' : 'bad',
    },
    ...(check.passed || check.why === undefined ? [] : [{ text: `    why: ${check.why}` }]),
    ...cut(
      check.problems.map((problem): Line => ({ text: `    ${problem}` })),
      MAX_LISTED,
      more,
    ),
  ];
}

function more(rest: readonly Line[]): Line {
  return { text: `    … ${rest.length} more` };
}

function summary({ checks, passed }: ResultDocument, runs: readonly ReportedRun[]): Line[] {
  const of = (state: ReportedRun['state']): string => {
    const count = runs.filter((run) => run.state === state).length;
    return count === 0 ? '' : `, ${count} ${state}`;
  };
  const good = checks.filter((check) => check.passed).length;
  const verdict = checks.length === 0 ? 'no checks' : `${good} of ${quantity(checks.length, 'check')} passed`;
  return [
    {
      text: `${quantity(runs.length, 'run')}${of('failed')}${of('interrupted')}${of('not started')}, ${verdict}`,
      tone: passed ? 'good' : 'bad',
    },
  ];
}
