import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { formatProblem, TestbedError } from './problem-list.js';
import { loadTestbed } from './resolve-testbed.js';

/**
 * Golden pairs: a testbed with something wrong, and what xdpbed says of it. The expectations are written by
 * hand, place by place; they are not output that was copied.
 */
const folder = new URL('golden/', import.meta.url);
const names = readdirSync(folder)
  .filter((name) => name.endsWith('.testbed.yaml'))
  .map((name) => name.replace('.testbed.yaml', ''));

describe('golden pairs of bad testbeds and messages', () => {
  it.each(names)('%s', async (name) => {
    const expected = readFileSync(new URL(`${name}.golden.txt`, folder), 'utf8');
    const file = new URL(`${name}.testbed.yaml`, folder).pathname;
    const problems = await loadTestbed(file, new PluginRegistry(BUILT_IN_PLUGINS)).then(
      () => [],
      (error: unknown) => {
        if (!(error instanceof TestbedError)) throw error;
        return error.problems;
      },
    );
    const text = problems
      .map((problem) => `${formatProblem(problem).replace(folder.pathname, '')}\n`)
      .join('');
    expect(text).toBe(expected);
  });
});
