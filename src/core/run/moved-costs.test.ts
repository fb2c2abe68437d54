import { Type } from '@sinclair/typebox';
import { expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { definePlugin } from '../contract/plugin.js';
import { POLICY, type ObservedCost, type Policy } from '../contract/policy.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

const programs = new URL('../../../testbeds/programs/', import.meta.url).pathname;

it('tells the policies of each host what judging and running a guest’s program took there, also of one that moved in', async () => {
  const told = new Map<string, ObservedCost[]>([
    ['here', []],
    ['there', []],
  ]);
  const policy = (name: string): Policy => ({
    name,
    countsInsns: true,
    rule: () => ({ ruling: 'allow', reason: 'all is' }),
    observe: (cost) => void told.get(name)!.push(cost),
  });
  const plugins = [...told.keys()].map((name) =>
    definePlugin({
      name,
      version: '1.0.0',
      role: 'policy',
      api: '^2',
      description: 'keeps what it is told',
      configSchema: Type.Object({}),
      register: (scope) => scope.bindFactory(POLICY, () => policy(name)),
    }),
  );
  const text = `version: 1
name: costs
workload: { use: udp-flood, config: { frames: 200 } }
policies: [{ use: here }]
programs: { count: { object: ${programs}flow_count.o } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  alice:
    migration: { after-frames: 100, policies: [{ use: there }] }
    nics:
      eth0:
        tap: tap0
        mac: 52:54:00:00:00:02
        program: count
        placement: host
        features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_BPF_OFFLOAD]
`;
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
  const testbed = await resolveTestbed('/t.yaml', text, registry);
  const { runs } = await runTestbed(testbed, { version: '0' });
  expect(runs[0]!.migrations).toMatchObject([{ moved: true, programs: 1 }]);
  const runsOn = new Map<string, number>();
  for (const [host, [judged, ...ran]] of told) {
    expect(judged).toMatchObject({ kind: 'verification', guest: 'alice', nic: 'eth0' });
    expect(judged).toHaveProperty('milliseconds', expect.any(Number));
    runsOn.set(host, ran.length);
    for (const run of ran) expect(run).toMatchObject({ kind: 'insns', guest: 'alice', nic: 'eth0' });
  }
  // The fabric takes frames some at a time, so that of the first hundred the last ones may meet the program there.
  expect(runsOn.get('here')! + runsOn.get('there')!).toBe(200);
  expect(runsOn.get('here')).toBeGreaterThan(0);
  expect(runsOn.get('there')).toBeGreaterThanOrEqual(100);
});
