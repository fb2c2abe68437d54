import type { Command } from 'commander';
import { EXIT, XdpbedError } from '../core/diagnostic.js';
import { nearest } from '../core/nearest.js';
import { ROLES, type Plugin, type Role } from '../core/contract/plugin.js';
import type { CliContext } from './cli-context.js';

/** `xdpbed plugins list` and `xdpbed plugins show`. */
export function addPluginsVerbs(program: Command, context: CliContext): void {
  const plugins = program.command('plugins').description('the built-in plugins, and those a name leads to');

  plugins
    .command('list')
    .description('list the built-in plugins, a line each')
    .option('--role <role>', `only this role: ${ROLES.join(', ')}`)
    .option('--format <format>', 'table or json', 'table')
    .action(
      context.verb(async (options: { role?: string; format: string }) => {
        const role = options.role === undefined ? undefined : parseRole(options.role);
        if (options.format !== 'table' && options.format !== 'json') {
          throw new XdpbedError('usage', `--format '${options.format}' is not one of table, json`);
        }
        const found = context.registry.builtIn(role);
        if (options.format === 'json') {
          context.terminal.out(`${JSON.stringify(found.map(manifest), null, 2)}\n`);
          return EXIT.OK;
        }
        for (const plugin of found) {
          context.terminal.out(`${plugin.role.padEnd(12)} ${plugin.name.padEnd(18)} ${plugin.description}\n`);
        }
        return EXIT.OK;
      }),
    );

  plugins
    .command('show')
    .description('show a plugin’s manifest and the JSON Schema of its config')
    .argument('<role>', ROLES.join(', '))
    .argument('<use>', 'what a testbed would write behind `use:`')
    .action(
      context.verb(async (role: string, use: string) => {
        const plugin = await context.registry.find(parseRole(role), use, process.cwd());
        context.terminal.out(
          `${JSON.stringify({ ...manifest(plugin), configSchema: plugin.configSchema }, null, 2)}\n`,
        );
        return EXIT.OK;
      }),
    );
}

function manifest({ role, name, version, api, description }: Plugin): object {
  return { role, name, version, api, description };
}

function parseRole(word: string): Role {
  const role = ROLES.find((candidate) => candidate === word);
  if (role !== undefined) return role;
  const near = nearest(word, ROLES);
  throw new XdpbedError('usage', `'${word}' is not a role`, {
    hint: near === undefined ? `roles: ${ROLES.join(', ')}` : `did you mean '${near}'?`,
  });
}
