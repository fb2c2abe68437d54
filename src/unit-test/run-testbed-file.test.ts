import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Type } from '@sinclair/typebox';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { definePlugin } from '../core/contract/plugin.js';
import { WORKLOAD } from '../core/contract/workload.js';
import { udp } from '../packet/plain-frames.js';
import { runTestbedFile } from './index.js';

const xdp1 = resolve('testbeds/programs/xdp1.o');
let folder: string;
let file: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'testbed-file-'));
  file = join(folder, 'drop.testbed.yaml');
  await writeFile(
    file,
    `version: 1
name: drop
programs: { count: { object: ${xdp1} } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count } } } }
workload: { use: udp-flood, config: { frames: 3 } }
matrix:
  placement:
    guest: { guests.g0.nics.eth0.placement: guest }
    host: { guests.g0.nics.eth0.placement: host }
checks: [{ kind: expect, value: ends.xdp-drop, equals: 3 }]
`,
  );
});
afterAll(() => rm(folder, { recursive: true }));

describe('a testbed in a test', () => {
  it('runs all that the file says', async () => {
    const outcome = await runTestbedFile(file);
    expect(outcome.problems).toEqual([]);
    expect(outcome).toMatchObject({
      passed: true,
      result: { testbed: 'drop', checks: [{ passed: true }, { passed: true }] },
    });
    expect(outcome.run({ placement: 'host' }).ends).toMatchObject([
      { place: 'host.tap0', fate: 'xdp-drop', frames: 3 },
    ]);
    expect(outcome.run({ placement: 'guest' }).ends).toMatchObject([
      { place: 'g0.eth0', fate: 'xdp-drop', frames: 3 },
    ]);
  });

  it('says in lines what did not pass, and has the run all the same', async () => {
    const outcome = await runTestbedFile(file, {
      set: { 'workload.config.frames': 5 },
      only: { placement: ['host'] },
      seed: 7,
    });
    expect(outcome.passed).toBe(false);
    expect(outcome.problems).toEqual([expect.stringMatching(/ends\.xdp-drop is 3.*\b5\b/)]);
    expect(outcome.run().framesSent).toBe(5);
    expect(outcome.result.seed).toBe('7');
  });

  it('says why a run failed', async () => {
    const failing = definePlugin({
      name: 'torn',
      version: '1.0.0',
      role: 'workload',
      api: '^2',
      description: 'made for a test',
      configSchema: Type.Object({}),
      register: (scope) =>
        scope.bindValue(WORKLOAD, {
          name: 'torn',
          *frames() {
            yield { bytes: udp(), at: 0 };
            throw new Error('the cable is torn');
          },
        }),
    });
    const outcome = await runTestbedFile(file, {
      set: { workload: { use: 'torn' } },
      only: { placement: 'host' },
      plugins: [failing],
    });
    expect(outcome.problems[0]).toContain('host: ');
    expect(outcome.problems[0]).toContain('the cable is torn');
    expect(() => outcome.run()).toThrow('the testbed has 0 runs with a result, not one');
  });

  it('names the run that is meant, where there is not one', async () => {
    const outcome = await runTestbedFile(file);
    expect(() => outcome.run()).toThrow(
      expect.objectContaining({
        message: 'the testbed has 2 runs with a result, not one',
        hint: 'runs: guest, host',
      }),
    );
    expect(() => outcome.run({ placement: 'nic' })).toThrow('placement=nic has 0 runs');
  });

  it('throws everything that is wrong with the file, and values that no YAML holds', async () => {
    await expect(
      runTestbedFile(file, { set: { 'host.case': 'bridg', 'workload.use': 'flod' } }),
    ).rejects.toMatchObject({
      code: 'testbed-invalid',
      problems: expect.arrayContaining([expect.objectContaining({}), expect.objectContaining({})]) as unknown,
    });
    await expect(runTestbedFile(file, { set: { 'workload.config.frames': undefined } })).rejects.toThrow(
      'set: workload.config.frames has no value that YAML can hold',
    );
    await expect(runTestbedFile(join(folder, 'none.yaml'))).rejects.toMatchObject({
      code: 'file-unreadable',
    });
  });

  it('ends when its signal fires', async () => {
    expect(await runTestbedFile(file, { signal: AbortSignal.abort() })).toMatchObject({
      passed: false,
      result: { runs: [], interrupted: { index: 0 } },
    });
  });
});
