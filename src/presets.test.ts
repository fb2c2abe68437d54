import { existsSync, readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from './presets.js';

describe('the list of built-in plugins', () => {
  it.each(BUILT_IN_PLUGINS.map((entry) => [`${entry.role}-${entry.name}`, entry] as const))(
    '%s says what the manifest behind it says',
    async (_, entry) => {
      const { role, name, description } = entry;
      expect(await entry.load()).toMatchObject({ role, name, description });
    },
  );

  it('holds every folder of plugins/', () => {
    const folder = new URL('../plugins/', import.meta.url);
    const folders = readdirSync(folder).filter((name) => existsSync(new URL(`${name}/index.ts`, folder)));
    expect(BUILT_IN_PLUGINS.map(({ role, name }) => `${role}-${name}`).sort()).toEqual(folders.sort());
  });
});
