import { EXIT, type ExitCode } from '../core/diagnostic.js';
import type { CliContext } from './cli-context.js';
import { openTestbed } from './open-testbed.js';
import { toResolveOptions, type TestbedOptions } from './testbed-options.js';

/**
 * `xdpbed validate`: everything `run` checks before it starts anything. Runs no code of plugins that are not built
 * in unless `--trust` says so: a testbed is looked at before it is trusted.
 */
export async function validate(
  context: CliContext,
  file: string,
  options: TestbedOptions,
): Promise<ExitCode> {
  const testbed = await openTestbed(context, file, {
    ...toResolveOptions(options),
    trust: options.trust === true,
  });
  const { terminal } = context;
  const count = testbed.runs.length;
  for (const { role, use } of testbed.unread) {
    terminal.err(
      `${file}: ${role} '${use}' was found and not run, so its config is unchecked (--trust runs it)\n`,
    );
  }
  const far = testbed.unread.length === 0 ? 'valid' : 'valid as far as it was checked';
  terminal.err(`${file}: ${far}, ${count} ${count === 1 ? 'run' : 'runs'}\n`);
  return EXIT.OK;
}
