import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;
const FRAMES = 20;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-redirect-'));
  const toNobody = '.program away\n  r1 = 99\n  r2 = 0\n  call bpf_redirect\n  exit\n';
  await writeFile(join(folder, 'to_nobody.s'), toNobody);
});
afterAll(() => rm(folder, { recursive: true }));

/** The host's eth0, which frames come in by, has ifindex 2, eth1 has 3; the taps of g0 and g1 have 4 and 5. */
async function run(program: string) {
  const text = `version: 1
name: host-redirect
programs: { nic: { ${program} } }
host:
  case: redirect
  nics: { eth0: { mac: 52:54:00:00:00:01, program: nic }, eth1: { mac: 52:54:00:00:00:04 } }
  taps: { tap0: {}, tap1: {} }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02 } } }
  g1: { nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03 } } }
workload: { use: udp-flood, config: { frames: ${FRAMES} } }
checks: [{ kind: conservation }]
`;
  const file = join(folder, 'host-redirect.testbed.yaml');
  const resolved = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS));
  const { runs, checks } = await runTestbed(resolved, { version: '0' });
  expect(checks.flatMap((check) => check.problems)).toEqual([]);
  const { hooks, ends, framesCopied } = runs[0]!;
  return {
    verdicts: hooks.find((hook) => hook.site === 'host-nic')!.verdicts,
    ends: ends.map(({ place, fate, frames }) => [place, fate, frames]),
    framesCopied,
  };
}

/** A program of redirect_kinds.bpf.c, with elements of its maps. */
const kind = (section: string, maps = '') =>
  `object: ${objects}redirect_kinds.o, section: ${section}, maps: { ${maps} }`;

describe('a program of the host’s NIC that redirects', () => {
  it.each([
    ['to a tap', 'ifindex: tap0', [['g0.eth0', 'guest-stack', FRAMES]]],
    ['to another NIC', 'ifindex: eth1', [['host.eth1', 'transmitted', FRAMES]]],
  ])('%s by a device map', async (_, target, ends) => {
    const result = await run(kind('to_device', `tx_hash: [{ key: 2, value: { ${target} } }]`));
    expect(result.ends).toEqual(ends);
    expect(result.verdicts.XDP_REDIRECT).toBe(FRAMES);
  });

  it('by a device map that has no such key gets the verdict that it asked for then', async () => {
    const result = await run(kind('to_device', 'tx_hash: [{ key: 3, value: { ifindex: tap0 } }]'));
    expect(result.ends).toEqual([['host.eth0', 'xdp-drop', FRAMES]]);
  });

  it('to all devices of a map sends each a copy, but none back to where the frame came from', async () => {
    const all = ['tap0', 'eth0', 'tap1', 'eth1'].map(
      (name, index) => `{ key: ${index}, value: { ifindex: ${name} } }`,
    );
    const result = await run(kind('to_all_devices', `tx_hash: [${all.join(', ')}]`));
    expect(result.ends).toEqual([
      ['g0.eth0', 'guest-stack', FRAMES],
      ['g1.eth0', 'guest-stack', FRAMES],
      ['host.eth1', 'transmitted', FRAMES],
    ]);
    expect(result.framesCopied).toBe(2 * FRAMES);
  });

  it('to all devices of a map that holds only where the frame came from loses the frame', async () => {
    const result = await run(kind('to_all_devices', 'tx_hash: [{ key: 0, value: { ifindex: eth0 } }]'));
    expect(result.ends).toEqual([['host.eth0', 'redirect-failed', FRAMES]]);
  });

  it('to a CPU leaves frames to the host’s stack', async () => {
    // A value of 192 is a queue of so many frames and no program. Without it the program asks for XDP_PASS.
    const result = await run(kind('to_cpu', 'cpus: [{ key: 0, value: { qsize: 192 } }]'));
    expect(result.ends).toEqual([['host.eth0', 'host-stack', FRAMES]]);
    expect(result.verdicts.XDP_REDIRECT).toBe(FRAMES);
    expect((await run(kind('to_cpu'))).verdicts.XDP_PASS).toBe(FRAMES);
  });

  it('to where the frame came from sends it out there', async () => {
    expect((await run(kind('to_ifindex'))).ends).toEqual([['host.eth0', 'transmitted', FRAMES]]);
  });

  it('to an index that no interface has loses the frame', async () => {
    expect((await run('object: to_nobody.s')).ends).toEqual([['host.eth0', 'redirect-failed', FRAMES]]);
  });
});
