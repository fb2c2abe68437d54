import { Type } from '@sinclair/typebox';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { RunEvent } from '../contract/event.js';
import { definePlugin, type Lifecycle, type Plugin } from '../contract/plugin.js';
import { POLICY, type Policy } from '../contract/policy.js';
import { FABRIC, type Fabric } from '../contract/fabric.js';
import { WORKLOAD, type Workload } from '../contract/workload.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { runTestbed } from './run-testbed.js';

const objects = new URL('../../../testbeds/programs/', import.meta.url).pathname;

/** A small testbed; `sections` are appended. */
function testbed(sections = ''): string {
  return `version: 1
name: small
programs:
  count: { object: ${objects}xdp1.o }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests:
  g0:
    nics:
      eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count, placement: host }
${sections}`;
}

/** A policy, workload or fabric made for one test. */
function plugin<T>(role: 'policy' | 'workload' | 'fabric', name: string, instance: T): Plugin {
  const token = { policy: POLICY, workload: WORKLOAD, fabric: FABRIC }[role];
  return definePlugin({
    name,
    version: '1.0.0',
    role,
    api: '^1',
    description: 'made for a test',
    requires: [],
    capabilities: [],
    configSchema: Type.Object({}),
    register: (scope) => scope.bindValue(token as never, instance),
  });
}

async function run(
  text: string,
  plugins: readonly Plugin[] = [],
  signal?: AbortSignal,
  onEvent?: (event: RunEvent) => void,
) {
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
  const resolved = await resolveTestbed('/nowhere/small.testbed.yaml', text, registry);
  return runTestbed(resolved, { version: '0.0.0', signal, onEvent, phaseTimeoutMs: 200 });
}

const allow: Policy['rule'] = () => ({ ruling: 'allow', reason: 'test' });

describe('a plugin that throws', () => {
  it.each(['start', 'stop'] as const)(
    'in %s ends the run with its name, and the others are stopped',
    async (phase) => {
      const stopped: string[] = [];
      const good = { name: 'good', rule: allow, stop: () => void stopped.push('good') };
      const bad: Policy & Lifecycle = {
        name: 'bad',
        rule: allow,
        [phase]: () => Promise.reject(new Error('out of order')),
      };
      await expect(
        run(testbed('policies: [{ use: good }, { use: bad }]'), [
          plugin('policy', 'good', good),
          plugin('policy', 'bad', bad),
        ]),
      ).rejects.toMatchObject({
        code: 'plugin-failed',
        message: `plugin policy bad failed in ${phase}: out of order`,
      });
      expect(stopped).toEqual(['good']);
    },
  );

  it('in the middle of the traffic ends the run with its name, and everything is taken down', async () => {
    const events: string[] = [];
    const workload: Workload & Lifecycle = {
      name: 'torn',
      // eslint-disable-next-line require-yield
      *frames() {
        throw new Error('no more frames');
      },
      stop: () => void events.push('stopped'),
    };
    await expect(
      run(testbed('workload: { use: torn }'), [plugin('workload', 'torn', workload)]),
    ).rejects.toMatchObject({
      message: 'plugin workload torn failed in frames: no more frames',
    });
    expect(events).toEqual(['stopped']);
  });

  it('in its ruling denies: the host is guarded even by a broken guard', async () => {
    const broken: Policy = {
      name: 'broken',
      rule: () => {
        throw new Error('oops');
      },
    };
    const result = await run(testbed('policies: [{ use: broken }]'), [plugin('policy', 'broken', broken)]);
    expect(result.runs[0]!.attachments).toMatchObject([{ node: 'g0.eth0', attached: false }]);
    expect(result.runs[0]!.rulings).toMatchObject([{ policy: 'broken', ruling: 'deny' }]);
    expect(result.passed).toBe(false);
  });

  it('a failed clean-up is told beside what went wrong first', async () => {
    const fabric: Fabric = {
      name: 'torn',
      deploy: () =>
        Promise.resolve({
          drive: () => Promise.reject(new Error('no traffic')),
          down: () => Promise.reject(new Error('stuck')),
        }),
    };
    const error = await run(testbed('plugins: { fabric: { use: torn } }'), [
      plugin('fabric', 'torn', fabric),
    ]).then(
      () => undefined,
      (thrown: AggregateError) => thrown,
    );
    expect(error).toBeInstanceOf(AggregateError);
    expect(error!.errors.map((each: Error) => each.message)).toEqual([
      'plugin fabric torn failed in drive: no traffic',
      'plugin fabric torn failed in down: stuck',
    ]);
  });
});

describe('an interruption', () => {
  it('ends the run with the code for it, and everything is stopped', async () => {
    const interruption = new AbortController();
    const stopped: string[] = [];
    const endless: Workload & Lifecycle = {
      name: 'endless',
      *frames({ targets, senderMac }) {
        const frame = new Uint8Array(60);
        frame.set(targets[0]!.mac);
        frame.set(senderMac, 6);
        for (let at = 0n; ; at++) {
          if (at === 5000n) interruption.abort();
          yield { bytes: frame, at };
        }
      },
      stop: () => void stopped.push('endless'),
    };
    await expect(
      run(
        testbed('workload: { use: endless }'),
        [plugin('workload', 'endless', endless)],
        interruption.signal,
      ),
    ).rejects.toMatchObject({ code: 'interrupted', exitCode: 130 });
    expect(stopped).toEqual(['endless']);
  });
});

describe('checks', () => {
  it('a program that was refused fails the run unless the testbed expects it', async () => {
    const quota = 'policies: [{ use: quota, config: { per-guest: { maps: 0 } } }]\n';
    const unexpected = await run(testbed(quota));
    expect(unexpected.passed).toBe(false);
    expect(unexpected.checks[0]!.problems).toEqual(['default: attachments.refused is 1, not 0']);
    const expected = await run(
      testbed(`${quota}checks: [{ kind: expect, value: attachments.refused, equals: 1 }]`),
    );
    expect(expected.passed).toBe(true);
  });

  it('a check that looked at no run fails', async () => {
    const result = await run(
      testbed(
        'matrix: { placement: { guest: { guests.g0.nics.eth0.placement: guest } } }\nchecks: [{ kind: offload-shields-guest }]',
      ),
    );
    expect(result.checks.find((check) => check.check === 'offload-shields-guest')!.passed).toBe(false);
  });
});

describe('events', () => {
  it('tell the run from its start to its end', async () => {
    const events: string[] = [];
    await run(testbed(), [], undefined, (event) => events.push(event.event));
    expect(events[0]).toBe('testbed-started');
    expect(events).toContain('program-attached');
    expect(events.slice(-3)).toEqual(['run-finished', 'check-finished', 'testbed-finished']);
  });
});
