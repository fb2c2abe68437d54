import { EXIT, type ExitCode } from '../core/diagnostic.js';
import { loadTestbed } from '../core/testbed/resolve-testbed.js';
import type { CliContext } from './cli-context.js';
import { toResolveOptions, type TestbedOptions } from './testbed-options.js';

/** `xdpbed validate`: everything `run` checks before it starts anything. */
export async function validate(
  context: CliContext,
  file: string,
  options: TestbedOptions,
): Promise<ExitCode> {
  const testbed = await loadTestbed(file, context.registry, toResolveOptions(options));
  const count = testbed.runs.length;
  context.terminal.err(`${file}: valid, ${count} ${count === 1 ? 'run' : 'runs'}\n`);
  return EXIT.OK;
}
