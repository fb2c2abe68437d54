import type { ExitCode } from '../core/diagnostic.js';
import type { PluginRegistry } from '../core/plugin/plugin-registry.js';
import type { Terminal } from './terminal.js';

/** What every verb gets. */
export interface CliContext {
  readonly terminal: Terminal;
  readonly registry: PluginRegistry;
  readonly signal: AbortSignal;
  /** Wraps a verb's work: its exit code, or that of what it threw, becomes the command's. */
  verb<A extends unknown[]>(work: (...args: A) => Promise<ExitCode>): (...args: A) => Promise<void>;
}
