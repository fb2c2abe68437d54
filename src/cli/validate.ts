import type { Command } from 'commander';
import { EXIT } from '../core/diagnostic.js';
import { loadTestbed } from '../core/testbed/resolve-testbed.js';
import type { CliContext } from './cli-context.js';
import { addTestbedOptions, toResolveOptions, type TestbedOptions } from './testbed-options.js';

/** `xdpbed validate`: everything `run` checks before it starts anything. */
export function addValidateVerb(program: Command, context: CliContext): void {
  addTestbedOptions(program.command('validate'))
    .description('check a testbed file and everything it names; starts nothing')
    .action(
      context.verb(async (file: string, options: TestbedOptions) => {
        const testbed = await loadTestbed(file, context.registry, toResolveOptions(options));
        const count = testbed.runs.length;
        context.terminal.err(`${file}: valid, ${count} ${count === 1 ? 'run' : 'runs'}\n`);
        return EXIT.OK;
      }),
    );
}
