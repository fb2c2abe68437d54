import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import type { RunResult } from '../../src/core/contract/result.js';
import { probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const programs = fileURLToPath(new URL('../../testbeds/programs/', import.meta.url));
const state = mkdtempSync(join(tmpdir(), 'xdpbed-leftovers-'));

/** Copies `count` bytes behind R2 into the map's value, if they are the packet's (or its metadata). */
const copy = (count: number): string =>
  Array.from(
    { length: count / 8 },
    (_, at) => `r1 = *(u64 *)(r2 +${8 * at})\n*(u64 *)(r7 +${8 * at}) = r1`,
  ).join('\n');

/** A program with an array `dump` of 480 bytes, whose value is in R7 and the context in R6 and R1. */
const dumping = (text: string): string => `.license GPL
.map dump array key=4 value=480 entries=1
.map times array key=4 value=8 entries=1
.program main
  r6 = r1
  *(u32 *)(r10 -4) = 0
  r1 = map[times]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
  r1 = map[dump]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r7 = r0
  r1 = r6
  ${text}
out:
  r0 = 1
  exit
`;

const STACK = dumping(`
  r2 = 0xffff
  r3 = r10
  r3 += -488
  r4 = 480
  call bpf_xdp_load_bytes
  if r0 == 0 goto out
  r2 = r10
  r2 += -488
  ${copy(480)}`);

const moving = (helper: string, start: number, end: number): string =>
  dumping(`
  r2 = -128
  call ${helper}
  r2 = *(u32 *)(r6 +${start})
  r3 = *(u32 *)(r6 +${end})
  r4 = r2
  r4 += 128
  if r4 > r3 goto out
  ${copy(128)}`);

async function runOn(hook: string, program: string, allowPointerLeaks: boolean): Promise<RunResult> {
  writeFileSync(join(state, 'dump.s'), program);
  const isBridge = hook === 'tcx-egress' || hook === 'bridge-early';
  const text = `version: 1
name: leftovers
plugins:
  fabric: { use: linux }
  executor: { use: wasm }
  verifier: { use: abstract, config: { allowPointerLeaks: ${allowPointerLeaks} } }
policies: [{ use: helper-allow-list }]
programs:
  dump: { object: ${join(state, 'dump.s')} }
  to-tap:
    object: ${programs}xdp_redirect.o
    maps:
      fdb: [{ key: { mac: g0.eth0 }, value: 0 }]
      tx_port: [{ key: 0, value: { ifindex: tap0 } }]
host:
  case: ${isBridge ? 'bridge' : 'redirect'}
  hook: ${hook}
  nics: { eth0: { mac: 52:54:00:00:00:01${isBridge ? '' : ', program: to-tap'} } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0: { kind: tap-reader, nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: dump, placement: host } } }
workload: { use: udp-flood, config: { frames: 20 } }
`;
  const testbed = await resolveTestbed('leftovers.testbed.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const result = await runTestbed(testbed, { version: '0.0.0' });
  expect(result.failures ?? []).toEqual([]);
  return result.runs[0]!;
}

/** Elements that are all zero are not told. */
async function mapsAfter(
  hook: string,
  program: string,
  allowPointerLeaks = false,
): Promise<Record<string, unknown>> {
  const { maps } = await runOn(hook, program, allowPointerLeaks);
  return Object.fromEntries(maps.map(({ name, entries }) => [name, entries]));
}

describe.skipIf(skipped !== '')(`an offloaded program finds nothing of the host’s${skipped}`, () => {
  beforeAll(() => {
    process.env.XDPBED_STATE = join(state, 'runs');
  });
  afterAll(() => {
    delete process.env.XDPBED_STATE;
    rmSync(state, { recursive: true });
  });

  const NOTHING = { times: [{ key: '00000000', value: '1400000000000000' }], dump: [] };

  it.each(['tail-call', 'devmap', 'cpumap', 'veth-shim', 'tcx-egress', 'bridge-early'])(
    'on the stack: hook %s',
    async (hook) => {
      // Of what verifiers take for written by default that program may read nothing.
      expect(await mapsAfter(hook, STACK, true)).toEqual(NOTHING);
    },
  );

  it('and is not accepted by default where it would look for it on the stack', async () => {
    const { attachments } = await runOn('tail-call', STACK, false);
    const { attached, reason } = attachments.find(({ node }) => node === 'g0.eth0')!;
    expect(attached).toBe(false);
    expect(reason).toContain('nothing was stored there on this path');
  });

  it.each(['tail-call', 'devmap', 'cpumap', 'veth-shim'])('in the headroom: hook %s', async (hook) => {
    expect(await mapsAfter(hook, moving('bpf_xdp_adjust_head', 0, 4))).toEqual(NOTHING);
    expect(await mapsAfter(hook, moving('bpf_xdp_adjust_meta', 8, 0))).toEqual(NOTHING);
  });
});
