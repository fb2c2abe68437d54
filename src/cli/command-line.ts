import { Command, CommanderError } from 'commander';
import { EXIT, type ExitCode } from '../core/diagnostic.js';
import { PluginRegistry } from '../core/plugin/plugin-registry.js';
import { BUILT_IN_PLUGINS } from '../presets.js';
import { VERSION } from '../version.js';
import type { CliContext } from './cli-context.js';
import { addConformanceVerb } from './conformance.js';
import { addPlanVerb } from './plan.js';
import { addPluginsVerbs } from './plugins.js';
import { addProgVerbs } from './prog/prog.js';
import { addRunVerb } from './run.js';
import { reportError, type Terminal } from './terminal.js';
import { addValidateVerb } from './validate.js';

/** Parses and runs one command line; never throws and never exits the process. */
export async function runCommandLine(
  args: readonly string[],
  terminal: Terminal,
  signal: AbortSignal,
): Promise<ExitCode> {
  let exitCode: ExitCode = EXIT.OK;
  const context: CliContext = {
    terminal,
    registry: new PluginRegistry(BUILT_IN_PLUGINS),
    signal,
    verb:
      (work) =>
      async (...verbArgs) => {
        exitCode = await work(...verbArgs);
      },
  };
  const program = new Command('xdpbed')
    .description('a testbed for offloading a guest’s XDP programs through virtio-net to the host')
    .version(VERSION)
    .showHelpAfterError('(xdpbed --help shows the verbs)')
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) });
  for (const add of [
    addRunVerb,
    addValidateVerb,
    addPlanVerb,
    addPluginsVerbs,
    addProgVerbs,
    addConformanceVerb,
  ])
    add(program, context);
  for (const command of allCommands(program)) command.exitOverride().copyInheritedSettings(program);
  try {
    await program.parseAsync(args, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.OK : EXIT.BAD_INPUT;
    return reportError(error, terminal);
  }
}

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)]);
}
