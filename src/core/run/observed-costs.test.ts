import { Type } from '@sinclair/typebox';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { definePlugin, type Plugin } from '../contract/plugin.js';
import { POLICY, type ArrivedCommand, type ObservedCost, type Policy } from '../contract/policy.js';
import type { RunResult } from '../contract/result.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

const programs = new URL('../../../testbeds/', import.meta.url).pathname;

/** A policy that is told of everything, in a run in which alice's program is taken and bob's is rejected. */
async function watchedRun(policy: Partial<Policy>, chain = '[{ use: watching }]'): Promise<RunResult> {
  const plugin: Plugin = definePlugin({
    name: 'watching',
    version: '1.0.0',
    role: 'policy',
    api: '^2',
    description: 'made for a test',
    configSchema: Type.Object({}),
    register: (scope) =>
      scope.bindValue(POLICY, {
        name: 'watching',
        rule: () => ({ ruling: 'allow', reason: 'made for a test' }),
        ...policy,
      }),
  });
  const text = `version: 1
name: costs
workload: { use: udp-flood, config: { frames: 10 } }
policies: ${chain}
programs:
  pass: { object: ${programs}programs/pass.o }
  unsafe: { object: ${programs}unsafe/short_check.s }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  alice: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: pass, placement: host } } }
  bob: { nics: { eth1: { tap: tap1, mac: 52:54:00:00:00:03, program: unsafe, placement: host, hostile: true } } }
`;
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, plugin]);
  const testbed = await resolveTestbed('/t.yaml', text, registry);
  const { runs, failures } = await runTestbed(testbed, { version: '0' });
  expect(failures ?? []).toEqual([]);
  return runs[0]!;
}

describe('what a policy is told in a run', () => {
  it('is what judging each guest’s program took, whatever became of it', async () => {
    const costs: ObservedCost[] = [];
    const { attachments } = await watchedRun({ observe: (cost) => void costs.push(cost) });
    expect(attachments.map(({ attached }) => attached)).toEqual([true, false]);
    expect(costs.map(({ kind, guest, nic, time }) => [kind, guest, nic, time])).toEqual([
      ['verification', 'alice', 'eth0', 0],
      ['verification', 'bob', 'eth1', 0],
    ]);
    for (const cost of costs) {
      if (cost.kind !== 'verification') continue;
      expect(cost.milliseconds).toBeGreaterThanOrEqual(0);
      expect(cost.milliseconds).toBeLessThan(10_000);
    }
  });

  it('is every command of every guest, numbered on its nic, and a throw changes nothing but its ruling', async () => {
    const commands: ArrivedCommand[] = [];
    const { control, rulings } = await watchedRun({
      observe: () => {
        throw new Error('cannot bear it');
      },
      admit: (command) => {
        commands.push(command);
        return { ruling: 'allow', reason: 'made for a test' };
      },
    });
    for (const { guest, nic, commands: counts } of control) {
      const own = commands.filter((command) => command.guest === guest && command.nic === nic);
      const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
      // What the guest takes away again when the run is over comes after the result.
      expect(own.length).toBeGreaterThanOrEqual(total);
      expect(own.map(({ id }) => id)).toEqual(own.map((_, index) => index + 1));
    }
    expect(rulings).toContainEqual(
      expect.objectContaining({ guest: 'alice', operation: 'command', policy: 'watching', request: 1 }),
    );
  });

  it('does not make a policy in a dry run deny commands', async () => {
    const { attachments, rulings } = await watchedRun(
      { admit: () => ({ ruling: 'deny', reason: 'none at all' }) },
      '[{ use: watching, dry-run: true }]',
    );
    expect(attachments[0]!.attached).toBe(true);
    expect(rulings).toContainEqual(
      expect.objectContaining({ operation: 'command', ruling: 'deny', dryRun: true }),
    );
  });
});
