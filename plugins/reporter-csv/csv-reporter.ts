import type { Reporter } from '../../src/core/contract/reporter.js';
import {
  emptyVerdictCounts,
  FATES,
  HOOK_SITES,
  sumControl,
  sumFates,
  sumRulings,
  sumVerdicts,
  type Fate,
  type LinkResult,
  type ResultDocument,
  type RunFailure,
  type RunResult,
  type VerdictCounts,
} from '../../src/core/contract/result.js';
import { formatMapEntry } from '../../src/report/map-entry.js';
import { exchangeFigure } from '../../src/core/measurement/exchange-figures.js';
import { exchangeName } from '../../src/report/measured-figures.js';
import { printable } from '../../src/core/printable.js';
import { reportedRuns, type ReportedRun } from '../../src/report/reported-runs.js';

interface Column {
  readonly name: string;
  readonly value: (run: ReportedRun, result: ResultDocument) => string | number;
}

/** A column of what a run came to: empty for one that did not. */
const ofResult = (name: string, value: (run: RunResult) => string | number): Column => ({
  name,
  value: ({ result }) => (result === undefined ? '' : value(result)),
});

const VERDICTS = Object.keys(emptyVerdictCounts()) as (keyof VerdictCounts)[];

const linkColumn = (name: string, counter: Exclude<keyof LinkResult, 'guest' | 'nic'>): Column =>
  ofResult(`links.${name}`, (run) => run.links.reduce((sum, link) => sum + link[counter], 0));

/**
 * The columns, the same for every testbed so that files can be joined. Counters are called as in `expect`
 * checks and are sums over guests, nics and places. New columns are added at the end.
 */
const COLUMNS: readonly Column[] = [
  { name: 'testbed', value: (_run, result) => result.testbed },
  { name: 'seed', value: (_run, result) => result.seed },
  { name: 'run', value: (run) => run.id },
  { name: 'axes', value: (run) => pairs(run.axes) },
  ofResult('fabric', (run) => run.fabric),
  ofResult('frames-sent', (run) => run.framesSent),
  ofResult('frames-copied', (run) => run.framesCopied),
  ...HOOK_SITES.flatMap((site) =>
    VERDICTS.map((verdict) =>
      ofResult(
        `verdicts.${site}.${verdict}`,
        (run) => sumVerdicts(run.hooks.filter((hook) => hook.site === site))[verdict],
      ),
    ),
  ),
  ...(Object.keys(FATES) as Fate[]).map((fate) => ofResult(`ends.${fate}`, (run) => sumFates(run)[fate])),
  ofResult('control.commands', (run) => sumControl(run.control).commands),
  ofResult('control.ok', (run) => sumControl(run.control).ok),
  ofResult('control.err', (run) => sumControl(run.control).err),
  ofResult('rulings.allow', (run) => sumRulings(run).allow),
  ofResult('rulings.deny', (run) => sumRulings(run).deny),
  ofResult('audit', (run) => run.audit.length),
  ofResult(
    'attachments.refused',
    (run) => run.attachments.filter((attachment) => !attachment.attached).length,
  ),
  linkColumn('frames-to-guest', 'framesToGuest'),
  linkColumn('frames-from-guest', 'framesFromGuest'),
  linkColumn('kicks', 'kicks'),
  linkColumn('interrupts', 'interrupts'),
  linkColumn('suppressed-notifications', 'suppressedNotifications'),
  linkColumn('violations', 'violations'),
  ofResult('maps', (run) =>
    run.maps
      .flatMap((map) =>
        map.entries.map((entry) => `${map.guest}.${map.nic}.${map.name}${formatMapEntry(map, entry)}`),
      )
      .join(' '),
  ),
  { name: 'state', value: (run) => run.state },
  { name: 'failure.stage', value: (run) => joined(run, ({ stage }) => stage) },
  { name: 'failure.code', value: (run) => joined(run, ({ code }) => code) },
  { name: 'failure.message', value: (run) => joined(run, ({ message }) => message) },
  { name: 'failure.hint', value: (run) => joined(run, ({ hint }) => hint ?? '') },
  ofResult('rates', ({ rates = [] }) =>
    rates.map(({ node, framesPerSecond }) => `${node}=${framesPerSecond.median}`).join(' '),
  ),
  ofResult('exchanges', ({ exchanges = [] }) =>
    exchanges.map((exchange) => `${exchangeName(exchange)}=${exchangeFigure(exchange) ?? ''}`).join(' '),
  ),
  ofResult('rates.total', ({ totalRate }) => totalRate?.framesPerSecond.median ?? ''),
  ofResult('rulings.would-deny', (run) => sumRulings(run).wouldDeny),
];

/** Of each failure of a run, nearly always one. */
function joined(run: ReportedRun, part: (failure: RunFailure) => string): string {
  return run.failures.map(part).join('; ');
}

/** RFC 4180: a header, one row for each run, CRLF behind each and nowhere else. */
export class CsvReporter implements Reporter {
  readonly name = 'csv';

  render(result: ResultDocument): string {
    const rows = [
      COLUMNS.map((column) => column.name),
      ...reportedRuns(result).map((run) => COLUMNS.map((column) => String(column.value(run, result)))),
    ];
    return rows.map((row) => `${row.map(field).join(',')}\r\n`).join('');
  }
}

/** `case=redirect program=xdp1` */
function pairs(axes: Readonly<Record<string, string>>): string {
  return Object.entries(axes)
    .map(([axis, variant]) => `${axis}=${variant}`)
    .join(' ');
}

/** On one line: a table has no use for the line breaks of a long message. */
function field(value: string): string {
  const text = printable(value);
  return /[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
