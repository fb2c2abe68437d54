import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { messageOf } from '../../src/core/diagnostic.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { loadTestbed, resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { guestImage, probeBpf } from '../../src/linux/index.js';
import { findInPath } from '../../src/linux/guest/confinement.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

/** Why no guest can be booted here; undefined when one can. Tests download nothing. */
async function obstacle(): Promise<string | undefined> {
  for (const probe of [probeBpf(), probeNamespaces()]) if (probe.status !== 'supported') return probe.reason;
  if (findInPath('qemu-system-x86_64') === undefined) return 'there is no qemu-system-x86_64 here';
  return guestImage({ download: false }).then(() => undefined, messageOf);
}

const missing = await obstacle();
const skipped = missing === undefined ? '' : ` (skipped: ${missing})`;
const file = fileURLToPath(new URL('../../testbeds/rfc-2019.testbed.yaml', import.meta.url));

async function run(fabric: string, only: readonly string[], measure: string): Promise<ResultDocument> {
  const text = readFileSync(file, 'utf8').replace(/^measure: .*$/m, measure);
  const testbed = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS), {
    set: [`plugins.fabric={ use: ${fabric} }`, 'guests.*.kind=qemu', 'workload.config.frames=200'],
    only,
  });
  const result = await runTestbed(testbed, { version: '0.0.0' });
  expect(result.failures ?? []).toEqual([]);
  expect(result.checks.flatMap(({ problems }) => problems)).toEqual([]);
  return result;
}

describe.skipIf(skipped !== '')(`a guest in QEMU on fabric linux${skipped}`, () => {
  it('sees and does what a guest of the model does, wherever its program runs', async () => {
    const only = ['case=redirect', 'program=xdp2'];
    const linux = await run('linux', only, '');
    const model = await run('model', only, '');
    const comparable = ({ runs }: ResultDocument): object[] =>
      runs.map(({ id, attachments, hooks, ends, maps, control, links }) => ({
        id,
        attachments,
        hooks,
        ends,
        maps,
        control,
        frames: links.map(({ framesToGuest, framesFromGuest }) => [framesToGuest, framesFromGuest]),
      }));
    expect(comparable(linux)).toEqual(comparable(model));
  }, 120_000);

  it('speaks with clients on the wire through its stack', async () => {
    const netperf = fileURLToPath(new URL('../../testbeds/rfc-2019-netperf.testbed.yaml', import.meta.url));
    const testbed = await loadTestbed(netperf, new PluginRegistry(BUILT_IN_PLUGINS), {
      only: ['data-path=before'],
      set: [
        'plugins.fabric={ use: linux }',
        'guests.*.kind=qemu',
        'measure.seconds=0.5',
        'measure.samples=2',
      ],
    });
    const result = await runTestbed(testbed, { version: '0.0.0' });
    expect(result).toMatchObject({ passed: true });
    const found = result.runs[0]!.exchanges!;
    expect(found.map(({ kind, size, unmeasured }) => [kind, size, unmeasured])).toEqual([
      ['udp-stream', 18, undefined],
      ['udp-stream', 1472, undefined],
      ['tcp-stream', 16_384, undefined],
      ['udp-rr', 1, undefined],
      ['tcp-rr', 1, undefined],
    ]);
    for (const { guest, samples, latency } of found) {
      expect(guest).toMatch(/^Debian's kernel and stack in QEMU \((tcg|kvm)\)$/);
      expect(samples).toHaveLength(2);
      expect(latency?.p50 ?? 1).toBeGreaterThan(0);
    }
    const [, udp, tcp] = found;
    expect(udp!.messagesReceivedPerSecond!).toBeLessThanOrEqual(udp!.messagesSentPerSecond! * 2);
    expect(udp!.bitsPerSecond!.median).toBeGreaterThan(1e6);
    // What TCP has sent has come, but for what is under way.
    const sent = tcp!.messagesSentPerSecond! * tcp!.size * 8;
    expect(tcp!.bitsPerSecond!.median).toBeGreaterThan(sent / 2);
    expect(tcp!.bitsPerSecond!.min).toBeLessThan(sent * 2);
  }, 120_000);

  it('is measured, every frame explained', async () => {
    const only = ['case=bridge', 'program=xdp1', 'placement=guest'];
    const { runs } = await run('linux', only, 'measure: { seconds: 0.3, samples: 2, warm-up: 0.1 }');
    const [rate] = runs[0]!.rates!;
    expect(rate).toMatchObject({ node: 'guest0.eth0', placement: 'guest', unexplained: 0 });
    expect(rate!.guest).toMatch(/^Debian's kernel in QEMU \((tcg|kvm)\), native XDP$/);
    expect(rate!.framesPerSecond.median).toBeGreaterThan(1000);
  }, 120_000);
});
