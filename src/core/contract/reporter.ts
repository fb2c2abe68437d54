import type { MapResult, ResultDocument, RunResult } from './result.js';
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
  /** How an element of a guest's map is written. Absent where the testbed that the result is of is not at hand. */
  readonly words?:
    ((run: RunResult, map: MapResult, entry: MapResult['entries'][number]) => ElementWords) | undefined;
}

/** An element of a map as presets and cases have it written, by BTF types; absent is what they say nothing of. */
export interface ElementWords {
  readonly key?: string;
  /** Of a per-CPU map what `cpus` says, of global variables the object by variable. */
  readonly value?: string;
}

export const REPORTER = token<Reporter>('reporter');
