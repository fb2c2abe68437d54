import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { RunResult } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { Ledger, probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const programs = fileURLToPath(new URL('../../testbeds/programs/', import.meta.url));
const state = mkdtempSync(join(tmpdir(), 'xdpbed-state-'));

/** Sends frames on to 52:54:00:00:00:`last`, from the address that they were for. */
const sendOn = (last: string): string => `.license GPL
.program main
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 14
  if r4 > r3 goto pass
  r3 = *(u32 *)(r2 +0)
  r4 = *(u16 *)(r2 +4)
  *(u32 *)(r2 +6) = r3
  *(u16 *)(r2 +10) = r4
  *(u32 *)(r2 +0) = 0x00005452
  *(u16 *)(r2 +4) = 0x${last}00
  r0 = 3
  exit
pass:
  r0 = 2
  exit
`;

interface Scene {
  readonly hook?: string;
  /** Of the two guests. */
  readonly placement: readonly [string, string];
  readonly frames: number;
  /** Frames are the second guest's, too. */
  readonly second?: string;
}

async function run(fabric: 'linux' | 'model', scene: Scene, signal?: AbortSignal): Promise<RunResult> {
  const file = (name: string): string => join(state, name);
  writeFileSync(file('to-second.s'), sendOn('03'));
  writeFileSync(file('to-first.s'), sendOn('02'));
  const { second = 'to-first' } = scene;
  const text = `version: 1
name: loops
plugins: { fabric: { use: ${fabric} }, executor: { use: wasm } }
programs:
  to-first: { object: ${file('to-first.s')} }
  to-second: { object: ${file('to-second.s')} }
  pass: { object: ${programs}pass.o }
host:
  case: bridge
  ${fabric === 'model' || scene.hook === undefined ? '' : `hook: ${scene.hook}`}
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {}, tap1: {} }
  bridges: { br0: { ports: [eth0, tap0, tap1] } }
guests:
  g0: { kind: tap-reader, nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: to-second, placement: ${scene.placement[0]} } } }
  g1: { kind: tap-reader, nics: { eth0: { tap: tap1, mac: 52:54:00:00:00:03, program: ${second}, placement: ${scene.placement[1]} } } }
workload: { use: udp-flood, config: { frames: ${scene.frames} } }
checks: [{ kind: conservation }]
`;
  const testbed = await resolveTestbed('loops.testbed.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const result = await runTestbed(testbed, { version: '0.0.0', signal });
  expect(result.failures ?? []).toEqual([]);
  expect(result.checks).toContainEqual(
    expect.objectContaining({ check: 'conservation', passed: true, problems: [] }),
  );
  return result.runs[0]!;
}

/** What is the same on both fabrics. */
const outcome = ({ ends, framesSent, framesCopied, hooks, attachments }: RunResult): object => ({
  ends,
  framesSent,
  framesCopied,
  attachments,
  hooks,
});

describe.skipIf(skipped !== '')(`frames that go round on fabric linux${skipped}`, () => {
  const adding = vi.spyOn(Ledger.prototype, 'add');
  beforeAll(() => {
    process.env.XDPBED_STATE = join(state, 'runs');
  });
  afterEach(() => {
    const made = adding.mock.calls.filter(([kind]) => kind === 'netns').map(([, id]) => id);
    expect(made.length).toBeGreaterThan(0);
    const there = existsSync('/run/netns') ? readdirSync('/run/netns') : [];
    expect(there.filter((name) => made.includes(name))).toEqual([]);
  });
  afterAll(() => {
    adding.mockRestore();
    delete process.env.XDPBED_STATE;
    rmSync(state, { recursive: true });
  });

  it.each([6, 200])('between two guests end as in the model: %i of them', async (frames) => {
    const scene: Scene = { placement: ['guest', 'guest'], frames };
    const linux = await run('linux', scene);
    // 16 programs a frame, half of them each guest's.
    expect(linux.hooks.map(({ verdicts }) => verdicts.XDP_TX)).toEqual([8 * frames, 8 * frames]);
    expect(linux.ends.map(({ fate, frames }) => [fate, frames])).toEqual([
      ['hop-limit', frames / 2],
      ['hop-limit', frames / 2],
    ]);
    expect(outcome(linux)).toEqual(outcome(await run('model', scene)));
  });

  // As many as a CPU's backlog takes at once: what is sent back waits there.
  it.each(['tcx-egress', 'bridge-early'])(
    'between programs in the kernel end as in the model: hook %s',
    async (hook) => {
      const scene: Scene = { hook, placement: ['host', 'host'], frames: 200 };
      const linux = await run('linux', scene);
      expect(linux.hooks.map(({ verdicts }) => verdicts.XDP_TX)).toEqual([1600, 1600]);
      expect(outcome(linux)).toEqual(outcome(await run('model', scene)));
    },
  );

  it.each(['tcx-egress', 'bridge-early'])('between a program and a guest end, too: hook %s', async (hook) => {
    const result = await run('linux', { hook, placement: ['host', 'guest'], frames: 20 });
    expect(new Set(result.ends.map(({ fate }) => fate))).toEqual(new Set(['hop-limit']));
    expect(result.ends.reduce((sum, { frames }) => sum + frames, 0)).toBe(20);
  });

  it('let those alone that do not', async () => {
    const result = await run('linux', { placement: ['guest', 'guest'], frames: 200, second: 'pass' });
    expect(result.ends).toEqual([{ place: 'g1.eth0', fate: 'guest-stack', frames: 200 }]);
  });
});
