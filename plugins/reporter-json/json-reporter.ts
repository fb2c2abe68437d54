import type { Reporter } from '../../src/core/contract/reporter.js';
import type { ResultDocument } from '../../src/core/contract/result.js';

/** The result document as it is, indented by two. */
export class JsonReporter implements Reporter {
  readonly name = 'json';

  render(result: ResultDocument): string {
    return `${JSON.stringify(result, null, 2)}\n`;
  }
}
