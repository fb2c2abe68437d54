import { describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { loadTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { attackSucceeded, type AttackResult } from '../../src/core/contract/result.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { ATTACKS } from './attacks.js';

async function resultsOf(attack: string, name: string): Promise<Map<string, AttackResult>> {
  const file = new URL(`../../testbeds/attacks/${name}.testbed.yaml`, import.meta.url).pathname;
  const testbed = await loadTestbed(file, new PluginRegistry(BUILT_IN_PLUGINS), {
    only: [`attack=${attack}`],
  });
  const document = await runTestbed(testbed, { version: '0' });
  expect(document.failures).toBeUndefined();
  return new Map(document.runs.flatMap(({ attacks }) => attacks!.map((result) => [result.device, result])));
}

const named = (target: 'device' | 'ring'): string[] =>
  ATTACKS.filter((entry) => (entry.target ?? 'device') === target).map(({ name }) => name);

describe.each(named('ring'))('attack %s', (name) => {
  it('fails whichever device is behind the ring', async () => {
    const results = await resultsOf(name, 'rings');
    expect([...results.keys()]).toEqual(['guarded', 'rfc-2019-naive']);
    expect(results.get('guarded')).toMatchObject({ attack: name, held: true, broken: [] });
    expect(results.get('rfc-2019-naive')).toMatchObject({ attack: name, held: true, broken: [] });
  }, 60_000);
});

describe.each(named('device'))('attack %s', (name) => {
  it('fails on the guarded device and succeeds on the weak one', async () => {
    const results = await resultsOf(name, 'all');
    expect(results.get('guarded')).toMatchObject({ attack: name, held: true, broken: [] });
    const naive = results.get('rfc-2019-naive')!;
    expect(attackSucceeded(naive), JSON.stringify(naive)).toBe(true);
  }, 60_000);
});

describe('the guarded device without policies', () => {
  it('is open to the attacks that only policies stop, and to no other', async () => {
    const file = new URL('../../testbeds/attacks/all.testbed.yaml', import.meta.url).pathname;
    const testbed = await loadTestbed(file, new PluginRegistry(BUILT_IN_PLUGINS), {
      only: ['device=guarded'],
      set: ['policies=[]'],
    });
    const document = await runTestbed(testbed, { version: '0' });
    const results = document.runs.flatMap(({ attacks }) => attacks!);
    expect(results).toHaveLength(named('device').length);
    expect(results.filter(({ held }) => !held).map(({ attack }) => attack)).toEqual([
      'exhaust-maps',
      'exhaust-memory',
      'programs-beyond-limits',
      'host-reading-helpers',
      'exhaust-btf',
    ]);
    expect(document.passed).toBe(false);
  }, 60_000);
});
