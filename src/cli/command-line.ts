import { Command, CommanderError } from 'commander';
import { EXIT } from '../core/diagnostic.js';
import { PluginRegistry } from '../core/plugin/plugin-registry.js';
import { BUILT_IN_PLUGINS } from '../presets.js';
import { VERSION } from '../version.js';
import type { CliContext, Interruptions } from './cli-context.js';
import { printableTerminal, reportError, type TerminalStreams } from './terminal.js';
import { addVerbs } from './verbs.js';

/** Parses and runs one command line; never throws and never exits the process. */
export async function runCommandLine(
  words: readonly string[],
  streams: TerminalStreams,
  interruptions: Interruptions,
): Promise<number> {
  const terminal = printableTerminal(streams);
  let exitCode: number = EXIT.OK;
  const context: CliContext = {
    terminal,
    registry: new PluginRegistry(BUILT_IN_PLUGINS),
    interruption: () => interruptions.signal(),
    verb:
      (load) =>
      async (...args) => {
        interruptions.listen();
        const work = await load();
        exitCode = await work(context, ...args);
      },
  };
  const program = new Command('xdpbed')
    .description('a testbed for offloading a guest’s XDP programs through virtio-net to the host')
    .version(VERSION)
    .showHelpAfterError('(xdpbed --help shows the verbs)')
    .exitOverride()
    // Words behind `exec RUN` are another command's.
    .enablePositionalOptions()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: (text) => terminal.err(text) });
  addVerbs(program, context);
  for (const command of allCommands(program)) command.exitOverride().copyInheritedSettings(program);
  try {
    await program.parseAsync(words, { from: 'user' });
    return exitCode;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.OK : EXIT.BAD_INPUT;
    return reportError(error, terminal);
  }
}

function allCommands(command: Command): Command[] {
  return command.commands.flatMap((child) => [child, ...allCommands(child)]);
}
