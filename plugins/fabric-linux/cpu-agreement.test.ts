import { describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { possibleCpus, probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

/** The guest has three CPUs, the model's host one, the kernel as many as the machine may have. */
const TESTBED = `version: 1
name: cpus
programs:
  own: { object: ${objects}blocklist.o, maps: { blocked: [{ key: { prefixlen: 0 }, value: 1 }] } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    cpus: 3
    nics:
      eth0:
        tap: tap0
        mac: 52:54:00:00:00:02
        program: own
        features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_BPF_OFFLOAD]
workload: { use: imix, config: { frames: 200 } }
matrix:
  fabric:
    model: { plugins.fabric: { use: model } }
    linux: { plugins.fabric: { use: linux }, guests.g0.kind: tap-reader }
  placement:
    guest: { guests.g0.nics.eth0.placement: guest }
    host: { guests.g0.nics.eth0.placement: host }
checks:
  - { kind: same-across, axis: fabric }
  - { kind: same-across, axis: placement }
  - { kind: expect, map: counters, key: 1, member: packets, equals: 200 }
`;

describe.skipIf(skipped !== '')(`counters of each CPU${skipped}`, () => {
  it('are the same in sum, wherever and on how many CPUs the program runs', async () => {
    const resolved = await resolveTestbed('/nowhere/t.yaml', TESTBED, new PluginRegistry(BUILT_IN_PLUGINS));
    const { runs, checks, failures } = await runTestbed(resolved, { version: '0' });
    expect(failures ?? []).toEqual([]);
    expect(checks.flatMap(({ problems }) => problems)).toEqual([]);
    const bytes = runs.map(
      ({ maps }) => maps.find(({ name }) => name === 'counters')!.entries[0]!.value.length / 2,
    );
    expect(bytes).toEqual([3, 1, 3, possibleCpus()].map((cpus) => 16 * cpus));
  }, 60_000);
});
