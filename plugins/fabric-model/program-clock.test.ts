import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

/** Keeps when it last ran, and passes. */
const LAST_SEEN = `.license GPL
.map last_seen array key=4 value=8 entries=1
.program last_seen
  call bpf_ktime_get_ns
  r6 = r0
  r1 = 0
  *(u32 *)(r10 -4) = r1
  r1 = map[last_seen]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto pass
  *(u64 *)(r0 +0) = r6
pass:
  r0 = 2
  exit
`;

/** Passes until 100 microseconds of the run's clock are over, then drops. */
const CURFEW = `.license GPL
.program curfew
  call bpf_ktime_get_ns
  if r0 >= 100000 goto late
  r0 = 2
  exit
late:
  r0 = 1
  exit
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-clock-'));
  await writeFile(join(folder, 'last_seen.s'), LAST_SEEN);
  await writeFile(join(folder, 'curfew.s'), CURFEW);
});
afterAll(() => rm(folder, { recursive: true }));

/** A testbed whose frames are sent 1000 ns apart, the first at 0. Unpoliced: a policy would keep the clock back. */
async function run(sections: { executor: string; host: string; guest?: string; frames: number }) {
  const text = `version: 1
name: clock
plugins: { executor: { use: ${sections.executor} } }
programs:
  last-seen: { object: last_seen.s }
  curfew: { object: curfew.s }
host:
  ${sections.host}
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02 ${sections.guest ?? ''} } } }
workload: { use: udp-flood, config: { frames: ${sections.frames}, rate: 1000000 } }
`;
  const file = join(folder, 'clock.testbed.yaml');
  const resolved = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS));
  const result = await runTestbed(resolved, { version: '0' });
  expect(result.checks.flatMap((check) => check.problems)).toEqual([]);
  return result.runs[0]!;
}

describe.each(['interpreter', 'wasm'])('bpf_ktime_get_ns by executor %s', (executor) => {
  it('is the time of the frame at a NIC of the host', async () => {
    const { ends } = await run({
      executor,
      host: 'case: redirect\n  nics: { eth0: { mac: 52:54:00:00:00:01, program: curfew } }',
      frames: 250,
    });
    // 0, 1000, … 99 000 ns are early; 100 000, … 249 000 ns are not.
    expect(ends).toEqual([
      { place: 'host.eth0', fate: 'host-stack', frames: 100 },
      { place: 'host.eth0', fate: 'xdp-drop', frames: 150 },
    ]);
  });

  it.each([
    ['in the guest', 'guest', 'guest-kernel'],
    ['offloaded', 'host, hostile: true', 'device'],
  ])('is the time of the frame %s', async (_, placement, readFrom) => {
    for (const frames of [2, 200]) {
      const { maps } = await run({
        executor,
        host: 'case: bridge\n  nics: { eth0: { mac: 52:54:00:00:00:01 } }',
        guest: `, program: last-seen, placement: ${placement}`,
        frames,
      });
      const last = Buffer.alloc(8);
      last.writeBigUInt64LE(BigInt(frames - 1) * 1000n);
      expect(maps).toMatchObject([
        { name: 'last_seen', readFrom, entries: [{ key: '00000000', value: last.toString('hex') }] },
      ]);
    }
  });
});
