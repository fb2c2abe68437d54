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
  type RunResult,
  type VerdictCounts,
} from '../../src/core/contract/result.js';
import { formatMapEntry } from '../../src/report/map-entry.js';

interface Column {
  readonly name: string;
  readonly value: (run: RunResult, result: ResultDocument) => string | number;
}

const VERDICTS = Object.keys(emptyVerdictCounts()) as (keyof VerdictCounts)[];

const linkColumn = (name: string, counter: Exclude<keyof LinkResult, 'guest' | 'nic'>): Column => ({
  name: `links.${name}`,
  value: (run) => run.links.reduce((sum, link) => sum + link[counter], 0),
});

/**
 * The columns, the same for every testbed so that files can be joined. Counters are called as in `expect`
 * checks and are sums over guests, nics and places. New columns are added at the end.
 */
const COLUMNS: readonly Column[] = [
  { name: 'testbed', value: (_run, result) => result.testbed },
  { name: 'seed', value: (_run, result) => result.seed },
  { name: 'run', value: (run) => run.id },
  { name: 'axes', value: (run) => pairs(run.axes) },
  { name: 'fabric', value: (run) => run.fabric },
  { name: 'frames-sent', value: (run) => run.framesSent },
  { name: 'frames-copied', value: (run) => run.framesCopied },
  ...HOOK_SITES.flatMap((site) =>
    VERDICTS.map((verdict): Column => ({
      name: `verdicts.${site}.${verdict}`,
      value: (run) => sumVerdicts(run.hooks.filter((hook) => hook.site === site))[verdict],
    })),
  ),
  ...(Object.keys(FATES) as Fate[]).map((fate): Column => ({
    name: `ends.${fate}`,
    value: (run) => sumFates(run)[fate],
  })),
  { name: 'control.commands', value: (run) => sumControl(run.control).commands },
  { name: 'control.ok', value: (run) => sumControl(run.control).ok },
  { name: 'control.err', value: (run) => sumControl(run.control).err },
  { name: 'rulings.allow', value: (run) => sumRulings(run).allow },
  { name: 'rulings.deny', value: (run) => sumRulings(run).deny },
  { name: 'audit', value: (run) => run.audit.length },
  {
    name: 'attachments.refused',
    value: (run) => run.attachments.filter((attachment) => !attachment.attached).length,
  },
  linkColumn('frames-to-guest', 'framesToGuest'),
  linkColumn('frames-from-guest', 'framesFromGuest'),
  linkColumn('kicks', 'kicks'),
  linkColumn('interrupts', 'interrupts'),
  linkColumn('suppressed-notifications', 'suppressedNotifications'),
  linkColumn('violations', 'violations'),
  {
    name: 'maps',
    value: (run) =>
      run.maps
        .flatMap((map) =>
          map.entries.map((entry) => `${map.guest}.${map.nic}.${map.name}${formatMapEntry(map, entry)}`),
        )
        .join(' '),
  },
];

/** RFC 4180: a header, one row for each run, CRLF behind each. */
export class CsvReporter implements Reporter {
  readonly name = 'csv';

  render(result: ResultDocument): string {
    const rows = [
      COLUMNS.map((column) => column.name),
      ...result.runs.map((run) => COLUMNS.map((column) => String(column.value(run, result)))),
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

function field(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
