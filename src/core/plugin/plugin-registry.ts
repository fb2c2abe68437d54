import { statSync } from 'node:fs';
import { isAbsolute, resolve as resolvePath } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { XdpbedError, formatLocation, messageOf } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import { PLUGIN_API_VERSION, ROLES, type Plugin, type Role } from '../contract/plugin.js';
import { PHASE_TIMEOUT_MS, withTimeLimit } from './lifecycle.js';
import { placeOfImportError, rememberPluginCode } from './plugin-code.js';

/** A plugin whose module has not been imported yet: what a list shows of it, and the way to it. */
export interface PluginEntry {
  readonly role: Role;
  readonly name: string;
  /** One sentence for `plugins list`, the same as in the plugin's manifest. */
  readonly description: string;
  /** URL of the module whose default export it is, for who imports it elsewhere; undefined where there is none. */
  readonly module?: string | undefined;
  load(): Promise<Plugin>;
}

/** Where the word behind `use:` leads: to a plugin of this package, or to a module from elsewhere. */
export type PluginLocation =
  | { readonly kind: 'built-in'; readonly entry: PluginEntry }
  /** `url` is that of an existing file. Importing it runs its code with all the rights of this process. */
  | { readonly kind: 'module'; readonly url: string };

/**
 * Finds plugins by the words a testbed uses:
 *
 * - `abstract`: built in, else the npm package `xdpbed-plugin-<role>-abstract`
 * - `./my-policy.js`: a module, relative to the testbed file's folder
 * - `@acme/xdp-policy`: that npm package
 *
 * Packages are resolved from the testbed file's folder, one by one when they are named; node_modules is never
 * searched for what might be there.
 */
export class PluginRegistry {
  readonly #builtIn = new Map<string, PluginEntry>();

  /** @param builtIn entries whose module is imported when they are used, or plugins that are there already. */
  constructor(
    builtIn: readonly (PluginEntry | Plugin)[],
    /** Milliseconds a module may take to load. */
    readonly importTimeoutMs = PHASE_TIMEOUT_MS,
  ) {
    for (const plugin of builtIn) {
      const key = `${plugin.role}/${plugin.name}`;
      if (this.#builtIn.has(key))
        throw new XdpbedError('plugin-conflict', `two built-in plugins are called ${key}`);
      this.#builtIn.set(
        key,
        'register' in plugin ? { ...entryOf(plugin), load: async () => plugin } : plugin,
      );
    }
  }

  builtIn(role?: Role): PluginEntry[] {
    return [...this.#builtIn.values()].filter((plugin) => role === undefined || plugin.role === role);
  }

  /** Throws `plugin-not-found` (with the nearest names and the install command) or `plugin-invalid`. */
  async find(role: Role, use: string, folder: string): Promise<Plugin> {
    return this.load(role, use, await this.locate(role, use, folder));
  }

  /**
   * Where a name leads, without running any of what is there. Throws `plugin-not-found`.
   *
   * @param folder of the testbed file: where packages and paths are looked up from.
   */
  async locate(role: Role, use: string, folder: string): Promise<PluginLocation> {
    const entry = this.#builtIn.get(`${role}/${use}`);
    if (entry !== undefined) return { kind: 'built-in', entry };
    const isPath = use.startsWith('./') || use.startsWith('../') || isAbsolute(use);
    const specifier = isPath || use.startsWith('@') ? use : `xdpbed-plugin-${role}-${use}`;
    let url: string;
    try {
      url = isPath
        ? pathToFileURL(resolvePath(folder, use)).href
        : await resolvePackage(specifier, pathToFileURL(`${folder}/testbed.yaml`).href);
    } catch (cause) {
      throw this.#notFound(role, use, specifier, isPath, cause);
    }
    // Resolving a name does not look whether there is such a file; and a name with a scheme is no package's.
    if (!url.startsWith('file:') || !isFile(fileURLToPath(url))) {
      throw this.#notFound(role, use, specifier, isPath, undefined);
    }
    return { kind: 'module', url };
  }

  /** Imports what was located: the code of a module runs here. Throws `plugin-invalid`. */
  async load(role: Role, use: string, location: PluginLocation): Promise<Plugin> {
    if (location.kind === 'built-in') return location.entry.load();
    const fail = (reason: string, cause?: unknown): XdpbedError =>
      new XdpbedError('plugin-invalid', `the module of ${role} '${use}' ${reason}`, { cause });
    const at = async (cause: unknown): Promise<string> => {
      const place = await placeOfImportError(location.url, cause);
      return place === undefined ? '' : `${formatLocation(place)}: `;
    };
    let module: { default?: unknown };
    rememberPluginCode(location.url);
    try {
      module = await withTimeLimit(this.importTimeoutMs, importModule(location.url), () =>
        fail(`did not load within ${this.importTimeoutMs} ms`),
      );
    } catch (cause) {
      if (cause instanceof XdpbedError) throw cause;
      throw fail(`failed to load: ${await at(cause)}${messageOf(cause)}`, cause);
    }
    try {
      return await checkPlugin(module.default, role, use);
    } catch (cause) {
      if (cause instanceof XdpbedError) throw cause;
      throw fail(`has a manifest that cannot be read: ${await at(cause)}${messageOf(cause)}`, cause);
    }
  }

  #notFound(role: Role, use: string, specifier: string, isPath: boolean, cause: unknown): XdpbedError {
    const names = this.builtIn(role).map((plugin) => plugin.name);
    const near = nearest(use, names);
    const suggestion = near === undefined ? `built in: ${names.join(', ')}` : `did you mean '${near}'?`;
    const install = isPath ? '' : `; to install it: npm install ${specifier}`;
    const message = isPath ? `there is no file '${use}'` : `no ${role} plugin is called '${use}'`;
    return new XdpbedError('plugin-not-found', message, { hint: `${suggestion}${install}`, cause });
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}

function entryOf({ role, name, description }: Plugin): Omit<PluginEntry, 'load'> {
  return { role, name, description };
}

/** Imported when a name is not built in: most command lines name no package. */
async function resolvePackage(specifier: string, from: string): Promise<string> {
  const { resolve } = await import('import-meta-resolve');
  return resolve(specifier, from);
}

async function importModule(url: string): Promise<{ default?: unknown }> {
  // A plugin that brings a tsyringe of its own could not load it without this polyfill.
  await import('reflect-metadata');
  return (await import(url)) as { default?: unknown };
}

function isPlainObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

async function checkPlugin(candidate: unknown, role: Role, use: string): Promise<Plugin> {
  const { satisfies, validRange } = await import('semver');
  const fail = (reason: string, hint?: string): never => {
    throw new XdpbedError('plugin-invalid', `'${use}' is not a usable ${role} plugin: ${reason}`, { hint });
  };
  if (typeof candidate !== 'object' || candidate === null) {
    return fail('its module has no default export', 'export default definePlugin({ … })');
  }
  const plugin = candidate as Partial<Plugin>;
  for (const field of ['name', 'version', 'role', 'api', 'description'] as const) {
    if (typeof plugin[field] !== 'string') return fail(`its manifest lacks '${field}'`);
  }
  if (!ROLES.includes(plugin.role!)) return fail(`'${plugin.role}' is not a role`);
  if (plugin.role !== role) return fail(`it implements the role ${plugin.role}`);
  if (validRange(plugin.api) === null) return fail(`api '${plugin.api}' is not a version range`);
  if (!satisfies(PLUGIN_API_VERSION, plugin.api!)) {
    return fail(`it was written for plugin API ${plugin.api}, this is ${PLUGIN_API_VERSION}`);
  }
  if (typeof plugin.register !== 'function') return fail("it has no 'register' function");
  if (!isPlainObject(plugin.configSchema)) return fail("it has no 'configSchema'");
  if (plugin.checkFiles !== undefined && typeof plugin.checkFiles !== 'function')
    return fail("its 'checkFiles' is no function");
  if (plugin.files !== undefined && typeof plugin.files !== 'function')
    return fail("its 'files' is no function");
  if (!['virtual', 'machine', undefined].includes(plugin.time))
    return fail(`its time '${plugin.time}' is no clock`);
  if (!['split', 'packed', undefined].includes(plugin.queueFormat))
    return fail(`its queue format is '${plugin.queueFormat}', which is none`);
  if (!['process', 'run', undefined].includes(plugin.judgesIn))
    return fail(`it judges in '${plugin.judgesIn}', which is no place`);
  return candidate as Plugin;
}
