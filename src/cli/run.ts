import type { Command } from 'commander';
import { EXIT } from '../core/diagnostic.js';
import type { RunEvent } from '../core/contract/event.js';
import { REPORTER, type Reporter } from '../core/contract/reporter.js';
import { Scope } from '../core/plugin/scope.js';
import { runTestbed } from '../core/run/run-testbed.js';
import { loadTestbed, type PluginChoice } from '../core/testbed/resolve-testbed.js';
import { VERSION } from '../version.js';
import type { CliContext } from './cli-context.js';
import type { Terminal } from './terminal.js';
import { addTestbedOptions, toResolveOptions, type TestbedOptions } from './testbed-options.js';

/** `xdpbed run`: brings a testbed up, drives its traffic, checks it and reports. */
export function addRunVerb(program: Command, context: CliContext): void {
  addTestbedOptions(program.command('run'))
    .description('run a testbed and check it')
    .option(
      '--format <reporter>',
      'render the result with this reporter: table, json, ndjson, … (default: the testbed’s)',
    )
    .action(
      context.verb(async (file: string, options: TestbedOptions & { format?: string }) => {
        const testbed = await loadTestbed(file, context.registry, toResolveOptions(options));
        const choice: PluginChoice =
          options.format === undefined
            ? testbed.reporter
            : { plugin: await context.registry.find('reporter', options.format, process.cwd()), config: {} };
        const reporter = createReporter(choice);
        const progress = new Progress(context.terminal);
        const result = await runTestbed(testbed, {
          version: VERSION,
          signal: context.signal,
          onEvent: (event) => {
            progress.show(event);
            const line = reporter.onEvent?.(event);
            if (line !== undefined) context.terminal.out(`${line}\n`);
          },
        });
        progress.clear();
        context.terminal.out(reporter.render(result, { color: context.terminal.color }));
        return result.passed ? EXIT.OK : EXIT.CHECK_FAILED;
      }),
    );
}

function createReporter({ plugin, config }: PluginChoice): Reporter {
  const scope = new Scope(`reporter ${plugin.name}`);
  plugin.register(scope, config);
  return scope.resolve(REPORTER);
}

/** One line on stderr that overwrites itself on a terminal, and a line for each run elsewhere. */
class Progress {
  #shown = false;

  constructor(readonly terminal: Terminal) {}

  show(event: RunEvent): void {
    if (event.event !== 'run-started') return;
    const line = `run ${event.index + 1} of ${event.of}: ${event.run}`;
    this.terminal.err(this.terminal.interactive ? `\r\u001b[K${line}` : `${line}\n`);
    this.#shown = true;
  }

  clear(): void {
    if (this.#shown && this.terminal.interactive) this.terminal.err('\r\u001b[K');
  }
}
