import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { linkProgram } from '../../bpf/link.js';
import { mapTypeName } from '../../bpf/map-spec.js';
import { parseObjectFile } from '../../bpf/object-file.js';
import { programTag } from '../../bpf/program-tag.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { RunResult } from '../contract/result.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

const programs = new URL('../../../testbeds/programs/', import.meta.url);

async function run(more: string, nic: string): Promise<RunResult> {
  const text = `version: 1
name: offloads
workload: { use: udp-flood, config: { frames: 10 } }
programs: { xdp1: { object: ${programs.pathname}xdp1.o } }
${more}
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  alice: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: xdp1, ${nic} } } }
  bob: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03 } } }
`;
  const testbed = await resolveTestbed('/t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const { runs, failures } = await runTestbed(testbed, { version: '0' });
  expect(failures ?? []).toEqual([]);
  return runs[0]!;
}

describe('what the host holds at its taps', () => {
  it('is told with program, tag, counters, maps and memory, of taps at which there is something', async () => {
    const { offloads, hooks } = await run(
      'policies: [{ use: quota }]',
      'placement: host, queues: 2, features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_MQ, VIRTIO_NET_F_XDP_OFFLOAD]',
    );
    const object = parseObjectFile(readFileSync(new URL('xdp1.o', programs)), 'xdp1.o');
    const [map] = object.maps;
    // Whatever the map is called by whom: a tag does not depend on it.
    const { insns } = linkProgram(object.programs[0]!, new Map([[map!.name, 4711]]));
    const memory = new MemoryMapBackend(new BpfRuntime({ memoryBytes: 2 ** 20, cpus: 1 })).memoryCost(map!);
    expect(offloads).toEqual([
      {
        tap: 'tap0',
        guest: 'alice',
        nic: 'eth0',
        features: [
          'VIRTIO_NET_F_CTRL_VQ',
          'VIRTIO_NET_F_MQ',
          'VIRTIO_F_VERSION_1',
          'VIRTIO_NET_F_XDP_OFFLOAD',
        ],
        capabilities: {
          word: '0x00010007',
          names: ['XDP_OFFLOAD', 'MULTI_QUEUE', 'POLICED', 'RFC_2019'],
        },
        program: {
          name: 'xdp1',
          tag: Buffer.from(programTag(insns)).toString('hex'),
          insns: insns.length,
          loaded: 0,
          executor: 'interpreter',
          verdicts: hooks.find(({ site }) => site === 'offload')!.verdicts,
        },
        maps: [
          {
            type: mapTypeName(map!.type),
            keySize: 4,
            valueSize: 8,
            maxEntries: 256,
            flags: 0,
            memory,
            used: true,
          },
        ],
        mapMemory: memory,
      },
    ]);
    // Half of the frames are for each guest.
    expect(offloads![0]!.program!.verdicts.XDP_DROP).toBe(5);
  });

  it('is nothing where nothing is offloaded', async () => {
    expect(await run('', 'placement: guest')).not.toHaveProperty('offloads');
  });

  it('is nothing where the program was denied: the guest’s driver frees the maps that were made for it', async () => {
    const denied = await run(
      'policies: [{ use: program-limits, config: { verdicts: [XDP_PASS] } }]',
      'placement: host',
    );
    expect(denied.attachments[0]!.attached).toBe(false);
    expect(denied).not.toHaveProperty('offloads');
  });

  it('says that insns are counted where a policy wants to know', async () => {
    const insns = '{ per-second: 1.0e+9, burst: 1.0e+9 }';
    const { offloads } = await run(
      `policies: [{ use: rate-limit, config: { per-guest: { insns: ${insns} } } }]`,
      'placement: host',
    );
    expect(offloads![0]!.capabilities.names).toContain('INSNS_COUNTED');
  });
});
