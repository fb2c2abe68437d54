import type { ResultDocument } from './result.js';
import type { StreamEvent } from './event.js';
import { token } from './injection.js';

/**
 * Role `reporter`: renders a result for stdout or a file. What is given comes from guests and object files in part, and is printed as it
 * is rendered: control and format characters of theirs must not be in it (`printable`), nor line feeds that begin a line.
 */
export interface Reporter {
  readonly name: string;
  /** One line (without a line feed) per event while the run is under way; absent for reporters that print at the end only. */
  onEvent?(event: StreamEvent): string | undefined;
  /**
   * The whole result. Ends with a newline unless it is empty. Runs that failed, were interrupted or were not started are no
   * `runs`: they are under `failures`, `interrupted` and `notStarted`, and have to be shown as well.
   */
  render(result: ResultDocument, options: RenderOptions): string;
}

export interface RenderOptions {
  /** Terminal colours are wanted. */
  readonly color: boolean;
}

export const REPORTER = token<Reporter>('reporter');
