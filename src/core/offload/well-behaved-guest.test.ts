import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { runTestbed } from '../run/run-testbed.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';

/** Looks up element 0 of each map, in that order: map-lookup is a helper that may be offloaded. */
const lookups = (...maps: string[]) =>
  maps
    .map(
      (map) => `  r1 = 0
  *(u32 *)(r10 -4) = r1
  r1 = map[${map}]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
`,
    )
    .join('');
const PASS = `  r0 = 2
  exit
`;

/** Programs that a driver of RFC 2019 must not hand to the device. Each has an ARRAY, which it could create there. */
const PROGRAMS = {
  // Reads the packet without comparing it with data_end.
  unsafe: `.map counters array key=4 value=8 entries=1
.program unsafe
  r6 = r1
${lookups('counters')}  r1 = *(u32 *)(r6 +0)
  r1 = *(u8 *)(r1 +0)
${PASS}`,
  // The type of its second map is none that the RFC's driver creates on the device.
  odd_map: `.map counters array key=4 value=8 entries=1
.map recent lru_hash key=4 value=8 entries=16
.program odd_map
${lookups('counters', 'recent')}${PASS}`,
  // Its helper tells the host's time.
  odd_helper: `.map counters array key=4 value=8 entries=1
.program odd_helper
${lookups('counters')}  call bpf_ktime_get_ns
${PASS}`,
  fine: `.map counters array key=4 value=8 entries=1
.program fine
${lookups('counters')}${PASS}`,
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-driver-'));
  for (const [name, text] of Object.entries(PROGRAMS)) {
    await writeFile(join(folder, `${name}.s`), `.license GPL\n${text}`);
  }
});
afterAll(() => rm(folder, { recursive: true }));

async function offload(program: keyof typeof PROGRAMS, hostile: boolean, more = '', policy = 'quota') {
  const text = `version: 1
name: driver
programs: { it: { object: ${program}.s } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: it, placement: host, hostile: ${hostile}${more} }
policies: [{ use: ${policy} }]
workload: { use: udp-flood, config: { frames: 10 } }
`;
  const file = join(folder, 'driver.testbed.yaml');
  const resolved = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS));
  const { runs } = await runTestbed(resolved, { version: '0' });
  return runs[0]!;
}

describe('the helpers of the driver', () => {
  it.each([
    ['[default, bpf_ktime_get_ns]', 'quota', undefined],
    ['[any]', 'quota', undefined],
    ['[bpf_map_lookup_elem, bpf_ktime_get_ns]', 'quota', undefined],
    [
      '[default]',
      'quota',
      "helper bpf_ktime_get_ns cannot be offloaded: the guest's driver refused it, and did not ask the host (driver-helpers)",
    ],
    [
      '[bpf_ktime_get_ns]',
      'quota',
      "helper bpf_map_lookup_elem cannot be offloaded: the guest's driver refused it",
    ],
    // The host has the last word, and is the one that is told to have refused.
    ['[any]', 'helper-allow-list', 'the device answered'],
  ])('%s, and policy %s', async (helpers, policy, refused) => {
    const { attachments, rulings } = await offload(
      'odd_helper',
      false,
      `, driver-helpers: ${helpers}`,
      policy,
    );
    expect(attachments[0]!.attached).toBe(refused === undefined);
    if (refused !== undefined) expect(attachments[0]!.reason).toContain(refused);
    const denials = rulings.filter(({ ruling }) => ruling === 'deny').map((ruling) => ruling.policy);
    expect(denials).toEqual(policy === 'quota' ? [] : ['helper-allow-list']);
  });

  it('have to be helpers', async () => {
    await expect(offload('fine', false, ', driver-helpers: [bpf_ktime_get]')).rejects.toThrow(
      "'bpf_ktime_get' is not a helper",
    );
  });
});

describe('a well-behaved guest', () => {
  it.each([
    ['its own verifier rejects', 'unsafe', 'program unsafe was rejected by verifier abstract: '],
    [
      'has a map of a type that cannot be offloaded',
      'odd_map',
      'map recent: BPF_MAP_TYPE_LRU_HASH cannot be offloaded',
    ],
    ['calls a helper that cannot be offloaded', 'odd_helper', 'helper bpf_ktime_get_ns cannot be offloaded'],
  ] as const)('sends nothing of a program that %s', async (_, program, reason) => {
    const run = await offload(program, false);
    expect(run.attachments).toMatchObject([
      {
        node: 'g0.eth0',
        placement: 'host',
        attached: false,
        reason: expect.stringContaining(reason) as string,
      },
    ]);
    expect(run.control).toEqual([{ guest: 'g0', nic: 'eth0', commands: {}, acks: { ok: 0, err: 0 } }]);
    expect(run.rulings).toEqual([]);
    expect(run.audit).toEqual([]);
    expect(run.ends).toEqual([{ place: 'g0.eth0', fate: 'guest-stack', frames: 10 }]);
  });

  // Without these, the above would hold of a guest that can send nothing at all. The host's own no: its verifier
  // rejects the one, its device offers no such type to the other; a helper is left to policies, of which none is here.
  it.each([
    ['unsafe', { 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_PROG/SET_OFFLOAD': 1, 'EBPF_MAP/FREE_MAP': 1 }, false],
    ['odd_map', { 'EBPF_MAP/CREATE_MAP': 2, 'EBPF_MAP/FREE_MAP': 1 }, false],
    ['odd_helper', { 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_PROG/SET_OFFLOAD': 1 }, true],
  ] as const)('is not what a hostile one is, which sends %s', async (program, commands, attached) => {
    const run = await offload(program, true);
    expect(run.control[0]!.commands).toMatchObject(commands);
    expect(run.attachments).toMatchObject([{ attached }]);
    expect(run.rulings).not.toEqual([]);
  });

  it('sends what is in order', async () => {
    const run = await offload('fine', false);
    expect(run.control[0]!.commands).toMatchObject({ 'EBPF_MAP/CREATE_MAP': 1, 'EBPF_PROG/SET_OFFLOAD': 1 });
    expect(run.attachments).toMatchObject([{ attached: true }]);
  });
});
