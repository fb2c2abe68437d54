import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from './plugin-registry.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-registry-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const registry = new PluginRegistry(BUILT_IN_PLUGINS, 200);
const find = (use: string) => registry.find('policy', use, folder);

function module(name: string, text: string): string {
  writeFileSync(join(folder, name), text);
  return `./${name}`;
}

const MANIFEST = "name: 'p', version: '1.0.0', role: 'policy', api: '^2', description: 'd'";

describe('a name that leads nowhere', () => {
  it.each([
    ['./missing.mjs', "there is no file './missing.mjs'"],
    ['/nowhere/missing.mjs', "there is no file '/nowhere/missing.mjs'"],
    ['./', "there is no file './'"],
    ['./%zz.mjs', "there is no file './%zz.mjs'"],
    ['quoat', "no policy plugin is called 'quoat'"],
    ['http://example.org/x', "no policy plugin is called 'http://example.org/x'"],
    ['@acme/xdp-policy', "no policy plugin is called '@acme/xdp-policy'"],
  ])('%s', async (use, message) => {
    await expect(find(use)).rejects.toMatchObject({ code: 'plugin-not-found', message });
  });
});

describe('a module that is no plugin', () => {
  it.each([
    ['throws.mjs', "throw new Error('out of order')", 'throws.mjs:1:7: out of order'],
    ['hangs.mjs', 'await new Promise(() => {})', 'did not load within 200 ms'],
    ['imports.mjs', "import './gone.mjs'", 'imports.mjs:1:1: Cannot find module'],
    ['empty.mjs', '', 'its module has no default export'],
    ['getter.mjs', "export default { get name() { throw new Error('no') } }", 'getter.mjs:1:37: no'],
    ['schemaless.mjs', `export default { ${MANIFEST}, register() {} }`, "it has no 'configSchema'"],
    [
      'null.mjs',
      `export default { ${MANIFEST}, configSchema: null, register() {} }`,
      "it has no 'configSchema'",
    ],
  ])('%s', async (name, text, reason) => {
    await expect(find(module(name, text))).rejects.toMatchObject({
      code: 'plugin-invalid',
      message: expect.stringContaining(reason) as string,
    });
  });
});
