import type { Reporter } from '../../src/core/contract/reporter.js';
import type { CheckResult, ResultDocument, RunFailure, RunResult } from '../../src/core/contract/result.js';
import { printable } from '../../src/core/printable.js';
import { formatMapContent, formatMapEntry } from '../../src/report/map-entry.js';
import { exchangeFigure } from '../../src/core/measurement/exchange-figures.js';
import { exchangeName } from '../../src/report/measured-figures.js';
import { formatFailure, reportedRuns, type ReportedRun } from '../../src/report/reported-runs.js';
import { element } from '../../src/report/xml.js';

/**
 * JUnit XML as CI systems read it: a suite for the testbed, in it a case for each check and for each run. The case of
 * a run that was brought to its end passes and carries its counters; that of one that failed, or was taken down badly,
 * has an error, so has that of one that was interrupted, and one that was not started is skipped. There are no times: a result has none of the machine's clock.
 */
export class JunitReporter implements Reporter {
  readonly name = 'junit';

  render(result: ResultDocument): string {
    const runs = reportedRuns(result);
    const counts = {
      tests: String(result.checks.length + runs.length),
      failures: String(result.checks.filter((check) => !check.passed).length),
      errors: String(runs.filter((run) => errorsOf(run).length > 0).length),
    };
    const skipped = String(runs.filter((run) => run.state === 'not started').length);
    const suite = element('testsuite', { name: result.testbed, ...counts, skipped }, [
      element('properties', {}, [
        element('property', { name: 'seed', value: result.seed }),
        element('property', { name: 'xdpbed', value: result.xdpbed }),
      ]),
      ...runs.map((run) => runCase(result, run)),
      ...result.checks.map((check) => checkCase(result.testbed, check)),
    ]);
    const suites = element('testsuites', { name: 'xdpbed', ...counts }, [suite]);
    return `<?xml version="1.0" encoding="UTF-8"?>\n${suites.join('\n')}\n`;
  }
}

/** What a case has to tell as an error: the interruption first, where there was one. */
function errorsOf({
  state,
  failures,
}: ReportedRun): Pick<RunFailure, 'stage' | 'code' | 'message' | 'hint'>[] {
  if (state !== 'interrupted') return [...failures];
  return [{ stage: 'run', code: 'interrupted', message: 'the run was interrupted' }, ...failures];
}

function runCase({ testbed, interrupted }: ResultDocument, run: ReportedRun): string[] {
  const { id, state, result } = run;
  const errors = errorsOf(run);
  const [first, ...others] = errors;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  const content = [
    // A case has one error at most.
    ...(first === undefined
      ? []
      : [
          element(
            'error',
            { type: first.code, message: first.message + more },
            errors
              .flatMap((failure) => [
                formatFailure(failure),
                ...(failure.hint === undefined ? [] : [`hint: ${failure.hint}`]),
              ])
              .join('\n'),
          ),
        ]),
    ...(state === 'not started'
      ? [
          element('skipped', {
            message: `a run before it ${interrupted === undefined ? 'failed' : 'was interrupted'}`,
          }),
        ]
      : []),
    ...(result === undefined ? [] : [element('system-out', {}, runLines(result).join('\n'))]),
  ];
  return element('testcase', { classname: `${testbed}.run`, name: id }, content);
}

function runLines(run: RunResult): string[] {
  return [
    `frames sent: ${run.framesSent}, copied: ${run.framesCopied}`,
    ...run.attachments
      .filter((attachment) => !attachment.attached)
      .map(
        ({ node, program, reason }) => `${program} not attached at ${node}: ${reason ?? 'no reason given'}`,
      ),
    ...run.hooks.map((hook) => {
      const verdicts = Object.entries(hook.verdicts).filter(([, count]) => count > 0);
      const listed = verdicts.map(([verdict, count]) => `${verdict} ${count}`).join(', ');
      return `${hook.program} at ${hook.node} (${hook.site}): ${listed || 'no frames'}`;
    }),
    ...run.ends.map((end) => `${end.place}: ${end.fate} ${end.frames}`),
    ...run.maps.map((map) => {
      const entries = map.entries.map((entry) => formatMapEntry(map, entry));
      return `${map.guest}.${map.nic} ${map.name}: ${formatMapContent(map, entries)}`;
    }),
    ...(run.rates ?? []).map(({ node, framesPerSecond }) => `${node}: ${framesPerSecond.median} frames/s`),
    ...(run.exchanges ?? []).map((exchange) => {
      const unit = exchange.kind.endsWith('-stream') ? 'bit/s' : 'transactions/s';
      const { unmeasured } = exchange;
      const figure = unmeasured === undefined ? `${exchangeFigure(exchange)} ${unit}` : `none: ${unmeasured}`;
      return `${exchangeName(exchange)}: ${figure}`;
    }),
    ...run.audit.map((record) => `${record.guest}.${record.nic} ${record.command}: ${record.reason}`),
  ].map(printable);
}

function checkCase(testbed: string, check: CheckResult): string[] {
  const attributes = { classname: `${testbed}.check`, name: `${check.check}: ${check.description}` };
  if (check.passed) return element('testcase', attributes);
  const message = check.problems[0] ?? 'the check failed';
  const more = check.problems.length > 1 ? ` (and ${check.problems.length - 1} more)` : '';
  return element('testcase', attributes, [
    element(
      'failure',
      { type: check.check, message: message + more },
      [...check.problems, ...(check.why === undefined ? [] : [`why: ${check.why}`])].join('\n'),
    ),
  ]);
}
