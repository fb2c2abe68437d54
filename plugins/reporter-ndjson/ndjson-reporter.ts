import type { StreamEvent } from '../../src/core/contract/event.js';
import type { Reporter } from '../../src/core/contract/reporter.js';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { reportedRuns } from '../../src/report/reported-runs.js';

/** Version of the lines: each has it as `schema`, so that a line makes sense on its own. */
export const EVENT_SCHEMA_VERSION = 'xdpbed.event/1';

/**
 * Each event as one line of JSON, as it happens. The events already hold the runs and the checks, so what is
 * rendered at the end is one last line, `event: summary`: its presence says that the stream is whole.
 */
export class NdjsonReporter implements Reporter {
  readonly name = 'ndjson';

  /** The line, without a line feed. */
  onEvent(event: StreamEvent): string {
    return line(event);
  }

  render(result: ResultDocument): string {
    const passed = result.checks.filter((check) => check.passed).length;
    return `${line({
      event: 'summary',
      xdpbed: result.xdpbed,
      testbed: result.testbed,
      seed: result.seed,
      passed: result.passed,
      runs: result.runs.length,
      failedRuns: reportedRuns(result).filter((run) => run.state === 'failed').length,
      runsNotStarted: result.notStarted?.length ?? 0,
      failures: result.failures?.length ?? 0,
      checks: { total: result.checks.length, passed, failed: result.checks.length - passed },
    })}\n`;
  }
}

/** JSON escapes every line feed in a string, so that this is one line whatever it holds. */
function line(record: object): string {
  return JSON.stringify({ schema: EVENT_SCHEMA_VERSION, ...record }, (_key, value: unknown) =>
    // Plugins of others may put one into an event; a counter too big for a double must not end the stream.
    typeof value === 'bigint' ? value.toString() : value,
  );
}
