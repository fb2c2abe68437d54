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
const state = mkdtempSync(join(tmpdir(), 'xdpbed-hostile-bridge-'));

/** Sends every frame back, changed. */
const sendingBack = (change: string): string => `.license GPL
.program main
  r0 = 2
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 14
  if r4 > r3 goto out
  ${change}
  r0 = 3
out:
  exit
`;

const PROGRAMS = {
  /** To everybody. */
  broadcast: sendingBack('*(u32 *)(r2 +0) = -1\n*(u16 *)(r2 +4) = -1'),
  /** To an address that nobody has. */
  'to-nobody': sendingBack('*(u32 *)(r2 +0) = 0x00005452\n*(u16 *)(r2 +4) = 0x7700'),
  /** The same, from the address of the guest that is meant to get the frames afterwards: 52:54:00:00:00:03. */
  steal: sendingBack(`*(u32 *)(r2 +0) = 0x00005452
  *(u16 *)(r2 +4) = 0x7700
  *(u32 *)(r2 +6) = 0x00005452
  *(u16 *)(r2 +10) = 0x0300`),
};

interface Scene {
  readonly hook: string;
  /** The program of each guest, if it has one. */
  readonly guests: readonly (keyof typeof PROGRAMS | undefined)[];
  readonly frames: number;
}

async function run(fabric: 'linux' | 'model', { hook, guests, frames }: Scene): Promise<RunResult> {
  const taps = guests.map((_, index) => `tap${index}`);
  const names = Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[];
  for (const name of names) writeFileSync(join(state, `${name}.s`), PROGRAMS[name]);
  const text = `version: 1
name: hostile
plugins: { fabric: { use: ${fabric} }, executor: { use: wasm } }
programs:
${names.map((name) => `  ${name}: { object: ${join(state, name)}.s }`).join('\n')}
host:
  case: bridge
  ${fabric === 'model' ? '' : `hook: ${hook}`}
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { ${taps.map((tap) => `${tap}: {}`).join(', ')} }
  bridges: { br0: { ports: [eth0, ${taps.join(', ')}] } }
guests:
${guests
  .map((program, index) => {
    const attach = program === undefined ? '' : `, program: ${program}, placement: host`;
    return `  g${index}: { kind: tap-reader, nics: { eth0: { tap: tap${index}, mac: 52:54:00:00:00:0${index + 2}${attach} } } }`;
  })
  .join('\n')}
workload: { use: udp-flood, config: { frames: ${frames} } }
checks: [{ kind: conservation }]
`;
  const testbed = await resolveTestbed('hostile.testbed.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
  const result = await runTestbed(testbed, { version: '0.0.0' });
  expect(result.failures ?? []).toEqual([]);
  expect(result.checks).toContainEqual(
    expect.objectContaining({ check: 'conservation', passed: true, problems: [] }),
  );
  return result.runs[0]!;
}

/** What is the same on both fabrics. */
const outcome = ({ ends, framesSent, framesCopied, hooks }: RunResult): object => ({
  ends,
  framesSent,
  framesCopied,
  hooks,
});

const framesOf = ({ ends }: RunResult, fate: string): number =>
  ends.filter((end) => end.fate === fate).reduce((sum, { frames }) => sum + frames, 0);

describe.skipIf(skipped !== '')(`hostile guests on a bridge${skipped}`, () => {
  beforeAll(() => {
    process.env.XDPBED_STATE = join(state, 'runs');
  });
  afterAll(() => {
    delete process.env.XDPBED_STATE;
    rmSync(state, { recursive: true });
  });

  describe.each(['tcx-egress', 'bridge-early'])('hook %s', (hook) => {
    it.each(['broadcast', 'to-nobody'] as const)('cannot make many frames of one: %s', async (program) => {
      const scene: Scene = { hook, guests: [program, program, program], frames: 30 };
      const linux = await run('linux', scene);
      // Each frame meets its guest's program, what that floods the two others', and what these flood no more.
      expect(linux.hooks.reduce((sum, { verdicts }) => sum + verdicts.XDP_TX, 0)).toBe(30 * 3);
      expect(framesOf(linux, 'hop-limit')).toBe(30 * 2 * 2);
      expect(framesOf(linux, 'transmitted')).toBe(30 * 3);
      expect(outcome(linux)).toEqual(outcome(await run('model', scene)));
    });

    it('cannot take another’s frames', async () => {
      const scene: Scene = { hook, guests: ['steal', undefined], frames: 40 };
      const linux = await run('linux', scene);
      expect(linux.hooks.map(({ verdicts }) => verdicts.XDP_TX)).toEqual([20]);
      // Its own, and the copies of what the first sends to nobody.
      expect(linux.ends).toContainEqual({ place: 'g1.eth0', fate: 'guest-stack', frames: 20 + 20 });
      expect(outcome(linux)).toEqual(outcome(await run('model', scene)));
    });
  });
});
