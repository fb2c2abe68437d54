import type { Reporter } from '../../src/core/contract/reporter.js';
import type { CheckResult, ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { formatMapContent, formatMapEntry } from '../../src/report/map-entry.js';
import { element } from '../../src/report/xml.js';

/**
 * JUnit XML as CI systems read it: a suite for the testbed, in it a case for each check and for each run. A run
 * that is in the result was brought to its end, so its case passes and only carries its counters; what is wrong
 * with a run is said by the checks. There are no times: a result has none of the machine's clock.
 */
export class JunitReporter implements Reporter {
  readonly name = 'junit';

  render(result: ResultDocument): string {
    const counts = {
      tests: String(result.checks.length + result.runs.length),
      failures: String(result.checks.filter((check) => !check.passed).length),
      errors: '0',
    };
    const suite = element('testsuite', { name: result.testbed, ...counts, skipped: '0' }, [
      element('properties', {}, [
        element('property', { name: 'seed', value: result.seed }),
        element('property', { name: 'xdpbed', value: result.xdpbed }),
      ]),
      ...result.runs.map((run) => runCase(result.testbed, run)),
      ...result.checks.map((check) => checkCase(result.testbed, check)),
    ]);
    const suites = element('testsuites', { name: 'xdpbed', ...counts }, [suite]);
    return `<?xml version="1.0" encoding="UTF-8"?>\n${suites.join('\n')}\n`;
  }
}

function runCase(testbed: string, run: RunResult): string[] {
  const lines = [
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
    ...run.audit.map((record) => `${record.guest}.${record.nic} ${record.command}: ${record.reason}`),
  ];
  return element('testcase', { classname: `${testbed}.run`, name: run.id }, [
    element('system-out', {}, lines.join('\n')),
  ]);
}

function checkCase(testbed: string, check: CheckResult): string[] {
  const attributes = { classname: `${testbed}.check`, name: `${check.check}: ${check.description}` };
  if (check.passed) return element('testcase', attributes);
  const message = check.problems[0] ?? 'the check failed';
  const more = check.problems.length > 1 ? ` (and ${check.problems.length - 1} more)` : '';
  return element('testcase', attributes, [
    element('failure', { type: check.check, message: message + more }, check.problems.join('\n')),
  ]);
}
