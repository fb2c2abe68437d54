import { EXIT, XdpbedError, type ExitCode } from '../core/diagnostic.js';
import { nearest } from '../core/nearest.js';
import { ROLES, type Plugin, type Role } from '../core/contract/plugin.js';
import type { CliContext } from './cli-context.js';

/** `xdpbed plugins list`: the table needs no plugin's code, the manifests do. */
export async function listPlugins(
  { registry, terminal }: CliContext,
  options: { role?: string; format: string },
): Promise<ExitCode> {
  const role = options.role === undefined ? undefined : parseRole(options.role);
  if (options.format !== 'table' && options.format !== 'json') {
    throw new XdpbedError('usage', `--format '${options.format}' is not one of table, json`);
  }
  const found = registry.builtIn(role);
  if (options.format === 'json') {
    const plugins = await Promise.all(found.map((each) => each.load()));
    terminal.out(`${JSON.stringify(plugins.map(manifest), null, 2)}\n`);
    return EXIT.OK;
  }
  for (const { role: of, name, description } of found) {
    terminal.out(`${of.padEnd(12)} ${name.padEnd(18)} ${description}\n`);
  }
  return EXIT.OK;
}

/** `xdpbed plugins show`: runs the module of a plugin that is not built in; whoever names it here trusts it. */
export async function showPlugin(
  { registry, terminal }: CliContext,
  role: string,
  use: string,
): Promise<ExitCode> {
  const plugin = await registry.find(parseRole(role), use, process.cwd());
  terminal.out(`${JSON.stringify({ ...manifest(plugin), configSchema: plugin.configSchema }, null, 2)}\n`);
  return EXIT.OK;
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
