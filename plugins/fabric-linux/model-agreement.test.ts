import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { runTestbed } from '../../src/core/run/run-testbed.js';
import { resolveTestbed } from '../../src/core/testbed/resolve-testbed.js';
import { probeBpf } from '../../src/linux/index.js';
import { probeNamespaces } from '../../src/linux/testing-namespace.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';

const probe = [probeBpf(), probeNamespaces()].find(({ status }) => status !== 'supported');
const skipped = probe === undefined || probe.status === 'supported' ? '' : ` (skipped: ${probe.reason})`;
const file = fileURLToPath(new URL('../../testbeds/rfc-2019.testbed.yaml', import.meta.url));

async function run(fabric: string, set: readonly string[]): Promise<ResultDocument> {
  // Rates are the machine's, and the model has none.
  const text = readFileSync(file, 'utf8').replace(/^measure: .*$/m, '');
  const testbed = await resolveTestbed(file, text, new PluginRegistry(BUILT_IN_PLUGINS), {
    set: [`plugins.fabric={ use: ${fabric} }`, 'guests.*.kind=tap-reader', ...set],
  });
  const result = await runTestbed(testbed, { version: '0.0.0' });
  expect(result.failures ?? []).toEqual([]);
  return result;
}

/** All but what is of the machine: the notifications of a channel, the time of records, and the fabric's name. */
function comparable(result: RunResult): object {
  const { id, framesSent, framesCopied, attachments, hooks, ends, maps, control } = result;
  const rulings = result.rulings.map((record) => ({ ...record, time: 0 }));
  const audit = result.audit.map((record) => ({ ...record, time: 0 }));
  const links = result.links.map(({ framesToGuest, framesFromGuest, violations }) => ({
    framesToGuest,
    framesFromGuest,
    violations,
  }));
  return { id, framesSent, framesCopied, attachments, hooks, ends, maps, control, rulings, audit, links };
}

describe.skipIf(skipped !== '')(`the model and the kernel agree on rfc-2019${skipped}`, () => {
  it.each([1, 2])('frame for frame, of seed %i', async (seed) => {
    const set = [`seed=${seed}`, 'workload.config.frames=400'];
    const model = await run('model', set);
    const linux = await run('linux', set);
    expect(model.runs).toHaveLength(8);
    expect(linux.runs.map(comparable)).toEqual(model.runs.map(comparable));
  });
});
