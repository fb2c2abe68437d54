import type { PluginRegistry } from '../core/plugin/plugin-registry.js';
import type { Terminal } from './terminal.js';

/** What every verb gets. */
export interface CliContext {
  readonly terminal: Terminal;
  readonly registry: PluginRegistry;
  /**
   * From the first call on, an interruption (SIGINT, SIGTERM) fires this instead of ending the process: for who has
   * something to take down. Until then it ends the process at once, also in the middle of long work.
   */
  readonly interruption: () => AbortSignal;
  /**
   * Makes a commander action of a verb that is imported when it runs. The verb gets this context and what
   * commander parsed; its exit code (of `exec`: that of what it ran), or that of what it threw, becomes the command's.
   */
  verb<A extends unknown[]>(
    load: () => Promise<(context: CliContext, ...args: A) => Promise<number>>,
  ): (...args: A) => Promise<void>;
}
