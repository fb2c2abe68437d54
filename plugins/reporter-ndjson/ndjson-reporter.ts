import type { StreamEvent } from '../../src/core/contract/event.js';
import type { Reporter } from '../../src/core/contract/reporter.js';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { eventLine } from '../../src/report/event-line.js';
import { reportedRuns } from '../../src/report/reported-runs.js';

/**
 * Each event as one line of JSON, as it happens. The events already hold the runs and the checks, so what is
 * rendered at the end is one last line, `event: summary`: its presence says that the stream is whole.
 */
export class NdjsonReporter implements Reporter {
  readonly name = 'ndjson';

  /** The line, without a line feed. */
  onEvent(event: StreamEvent): string {
    return eventLine(event);
  }

  render(result: ResultDocument): string {
    const passed = result.checks.filter((check) => check.passed).length;
    return `${eventLine({
      event: 'summary',
      xdpbed: result.xdpbed,
      testbed: result.testbed,
      seed: result.seed,
      passed: result.passed,
      runs: result.runs.length,
      failedRuns: reportedRuns(result).filter((run) => run.state === 'failed').length,
      interrupted: result.interrupted !== undefined,
      runsNotStarted: result.notStarted?.length ?? 0,
      failures: result.failures?.length ?? 0,
      checks: { total: result.checks.length, passed, failed: result.checks.length - passed },
    })}\n`;
  }
}
