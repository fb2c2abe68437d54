import { printable } from '../core/printable.js';
import { formatProblem } from '../core/testbed/problem-list.js';
import { loadTestbed, type ResolvedTestbed, type ResolveOptions } from '../core/testbed/resolve-testbed.js';
import type { CliContext } from './cli-context.js';

/** Reads a testbed, and tells on stderr what is allowed in it and still hardly what was meant. */
export async function openTestbed(
  { registry, terminal }: CliContext,
  file: string,
  options: ResolveOptions,
): Promise<ResolvedTestbed> {
  const testbed = await loadTestbed(file, registry, options);
  for (const { at, message, hint } of testbed.warnings)
    terminal.err(`${printable(formatProblem({ at, message: `warning: ${message}`, hint }))}\n`);
  return testbed;
}
