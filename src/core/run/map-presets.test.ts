import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

const objects = new URL('../../../testbeds/programs/', import.meta.url).pathname;

/** Ten frames of 60 bytes to a guest with two CPUs, of a host that has two. */
const testbed = (program: string, nic: string, checks: readonly string[]): string => `version: 1
name: presets
programs: { own: ${program} }
host:
  case: bridge
  cpus: 2
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { cpus: 2, nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: own, ${nic} } } } }
workload: { use: udp-flood, config: { frames: 10, size: 60 } }
checks: [${checks.map((check) => `{ kind: expect, ${check} }`).join(', ')}]
`;

/** What does not hold. */
async function problems(...args: Parameters<typeof testbed>): Promise<string[]> {
  const resolved = await resolveTestbed('t.yaml', testbed(...args), new PluginRegistry(BUILT_IN_PLUGINS));
  const { checks, failures = [] } = await runTestbed(resolved, { version: '0' });
  return [...failures.map(({ message }) => message), ...checks.flatMap((check) => check.problems)];
}

const FEATURES = 'features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_MAC, VIRTIO_NET_F_CTRL_VQ';
const BPF_OFFLOAD = `${FEATURES}, VIRTIO_NET_F_BPF_OFFLOAD]`;
const RFC_2019 = `${FEATURES}, VIRTIO_NET_F_XDP_OFFLOAD]`;

/** In the guest's kernel, and on the host by either protocol. */
const PLACES = [
  ['in the guest', 'placement: guest'],
  ['offloaded, as docs/spec/bpf-offload.md has it', `placement: host, ${BPF_OFFLOAD}`],
  ['offloaded, as RFC 2019 has it', `placement: host, ${RFC_2019}`],
] as const;

describe.each(PLACES)('a program %s', (_, nic) => {
  it('finds its global variables as the testbed has them', async () => {
    const program = `{ object: ${objects}ip_sanity.o, maps: { .bss: { expired: 1000, spoofer: 192.0.2.9 } } }`;
    expect(
      await problems(program, nic, [
        'map: .bss, member: expired, equals: 1000',
        'map: .bss, member: fragment_bytes, equals: 0',
        'value: ends.guest-stack, equals: 10',
      ]),
    ).toEqual([]);
  });
});

describe.each(PLACES.slice(0, 2))('a program %s', (_, nic) => {
  it('finds constants as the testbed has them, and so do both verifiers', async () => {
    const globals = (maps: string): string => `{ object: ${objects}globals.o, maps: ${maps} }`;
    expect(
      await problems(globals('{ .data: { min_len: 61 }, .bss: { packets: 1000 } }'), nic, [
        'map: .bss, member: packets, equals: 1010',
        // What is left out is what the object has.
        `map: .data, member: seed, equals: ${0x9e3779b9}`,
        'value: ends.xdp-drop, equals: 10',
      ]),
    ).toEqual([]);
    expect(
      await problems(globals('{ .data: { min_len: 61 }, .rodata: { drop_short: 0, log_first: 0 } }'), nic, [
        'map: .rodata, member: sample_every, equals: 1',
        'value: ends.xdp-drop, equals: 0',
        'value: ends.guest-stack, equals: 10',
      ]),
    ).toEqual([]);
  });

  it('finds what the testbed gives single CPUs', async () => {
    const maps =
      '{ counters: [{ key: 0, value: { bytes: 7 } }, { key: 1, cpus: { 1: { packets: 40, bytes: 2 } } }] }';
    expect(
      await problems(`{ object: ${objects}blocklist.o, maps: ${maps} }`, nic, [
        'map: counters, key: 1, member: packets, cpu: 0, equals: 0',
        'map: counters, key: 1, member: packets, cpu: 1, equals: 40',
        'map: counters, key: 1, member: bytes, cpu: 1, equals: 2',
        // 7 of either, and 60 of each frame.
        'map: counters, key: 0, member: packets, equals: 10',
        'map: counters, key: 0, member: bytes, equals: 614',
      ]),
    ).toEqual([]);
  });

  it('finds maps and programs of the object where the testbed puts them', async () => {
    const section = 'section: tail_entry';
    expect(
      await problems(
        // From the first to the last: two of the five stages are left out.
        `{ object: ${objects}tail_chain.o, ${section}, maps: { stages: [{ key: 0, value: stage3 }] } }`,
        nic,
        [0, 0, 10, 10].map((visits, index) => `map: visits, key: ${index + 1}, equals: ${visits}`),
      ),
    ).toEqual([]);
    expect(
      await problems(
        `{ object: ${objects}map_in_map.o, maps: { by_family: [{ key: 0, value: counts_v6 }] } }`,
        nic,
        ['map: counts_v6, key: 17, equals: 10', 'map: by_family, key: 3, equals: 0'],
      ),
    ).toEqual([]);
  });
});
