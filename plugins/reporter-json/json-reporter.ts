import type { Reporter } from '../../src/core/contract/reporter.js';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { printableText } from '../../src/core/printable.js';

/** The result document as it is, indented by two; what is not printable is escaped (`\\u202e`), which is the same JSON. */
export class JsonReporter implements Reporter {
  readonly name = 'json';

  render(result: ResultDocument): string {
    return `${printableText(JSON.stringify(result, null, 2))}\n`;
  }
}
