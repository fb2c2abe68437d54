import { expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { loadTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

it('honest guests are served as by the RFC: all of its testbed holds but that maps can be walked', async () => {
  const registry = new PluginRegistry(BUILT_IN_PLUGINS);
  const file = new URL('../../testbeds/rfc-2019.testbed.yaml', import.meta.url).pathname;
  const set = ['plugins.device.use=rfc-2019-naive'];
  const testbed = await loadTestbed(file, registry, { set, only: ['case=redirect', 'program=xdp1'] });
  const document = await runTestbed(testbed, { version: '0' });
  expect(document.runs).toHaveLength(2);
  // The ack's one byte cannot tell the end of a map from a failure.
  expect(document.checks.filter(({ passed }) => !passed).map(({ check }) => check)).toEqual(['same-across']);
  for (const run of document.runs) {
    for (const map of run.maps) {
      const reason = 'EBPF_MAP/GET_NEXT: the device answered VIRTIO_NET_ERR';
      expect(map.unreadable).toBe(map.readFrom === 'device' ? reason : undefined);
    }
  }
  const problems = document.checks.find(({ check }) => check === 'same-across')!.problems;
  expect(problems.every((problem) => problem.includes(' in maps: '))).toBe(true);
}, 60_000);
