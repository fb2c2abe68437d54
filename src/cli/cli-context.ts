import type { PluginRegistry } from '../core/plugin/plugin-registry.js';
import type { Terminal } from './terminal.js';

/** What every verb gets. */
export interface CliContext {
  readonly terminal: Terminal;
  readonly registry: PluginRegistry;
  /**
   * From the first call on, an interruption (SIGINT, SIGTERM) fires this instead of ending the process with exit code 130:
   * for who has something to take down, or to show. Who called it gives way to the event loop within 200 ms, looks at
   * the signal then, and ends with 130.
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

/** What is done about SIGINT and SIGTERM. */
export interface Interruptions {
  /** From now on they end the process with exit code 130, as soon as the event loop has its turn. */
  listen(): void;
  /** As `listen`, but the first of them fires this. */
  signal(): AbortSignal;
}
