import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { RunResult } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const objects = new URL('../../testbeds/programs/', import.meta.url).pathname;

/** One record for each frame: its length and its first six bytes. */
const RING = `.license GPL
.map ring ringbuf entries=4096
.program report
  r6 = r1
  r8 = *(u32 *)(r6 +0)
  r7 = *(u32 *)(r6 +4)
  r2 = r8
  r2 += 14
  if r2 > r7 goto out
  r7 -= r8
  *(u64 *)(r10 -16) = r7
  r3 = *(u32 *)(r8 +0)
  *(u32 *)(r10 -8) = r3
  r3 = *(u16 *)(r8 +4)
  *(u32 *)(r10 -4) = r3
  r1 = map[ring]
  r2 = r10
  r2 += -16
  r3 = 16
  r4 = 0
  call bpf_ringbuf_output
out:
  r0 = 2
  exit
`;

async function run(
  fabric: 'model' | 'linux',
  program: string,
  policies = '[{ use: quota }]',
): Promise<RunResult> {
  const text = `version: 1
name: bpf-offload
plugins: { fabric: { use: ${fabric} } }
policies: ${policies}
programs: { program: ${program} }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    kind: tap-reader
    nics:
      eth0:
        tap: tap0
        mac: 52:54:00:00:00:02
        program: program
        placement: host
        features: [VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, VIRTIO_NET_F_BPF_OFFLOAD]
workload: { use: imix, config: { frames: 200 } }
checks: [{ kind: conservation }]
`;
  const resolved = await resolveTestbed('/nowhere/t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const { runs, failures, checks } = await runTestbed(resolved, { version: '0' });
  expect(failures ?? []).toEqual([]);
  expect(checks.filter(({ check, passed }) => check === 'conservation' && !passed)).toEqual([]);
  return runs[0]!;
}

function seen({ attachments, hooks, ends, maps, audit }: RunResult): object {
  return {
    attached: attachments.map(({ attached, reason }) => reason ?? attached),
    verdicts: hooks.map(({ site, verdicts }) => ({ site, verdicts })),
    ends: ends.map(({ place, fate, frames }) => ({ place, fate, frames })),
    audit: audit.map((record) => ({ ...record, time: 0 })),
    maps: maps.map(({ name, readFrom, entries, records }) => ({ name, readFrom, entries, records })),
  };
}

describe.skipIf(skipped !== '')(`class VIRTIO_NET_CTRL_BPF on the kernel’s hook and maps${skipped}`, () => {
  const folder = mkdtempSync(join(tmpdir(), 'xdpbed-ring-'));
  beforeAll(() => writeFileSync(join(folder, 'report.s'), RING));
  afterAll(() => rmSync(folder, { recursive: true }));

  const same: [what: string, program: string][] = [
    ['an array', `{ object: ${objects}xdp1.o }`],
    ['a hash of flows', `{ object: ${objects}flow_count.o }`],
    ['atomics', `{ object: ${objects}atomics_v3.o }`],
    ['a ring buffer', `{ object: ${join(folder, 'report.s')} }`],
  ];
  it.each(same)('with %s does what it does in the model', async (_what, program) => {
    const model = await run('model', program);
    const linux = await run('linux', program);
    expect(linux.attachments.map(({ attached, reason }) => reason ?? attached)).toEqual([true]);
    expect(linux.hooks).toMatchObject([{ site: 'offload' }]);
    expect(Object.keys(linux.control[0]!.commands).filter((name) => !name.startsWith('BPF/'))).toEqual([]);
    expect(seen(linux)).toEqual(seen(model));
  });

  const refused: [what: string, program: string, reason: RegExp][] = [
    [
      'tail calls',
      `{ object: ${objects}tail_chain.o, section: tail_entry }`,
      /bpf_tail_call goes to XDP programs, which would have to be rewritten as well/,
    ],
    [
      'hashes in maps',
      `{ object: ${objects}map_in_map.o }`,
      /may run 100 insns and pass Infinity elements of hash chains/,
    ],
  ];
  it.each(refused)('refuses %s in words, and every frame goes on', async (_what, program, reason) => {
    const { attachments, hooks, ends, maps } = await run('linux', program);
    expect(attachments).toMatchObject([{ attached: false }]);
    expect(attachments[0]!.reason).toMatch(reason);
    expect(hooks).toEqual([]);
    expect(maps).toEqual([]);
    expect(ends.map(({ fate, frames }) => [fate, frames])).toEqual([['guest-stack', 200]]);
  });
});
