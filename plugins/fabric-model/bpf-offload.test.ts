import { describe, expect, it } from 'vitest';
import type { RunResult } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

interface Wiring {
  readonly program: string;
  readonly placement: 'guest' | 'host';
  readonly policies?: string;
  readonly feature?: string;
}

async function run({ program, placement, policies, feature }: Wiring): Promise<RunResult> {
  const text = `version: 1
name: bpf-offload
policies: ${policies ?? '[{ use: quota }]'}
programs:
  program: ${program}
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    nics:
      eth0:
        tap: tap0
        mac: 52:54:00:00:00:02
        program: program
        placement: ${placement}
        features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, ${feature ?? 'VIRTIO_NET_F_BPF_OFFLOAD'}]
workload: { use: imix, config: { frames: 200 } }
`;
  const resolved = await resolveTestbed('/nowhere/t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const { runs } = await runTestbed(resolved, { version: '0' });
  return runs[0]!;
}

/** The same wherever the program ran: what it returned, what it kept, where frames ended. */
function seen(result: RunResult) {
  return {
    attached: result.attachments.map(({ attached, reason }) => reason ?? attached),
    verdicts: result.hooks.map(({ verdicts }) => verdicts),
    // Clocks of guest and host differ, and so do ids of objects.
    maps: result.maps.map(({ name, type, entries, records }) => ({
      name,
      entries: /_OF_MAPS|PROG_ARRAY/.test(type) ? entries.length : entries,
      records: records?.map(({ data }) => data.slice(16)),
    })),
  };
}

const OBJECTS: [what: string, program: string, policies?: string][] = [
  ['an array', `{ object: ${objects}xdp1.o }`],
  ['a hash of flows', `{ object: ${objects}flow_count.o }`],
  ['tail calls', `{ object: ${objects}tail_chain.o, section: tail_entry }`],
  ['maps of maps', `{ object: ${objects}map_in_map.o }`],
  ['atomics', `{ object: ${objects}atomics_v3.o }`],
  ['a ring buffer', `{ object: ${objects}events.o, section: ring_reserve }`],
];

describe('a program offloaded over class VIRTIO_NET_CTRL_BPF', () => {
  it.each(OBJECTS)('with %s does on the host what it does in the guest', async (_what, program) => {
    const inGuest = await run({ program, placement: 'guest' });
    const onHost = await run({ program, placement: 'host' });
    expect(inGuest.attachments).toMatchObject([{ attached: true }]);
    expect(seen(onHost)).toEqual(seen(inGuest));
    expect(onHost.maps.every(({ readFrom }) => readFrom === 'device')).toBe(true);
    expect(onHost.hooks).toMatchObject([{ site: 'offload' }]);
    expect(onHost.audit).toEqual([]);
  });

  it.each(['guest', 'host'] as const)(
    'leaves the records of a ring buffer to be read, in the %s',
    async (placement) => {
      const { maps } = await run({
        program: `{ object: ${objects}events.o, section: ring_reserve }`,
        placement,
      });
      expect(maps.map(({ name, entries }) => [name, entries])).toEqual([['ring', []]]);
      // One for each frame.
      expect(maps[0]!.records).toHaveLength(200);
    },
  );

  it('is what RFC 2019’s commands do, too, as far as they go', async () => {
    const program = `{ object: ${objects}xdp1.o }`;
    const before = await run({ program, placement: 'host', feature: 'VIRTIO_NET_F_XDP_OFFLOAD' });
    const after = await run({ program, placement: 'host' });
    expect(seen(after)).toEqual(seen(before));
    expect(after.ends).toEqual(before.ends);
  });

  it('is spoken where both are offered', async () => {
    const program = `{ object: ${objects}xdp1.o }`;
    const both = 'VIRTIO_NET_F_XDP_OFFLOAD, VIRTIO_NET_F_BPF_OFFLOAD';
    const { control } = await run({ program, placement: 'host', feature: both });
    expect(Object.keys(control[0]!.commands).filter((name) => name.startsWith('EBPF'))).toEqual([]);
    expect(control[0]!.commands).toMatchObject({ 'BPF/PROG_LOAD': 1, 'BPF/LINK_CREATE': 1 });
  });

  it('is told by its host what is wrong with it, in words', async () => {
    const program = `{ object: ${objects}tail_chain.o, section: tail_entry }`;
    const { attachments } = await run({
      program,
      placement: 'host',
      policies: '[{ use: quota, config: { per-guest: { programs: 2 } } }]',
    });
    expect(attachments[0]).toMatchObject({ attached: false });
    expect(attachments[0]!.reason).toMatch(/by quota: 3 programs of guest g0 exceed the quota of 2/);
  });

  it('is not sent when its host says beforehand that it cannot be', async () => {
    const program = `{ object: ${objects}globals.o }`;
    const { attachments, control } = await run({
      program,
      placement: 'host',
      policies: '[{ use: helper-allow-list }]',
    });
    expect(attachments[0]!.reason).toMatch(/the device does not offer helper bpf_ktime_get_ns/);
    expect(control[0]!.commands).toEqual({ 'BPF/CAPABILITIES': 1 });
  });

  it('may call what the testbed allows', async () => {
    const program = `{ object: ${objects}globals.o }`;
    const { attachments } = await run({
      program,
      placement: 'host',
      policies: '[{ use: helper-allow-list, config: { allow: [bpf_ktime_get_ns, bpf_trace_printk] } }]',
    });
    expect(attachments.map(({ attached, reason }) => reason ?? attached)).toEqual([true]);
  });
});
