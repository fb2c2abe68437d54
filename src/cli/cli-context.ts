import type { ExitCode } from '../core/diagnostic.js';
import type { PluginRegistry } from '../core/plugin/plugin-registry.js';
import type { Terminal } from './terminal.js';

/** What every verb gets. */
export interface CliContext {
  readonly terminal: Terminal;
  readonly registry: PluginRegistry;
  readonly signal: AbortSignal;
  /**
   * Makes a commander action of a verb that is imported when it runs. The verb gets this context and what
   * commander parsed; its exit code, or that of what it threw, becomes the command's.
   */
  verb<A extends unknown[]>(
    load: () => Promise<(context: CliContext, ...args: A) => Promise<ExitCode>>,
  ): (...args: A) => Promise<void>;
}
