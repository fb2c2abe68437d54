import { XdpbedError } from '../diagnostic.js';
import type { Plugin, Role } from '../contract/plugin.js';
import type { PluginLocation, PluginRegistry } from '../plugin/plugin-registry.js';
import { SchemaValidator } from './schema-validator.js';

/** A plugin that a testbed names, with its checked config (defaults filled in). */
export interface PluginChoice {
  readonly plugin: Plugin;
  readonly config: unknown;
  /** URL of the plugin's module; undefined for one that has none, as in a test. */
  readonly module?: string | undefined;
}

/** Where plugins are found. */
export type PluginSource = Pick<PluginRegistry, 'locate' | 'load'>;

/** Of the process: a run names a dozen plugins, a testbed's runs the same ones again. */
const VALIDATOR = new SchemaValidator();

/** Whose schema a plugin's is. */
export function schemaOrigin(location: PluginLocation): 'own' | 'foreign' {
  return location.kind === 'module' ? 'foreign' : 'own';
}

/** A plugin by the name a testbed file in `folder` would use. Throws `usage` for a config it does not take. */
export async function choosePlugin(
  registry: PluginSource,
  role: Role,
  name: string,
  folder: string,
  config: unknown = {},
): Promise<PluginChoice> {
  const location = await registry.locate(role, name, folder);
  const plugin = await registry.load(role, name, location);
  const checked = structuredClone(config);
  const violations = VALIDATOR.validate(plugin.configSchema, checked, schemaOrigin(location));
  if (violations.length > 0) {
    const { path, message } = violations[0]!;
    throw new XdpbedError('usage', `${role} ${name}: ${path.join('.')}: ${message}`);
  }
  const module = location.kind === 'module' ? location.url : location.entry.module;
  return { plugin, config: checked, module };
}
