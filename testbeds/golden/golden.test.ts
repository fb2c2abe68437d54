import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { runForTest } from '../../src/cli/testing-terminal.js';

const path = (name: string) => new URL(name, import.meta.url).pathname;

/**
 * The results of these testbeds, as they were recorded before the contracts' second edition: whatever is rebuilt
 * below the testbed language, a testbed that says the same yields the same bytes. A difference that is meant is
 * recorded anew, and the commit says which fault it mends.
 */
describe.each([
  ['rfc-2019', '../rfc-2019.testbed.yaml'],
  ['rfc-2019-netperf', '../rfc-2019-netperf.testbed.yaml'],
  ['paths', 'paths.testbed.yaml'],
  ['rings', 'rings.testbed.yaml'],
  ['guests', 'guests.testbed.yaml'],
])('testbed %s', (name, file) => {
  it('yields the result that was recorded', async () => {
    const recorded = await readFile(path(`${name}.result.json`), 'utf8');
    const { exit, out } = await runForTest(['run', path(file), '--format', 'json']);
    expect(exit).toBe(0);
    expect(out).toBe(recorded);
  });
});
