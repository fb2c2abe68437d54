import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from './resolve-testbed.js';

const calibration = new URL('../../../testbeds/calibration/rfc-2019.yaml', import.meta.url);
let folder: string;
let good: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'xdpbed-calibration-'));
  good = await readFile(calibration, 'utf8');
});
afterAll(() => rm(folder, { recursive: true }));

/** The problems of a testbed with this calibration file, which is not there if undefined. */
async function problems(content: string | undefined, set: readonly string[] = []): Promise<string[]> {
  await rm(join(folder, 'c.yaml'), { force: true });
  if (content !== undefined) await writeFile(join(folder, 'c.yaml'), content);
  const text = `version: 1
name: calibrated
plugins:
  fabric:
    use: model
    config: { nic-queues: 1, calibration: c.yaml }
host: { case: bridge, nics: { eth0: { mac: 52:54:00:00:00:01 } }, taps: { tap0: {} }, bridges: { br0: { ports: [eth0, tap0] } } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02 } } } }
matrix: { queues: { q1: { plugins.fabric.config.nic-queues: 1 }, q2: { plugins.fabric.config.nic-queues: 2 } } }
`;
  return resolveTestbed(join(folder, 't.yaml'), text, new PluginRegistry(BUILT_IN_PLUGINS), { set }).then(
    () => [],
    (error: unknown) => (error as Error).message.replaceAll(`${folder}/`, '').split('\n'),
  );
}

describe('the files of plugins, before anything is run', () => {
  it('are as good as they are for a run', async () => {
    expect(await problems(good)).toEqual([]);
  });

  it('are missed where the testbed names them', async () => {
    const [problem, ...more] = await problems(undefined);
    expect(problem).toMatch(/^t\.yaml:6:43: c\.yaml: there is no such file.*relative to the folder/);
    expect(more).toEqual([]);
  });

  it('have their mistakes told once, each at its place in them', async () => {
    const lines = good.split('\n');
    const wrong = lines.findIndex((line) => line === '    value: 40');
    const unknown = lines.findIndex((line) => line === '  vhost-tx:');
    lines[wrong] = '    value: -1';
    lines[unknown] = '  vhost-ty:';
    const found = await problems(lines.join('\n'));
    expect(found).toContainEqual(expect.stringMatching(new RegExp(`^c\\.yaml:${wrong + 1}:12: `)));
    expect(found).toContainEqual(
      expect.stringMatching(new RegExp(`^c\\.yaml:${unknown + 1}:3: unknown key 'vhost-ty'`)),
    );
    expect(found).toHaveLength(3);
    expect(await problems('a: [')).toEqual([expect.stringMatching(/^c\.yaml:1:/)]);
  });

  it('and what the config says beside them', async () => {
    expect(await problems(good, ['plugins.fabric.config.costs.nic-ty=1'])).toEqual([
      expect.stringContaining("the cost model has no parameter 'nic-ty'"),
    ]);
  });
});
