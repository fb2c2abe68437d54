import { Type } from '@sinclair/typebox';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import type { StreamEvent } from '../contract/event.js';
import { definePlugin, type Lifecycle, type Plugin } from '../contract/plugin.js';
import { POLICY, type Policy } from '../contract/policy.js';
import type { Program } from '../../bpf/program.js';
import { EXECUTOR, type ExecutionEnvironment } from '../contract/executor.js';
import { FABRIC, type Fabric, type NicPlaces } from '../contract/fabric.js';
import type { MeasurePlan } from '../contract/plan.js';
import { emptyVerdictCounts, isGuestHook, ResultDocument, type ExchangeResult } from '../contract/result.js';
import { EXIT, XdpbedError } from '../diagnostic.js';
import type { HookPlace } from '../contract/hook-place.js';
import { TRANSPORT } from '../contract/transport.js';
import { VERIFIER } from '../contract/verifier.js';
import { WORKLOAD, type Workload, type WorkloadFrame } from '../contract/workload.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { exampleResult, exampleRun } from '../../conformance/reporter/index.js';
import { exitCodeOf } from './run-failures.js';
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

const TOKENS = {
  policy: POLICY,
  workload: WORKLOAD,
  fabric: FABRIC,
  verifier: VERIFIER,
  executor: EXECUTOR,
  transport: TRANSPORT,
};

/** A plugin made for one test. */
function plugin<T>(role: keyof typeof TOKENS, name: string, instance: T): Plugin {
  const token = TOKENS[role];
  return definePlugin({
    name,
    version: '1.0.0',
    role,
    api: '^2',
    description: 'made for a test',
    configSchema: Type.Object({}),
    register: (scope) => scope.bindValue(token as never, instance),
  });
}

async function run(
  text: string,
  plugins: readonly Plugin[] = [],
  signal?: AbortSignal,
  onEvent?: (event: StreamEvent) => void,
) {
  const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
  const resolved = await resolveTestbed('/nowhere/small.testbed.yaml', text, registry);
  return runTestbed(resolved, { version: '0.0.0', signal, onEvent, phaseTimeoutMs: 200 });
}

/** What went wrong with the runs of a testbed; none of them has a result. */
async function failuresOf(...args: Parameters<typeof run>) {
  const { runs, failures, passed } = await run(...args);
  expect({ runs, passed }).toEqual({ runs: [], passed: false });
  return failures;
}

describe('a program whose section does not say what it is', () => {
  const object = new URL('../../bpf/elf/fixtures/legacy_maps.o', import.meta.url).pathname;
  const of = (type: string): string =>
    testbed().replace(`${objects}xdp1.o`, `${object}, section: unnamed_kind${type}`);

  it.each(['guest', 'host'])('runs as XDP when the testbed says so, in placement %s', async (placement) => {
    const { runs } = await run(of(', type: xdp').replace('placement: host', `placement: ${placement}`));
    const { verdicts } = runs[0]!.hooks.find((hook) => isGuestHook(hook))!;
    expect(verdicts.XDP_DROP).toBeGreaterThan(0);
    expect(verdicts.XDP_PASS).toBe(0);
  });

  it('is a problem of the testbed without', async () => {
    await expect(run(of(''))).rejects.toThrow(
      'program unnamed_kind in section prog is of type unknown; only XDP programs are run',
    );
  });
});

describe('max-entries of a program', () => {
  const of = (sizes: string, placement = 'guest'): string =>
    testbed()
      .replace(`${objects}xdp1.o`, `${objects}xdp1.o, max-entries: ${sizes}`)
      .replace('placement: host', `placement: ${placement}`);

  it.each(['guest', 'host'])('sizes its map in placement %s', async (placement) => {
    // 17 is the protocol that the workload has: the last index there is, or one beyond.
    const [fits, short] = [
      await run(of('{ rxcnt: 18 }', placement)),
      await run(of('{ rxcnt: 17 }', placement)),
    ];
    expect(fits.runs[0]!.maps[0]!.entries.map(({ key }) => key)).toEqual(['11000000']);
    expect(short.runs[0]!.maps[0]!.entries).toEqual([]);
  });

  it('fails a run whose map is too big for the guest, and is refused by the device', async () => {
    const { failures } = await run(of('{ rxcnt: 4294967295 }'));
    expect(failures).toMatchObject([
      { code: 'map-invalid', hint: expect.stringContaining('max-entries in a testbed') as string },
    ]);
    const { runs } = await run(of('{ rxcnt: 4294967295 }', 'host'));
    expect(runs[0]!.attachments).toMatchObject([{ attached: false }]);
    expect(runs[0]!.audit.at(-1)!.reason).toMatch(/wants 32769 MiB; the device has 256 MiB/);
  });

  it.each([
    ['{ rxcont: 4 }', `${objects}xdp1.o has no map 'rxcont' (did you mean 'rxcnt'?)`],
    ['{ rxcnt: 0 }', '0 is out of range: it must be >= 1'],
    ['{ rxcnt: many }', "expected an integer, found 'many'"],
  ])('%s is a problem of the testbed', async (sizes, message) => {
    await expect(run(of(sizes))).rejects.toMatchObject({
      code: 'testbed-invalid',
      message: expect.stringContaining(message) as string,
    });
  });
});

/** A program that does nothing. */
const PROGRAM = {
  name: 'nothing',
  executor: 'bad',
  id: 1,
  openFrames: () => ({ load: () => undefined, packet: () => new Uint8Array(60), close: () => undefined }),
  close: () => undefined,
};

const STATISTICS = {
  framesToGuest: 0,
  framesFromGuest: 0,
  kicks: 0,
  interrupts: 0,
  suppressedNotifications: 0,
  violations: 0,
};

/** Places that take whatever is put there, for a guest elsewhere that attaches nothing. */
const NIC_PLACES: NicPlaces = {
  guest: 'g0',
  nic: 'eth0',
  control: { serve: async () => async () => undefined },
  offload: { attach: () => Promise.reject(new Error('not here')) },
  driver: {
    kind: 'remote',
    install: async () => ({ attached: false, reason: 'this guest attaches nothing' }),
    readMaps: async () => [],
    counters: async () => undefined,
    control: async () => ({ commands: {}, acks: { ok: 0, err: 0 } }),
    close: async () => undefined,
  },
  onBroken: () => undefined,
  statistics: async () => STATISTICS,
};

const fails = () => {
  throw new Error('out of order');
};

const allow: Policy['rule'] = () => ({ ruling: 'allow', reason: 'test' });

describe('a plugin that throws', () => {
  it.each(['start', 'stop'] as const)(
    'in %s is a failure of the run with its name, and the others are stopped',
    async (phase) => {
      const stopped: string[] = [];
      const good = { name: 'good', rule: allow, stop: () => void stopped.push('good') };
      const bad: Policy & Lifecycle = {
        name: 'bad',
        rule: allow,
        [phase]: () => Promise.reject(new Error('out of order')),
      };
      const { runs, failures } = await run(testbed('policies: [{ use: good }, { use: bad }]'), [
        plugin('policy', 'good', good),
        plugin('policy', 'bad', bad),
      ]);
      expect(failures).toMatchObject([
        {
          stage: phase === 'start' ? 'run' : 'clean-up',
          code: 'plugin-failed',
          message: `plugin policy bad failed in ${phase}: out of order`,
        },
      ]);
      // A run that came to its end keeps its result, however it was taken down.
      expect(runs).toHaveLength(phase === 'start' ? 0 : 1);
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
    expect(
      await failuresOf(testbed('workload: { use: torn }'), [plugin('workload', 'torn', workload)]),
    ).toMatchObject([
      {
        message: 'plugin workload torn failed in frames: no more frames',
      },
    ]);
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

  it.each([
    ['verifier', { verify: fails }, 'plugin verifier bad failed in verify: out of order'],
    ['transport', { open: fails }, 'plugin transport bad failed in open: out of order'],
    ['fabric', { deploy: fails }, 'plugin fabric bad failed in deploy: out of order'],
    [
      'executor',
      { load: () => Promise.resolve({ ...PROGRAM, name: 'count', run: fails }) },
      'plugin executor bad failed in run of count at g0.eth0: out of order',
    ],
  ] as const)('as %s ends the run with its name, not with the fabric’s', async (role, members, message) => {
    expect(
      await failuresOf(testbed(`plugins: { ${role}: { use: bad } }`), [
        plugin(role, 'bad', { name: 'bad', ...members }),
      ]),
    ).toMatchObject([{ code: 'plugin-failed', message }]);
  });

  it('while a link is calling is told with its name, too', async () => {
    const load = (program: { name: string }) =>
      Promise.resolve({
        ...PROGRAM,
        name: program.name,
        run: () => (program.name.includes('drop') ? fails() : { verdict: 3 }),
      });
    const text = testbed('plugins: { executor: { use: bad } }')
      .replace('programs:', `programs:\n  back: { object: ${objects}tap_drop.o }`)
      .replace('tap0: {}', 'tap0: { rx-program: back }')
      .replace('placement: host', 'placement: guest');
    expect(await failuresOf(text, [plugin('executor', 'bad', { name: 'bad', load })])).toMatchObject([
      {
        message: 'plugin executor bad failed in run of tap_drop at host.tap0: out of order',
      },
    ]);
  });

  it('a failed clean-up is told beside what went wrong first', async () => {
    const fabric: Fabric = {
      name: 'torn',
      deploy: () =>
        Promise.resolve({
          hostPlaces: [],
          nics: [NIC_PLACES],
          traffic: () => Promise.reject(new Error('no traffic')),
          down: () => Promise.reject(new Error('stuck')),
        }),
    };
    expect(
      await failuresOf(testbed('plugins: { fabric: { use: torn } }'), [plugin('fabric', 'torn', fabric)]),
    ).toMatchObject([
      { stage: 'run', message: 'plugin fabric torn failed in traffic: no traffic' },
      { stage: 'clean-up', message: 'plugin fabric torn failed in down: stuck' },
    ]);
  });
});

describe('a deployment', () => {
  it.each([true, undefined])(
    'has the work of all programs counted where it says so: %s',
    async (countWork) => {
      const attached: string[] = [];
      const place = (where: string): HookPlace => ({
        attach: async () => {
          attached.push(where);
          return {
            replace: async () => undefined,
            detach: async () => undefined,
            counters: async () => emptyVerdictCounts(),
          };
        },
      });
      const fabric: Fabric = {
        name: 'charging',
        deploy: async () => ({
          hostPlaces: [{ site: 'tap-rx', interface: 'tap0', place: place('host') }],
          nics: [
            {
              ...NIC_PLACES,
              driver: {
                kind: 'local',
                control: { send: async () => Uint8Array.of(0) },
                hook: place('guest'),
                up: async () => undefined,
              },
            },
          ],
          ...(countWork === undefined ? {} : { countWork }),
          traffic: () => Promise.reject(new Error('no traffic')),
          down: async () => undefined,
        }),
      };
      const asked: (boolean | undefined)[] = [];
      const executor = {
        name: 'bad',
        load: async (_: Program, environment: ExecutionEnvironment) => {
          asked.push(environment.countWork);
          return PROGRAM;
        },
      };
      const text = testbed('plugins: { fabric: { use: charging }, executor: { use: bad } }')
        .replace('tap0: {}', 'tap0: { rx-program: count }')
        .replace('placement: host', 'placement: guest');
      const failures = await failuresOf(text, [
        plugin('fabric', 'charging', fabric),
        plugin('executor', 'bad', executor),
      ]);
      expect(failures).toMatchObject([{ message: 'plugin fabric charging failed in traffic: no traffic' }]);
      expect(attached).toEqual(['host', 'guest']);
      expect(asked).toEqual([countWork, countWork]);
    },
  );
});

describe('what is measured', () => {
  const rate = {
    node: 'g0.eth0',
    hook: 'somewhere',
    guest: 'somebody',
    size: 60,
    seconds: 1,
    framesPerSecond: { median: 1, min: 1, max: 1 },
    samples: [1],
    offeredPerSecond: 1,
    framesSent: 1,
    framesCopied: 0,
    ends: [],
    unexplained: 0,
  };
  const exchange: ExchangeResult = {
    node: 'g0.eth0',
    kind: 'udp-stream',
    size: 1472,
    streams: 1,
    guest: 'somebody',
    seconds: 1,
    samples: [8],
    bitsPerSecond: { median: 8, min: 8, max: 8 },
  };

  /** A fabric that hands on what it was to measure, and says that it found this. */
  function measuring(found: unknown) {
    const asked: { measure?: MeasurePlan; sent: WorkloadFrame[]; frames: WorkloadFrame[] } = {
      sent: [],
      frames: [],
    };
    const fabric = {
      name: 'measuring',
      deploy: async () => ({
        hostPlaces: [],
        nics: [NIC_PLACES],
        traffic: async (frames: Iterable<WorkloadFrame>) => {
          asked.sent.push(...frames);
          const { length } = asked.sent;
          const ends = [{ place: 'g0.eth0', fate: 'guest-stack', frames: length }];
          return { framesSent: length, framesCopied: 0, ends };
        },
        measure: async (measure: MeasurePlan, frames: Iterable<WorkloadFrame>) => {
          Object.assign(asked, { measure, frames: [...frames] });
          return found;
        },
        down: async () => undefined,
      }),
    };
    return { asked, plugin: plugin('fabric', 'measuring', fabric as unknown as Fabric) };
  }
  const text = (measure: string): string =>
    testbed(`plugins: { fabric: { use: measuring } }
workload: { use: udp-flood, config: { frames: 7, flows: 3 } }
comparison: { reference: { name: others } }
measure: ${measure}`);

  it('is what the testbed says, with the same frames once more where it wants them', async () => {
    const { asked, plugin: fabric } = measuring({ rates: [rate], exchanges: [exchange] });
    const exchanges = '[{ kind: udp-stream }, { kind: tcp-stream, streams: 2 }, { kind: tcp-rr, size: 5 }]';
    const { runs, comparison } = await run(text(`{ frames: workload, rate: 100, exchanges: ${exchanges} }`), [
      fabric,
    ]);
    expect(asked.measure).toMatchObject({
      frames: 'workload',
      rate: 100,
      exchanges: [
        { kind: 'udp-stream', size: 1472, streams: 1 },
        { kind: 'tcp-stream', size: 16_384, streams: 2 },
        { kind: 'tcp-rr', size: 5, streams: 1 },
      ],
    });
    expect(asked.sent).toHaveLength(7);
    expect(asked.frames).toEqual(asked.sent);
    expect(runs[0]!.rates).toEqual([{ ...rate, program: 'count', placement: 'host' }]);
    expect(runs[0]!.exchanges).toEqual([exchange]);
    expect(comparison).toEqual({ reference: { name: 'others' } });
  });

  it('has no frames of the workload where nobody asks for them, and is not there where it was nothing', async () => {
    const { asked, plugin: fabric } = measuring({ rates: [], exchanges: [] });
    const { runs, comparison } = await run(text('{}'), [fabric]);
    expect(asked.measure).toMatchObject({ frames: 'uniform', rate: undefined, exchanges: [] });
    expect(asked.frames).toEqual([]);
    expect(runs[0]).not.toHaveProperty('rates');
    expect(runs[0]).not.toHaveProperty('exchanges');
    expect(comparison).toBeUndefined();
  });

  it('has the sum of what was loaded together, and how fair the parts were', async () => {
    const of = (node: string, ...samples: number[]) => ({
      ...rate,
      node,
      samples,
      framesPerSecond: { median: samples[1]!, min: 1, max: 9 },
      offeredPerSecond: 10,
    });
    const rates = [of('g0.eth0', 1, 1, 9), of('g0.eth1', 2, 3, 4)];
    const { plugin: fabric } = measuring({ rates, exchanges: [] });
    const [together] = (await run(text('{ together: true }'), [fabric])).runs;
    expect(together!.totalRate).toEqual({
      framesPerSecond: { median: 4, min: 3, max: 13 },
      samples: [3, 4, 13],
      offeredPerSecond: 20,
      // (1 + 3)² ÷ (2 · (1 + 9))
      fairness: 0.8,
    });
    const [apart] = (await run(text('{}'), [fabric])).runs;
    expect(apart).not.toHaveProperty('totalRate');
  });

  it('says why there are no rates where the fabric says so', async () => {
    const { plugin: fabric } = measuring({ rates: [], ratesUnmeasured: 'no time', exchanges: [] });
    const [result] = (await run(text('{ together: true }'), [fabric])).runs;
    expect(result!.ratesUnmeasured).toBe('no time');
    expect(result).not.toHaveProperty('rates');
    expect(result).not.toHaveProperty('totalRate');
  });

  it.each([
    [[rate], 'plugin fabric measuring gave a measurement that is none'],
    [{ rates: [] }, "plugin fabric measuring gave a measurement that is none: 'exchanges' is missing"],
    [
      { rates: [], exchanges: [{ ...exchange, kind: 'sctp-rr' }] },
      'plugin fabric measuring gave a measurement that is none: exchanges.0.kind',
    ],
  ])('is not believed when it is %j', async (found, message) => {
    const { plugin: fabric } = measuring(found);
    expect(await failuresOf(text('{}'), [fabric])).toMatchObject([
      { message: expect.stringContaining(message) as string },
    ]);
  });
});

describe('a guest that cannot be brought up', () => {
  it.each(['party', 'up'] as const)('in %s: its device is not served any more', async (stage) => {
    const events: string[] = [];
    const fabric: Fabric = {
      name: 'half',
      deploy: async () => ({
        hostPlaces: [],
        nics: [
          {
            ...NIC_PLACES,
            control: {
              serve: async () => {
                events.push('served');
                return async () => void events.push('stopped');
              },
            },
            driver: {
              kind: 'local',
              control: { send: async () => Uint8Array.of(0) },
              hook: NIC_PLACES.offload,
              up: stage === 'up' ? async () => fails() : async () => undefined,
            },
          },
        ],
        traffic: () => Promise.reject(new Error('not reached')),
        down: async () => void events.push('down'),
      }),
    };
    let loads = 0;
    const executor = {
      name: 'bad',
      load: () => Promise.reject(new Error('not reached')),
      // The host's party for this nic is opened first, then the guest's.
      start: () => (stage === 'party' && ++loads === 2 ? fails() : undefined),
    };
    expect(
      await failuresOf(testbed('plugins: { fabric: { use: half }, executor: { use: bad } }'), [
        plugin('fabric', 'half', fabric),
        plugin('executor', 'bad', executor),
      ]),
    ).toMatchObject([
      {
        code: 'plugin-failed',
        message: expect.stringContaining('out of order') as string,
      },
    ]);
    expect(events.filter((event) => event === 'served')).toHaveLength(
      events.filter((event) => event === 'stopped').length,
    );
    expect(events.at(-1)).toBe('down');
  });
});

describe('a plugin that does not keep to its contract', () => {
  it.each([
    ['policy', { name: 'odd' }, "plugin policy odd: its instance has no method 'rule'"],
    ['policy', { rule: allow }, "plugin policy odd: its instance has no 'name'"],
    [
      'fabric',
      { name: 'odd', deploy: (): null => null },
      "plugin fabric odd: its deployment has no method 'traffic'",
    ],
    [
      'fabric',
      {
        name: 'odd',
        deploy: () => ({
          hostPlaces: [],
          nics: [NIC_PLACES],
          traffic: () => ({ framesSent: 5 }),
          down: () => undefined,
        }),
      },
      "plugin fabric odd gave a traffic report that is none: 'framesCopied' is missing",
    ],
    [
      'workload',
      { name: 'odd', frames: () => [{ bytes: 'abc', at: 0 }] },
      'plugin workload odd failed in frames: a frame without bytes (a Uint8Array that is not empty)',
    ],
    [
      'workload',
      { name: 'odd', frames: () => [{ bytes: new Uint8Array(60), at: 0.5 }] },
      'plugin workload odd failed in frames: a frame without a time (an integer of picoseconds, not negative)',
    ],
  ] as const)('%s %j', async (role, instance, message) => {
    const section = {
      policy: 'policies: [{ use: odd }]',
      fabric: 'plugins: { fabric: { use: odd } }',
      workload: 'workload: { use: odd }',
    }[role];
    expect(await failuresOf(testbed(section), [plugin(role, 'odd', instance)])).toMatchObject([{ message }]);
  });

  it('a deployment that cannot be used is taken down all the same', async () => {
    const downs: string[] = [];
    const odd = (down: () => Promise<void>): Plugin =>
      plugin('fabric', 'odd', { name: 'odd', deploy: async () => ({ hostPlaces: [], nics: [], down }) });
    const section = testbed('plugins: { fabric: { use: odd } }');
    const reason = "plugin fabric odd: its deployment has no method 'traffic'";
    expect(await failuresOf(section, [odd(async () => void downs.push('down'))])).toMatchObject([
      { stage: 'run', message: reason },
    ]);
    expect(downs).toEqual(['down']);
    expect(await failuresOf(section, [odd(() => Promise.reject(new Error('a tap is busy')))])).toMatchObject([
      { stage: 'run', message: reason },
      { stage: 'clean-up', message: 'plugin fabric odd failed in down: a tap is busy' },
    ]);
  });

  it('a config schema that is none is a problem of the testbed', async () => {
    const odd = { ...plugin('policy', 'odd', {}), configSchema: { type: 'bogus' } as never };
    await expect(run(testbed('policies: [{ use: odd }]'), [odd])).rejects.toMatchObject({
      code: 'testbed-invalid',
      message: expect.stringContaining(
        "'odd' is not a usable policy plugin: the config schema is none",
      ) as string,
    });
  });
});

describe('an interruption', () => {
  it('in the middle of deploying takes down what was still brought up', async () => {
    const interruption = new AbortController();
    const events: string[] = [];
    const slow: Fabric = {
      name: 'slow',
      deploy: async () => {
        interruption.abort();
        await new Promise((resolve) => setTimeout(resolve, 50));
        return {
          hostPlaces: [],
          nics: [],
          traffic: () => Promise.reject(new Error('not reached')),
          down: () => Promise.resolve(void events.push('down')),
        };
      },
    };
    const result = await run(
      testbed('plugins: { fabric: { use: slow } }'),
      [plugin('fabric', 'slow', slow)],
      interruption.signal,
    );
    expect(result).toMatchObject({ interrupted: { run: 'default', index: 0 }, runs: [], passed: false });
    expect(result).not.toHaveProperty('failures');
    expect(events).toEqual(['down']);
  });

  it('does not wait for ever for a deployment that does not end', async () => {
    const interruption = new AbortController();
    const stuck: Fabric = {
      name: 'stuck',
      deploy: (): Promise<never> => {
        interruption.abort();
        return new Promise<never>(() => {});
      },
    };
    const { interrupted, failures } = await run(
      testbed('plugins: { fabric: { use: stuck } }'),
      [plugin('fabric', 'stuck', stuck)],
      interruption.signal,
    );
    expect(interrupted).toMatchObject({ run: 'default' });
    expect(failures).toMatchObject([{ stage: 'clean-up', code: 'plugin-timeout' }]);
  });

  /** A fabric with one place for a program of the host's, which takes its time. */
  function slowPlace(interruption: AbortController, attach: () => Promise<void>) {
    const events: string[] = [];
    const fabric: Fabric = {
      name: 'slow-place',
      deploy: async () => ({
        hostPlaces: [
          {
            site: 'tap-rx',
            interface: 'tap0',
            place: {
              attach: async () => {
                interruption.abort();
                await attach();
                events.push('attached');
                return {
                  replace: async () => undefined,
                  detach: async () => void events.push('detached'),
                  counters: async () => emptyVerdictCounts(),
                };
              },
            },
          },
        ],
        nics: [NIC_PLACES],
        traffic: () => Promise.reject(new Error('not reached')),
        down: async () => void events.push('down'),
      }),
    };
    const executor = {
      name: 'bad',
      load: async () => ({ ...PROGRAM, close: () => void events.push('closed') }),
    };
    const text = testbed('plugins: { fabric: { use: slow-place }, executor: { use: bad } }').replace(
      'tap0: {}',
      'tap0: { rx-program: count }',
    );
    const plugins = [plugin('fabric', 'slow-place', fabric), plugin('executor', 'bad', executor)];
    return { events, ended: run(text, plugins, interruption.signal) };
  }

  it('while something is being attached detaches it, and closes the program only then', async () => {
    const interruption = new AbortController();
    const { events, ended } = slowPlace(
      interruption,
      () => new Promise((resolve) => setTimeout(resolve, 50)),
    );
    expect(await ended).toMatchObject({ interrupted: { run: 'default' } });
    expect(events).toEqual(['attached', 'detached', 'closed', 'down']);
  });

  it('does not wait for ever for what is being attached, and detaches it whenever that ends', async () => {
    const interruption = new AbortController();
    let finish = (): void => {};
    const { events, ended } = slowPlace(interruption, () => new Promise((resolve) => (finish = resolve)));
    const { interrupted, failures } = await ended;
    expect(interrupted).toMatchObject({ run: 'default' });
    expect(failures).toMatchObject([{ stage: 'clean-up', code: 'plugin-timeout' }]);
    expect(failures![0]!.message).toContain('interrupted in attach');
    expect(events).toContain('down');
    finish();
    await new Promise((resolve) => setImmediate(resolve));
    expect(events).toContain('detached');
  });

  it('ends the run, and everything is stopped', async () => {
    const interruption = new AbortController();
    const stopped: string[] = [];
    const endless: Workload & Lifecycle = {
      name: 'endless',
      *frames({ targets, senderMac }) {
        const frame = new Uint8Array(60);
        frame.set(targets[0]!.mac);
        frame.set(senderMac, 6);
        for (let at = 0; ; at++) {
          if (at === 5000) interruption.abort();
          yield { bytes: frame, at };
        }
      },
      stop: () => void stopped.push('endless'),
    };
    const result = await run(
      testbed('workload: { use: endless }'),
      [plugin('workload', 'endless', endless)],
      interruption.signal,
    );
    expect(result.interrupted).toMatchObject({ run: 'default' });
    expect(exitCodeOf(result)).toBe(130);
    expect(stopped).toEqual(['endless']);
  });
});

describe('a run that fails', () => {
  const axis = `matrix:
  frames:
    a: { workload.config.frames: 10 }
    b: { workload.config.frames: 20 }
    c: { workload.config.frames: 30 }
workload: { use: torn, config: { frames: 1 } }
`;

  /** Sends as many frames as its config says, but fails half-way with some. */
  function torn(bad: readonly number[], error: () => unknown): Plugin {
    return definePlugin({
      name: 'torn',
      version: '1.0.0',
      role: 'workload',
      api: '^2',
      description: 'made for a test',
      configSchema: Type.Object({ frames: Type.Integer() }),
      register: (scope, { frames: count }) =>
        scope.bindValue(WORKLOAD, {
          name: 'torn',
          *frames({ targets, senderMac }) {
            const bytes = new Uint8Array(60);
            bytes.set(targets[0]!.mac);
            bytes.set(senderMac, 6);
            for (let at = 0; at < count; at++) {
              if (bad.includes(count) && at === count / 2) throw error();
              yield { bytes, at };
            }
          },
        }),
    });
  }

  async function resolved(plugins: readonly Plugin[], checks = '[]', only: string[] = []) {
    const registry = new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]);
    const text = testbed(`${axis}checks: ${checks}\n`);
    return resolveTestbed('/nowhere/small.testbed.yaml', text, registry, { only });
  }

  const noFrames = () => new XdpbedError('pcap-invalid', 'no more frames', { hint: 'get more' });

  it('leaves the others as they are, and is in the result in its place', async () => {
    const events: StreamEvent[] = [];
    const thrown: unknown[] = [];
    const broken = await runTestbed(await resolved([torn([20], noFrames)]), {
      version: '0',
      onEvent: (event) => void events.push(event),
      onFailure: (_, error) => void thrown.push(error),
    });
    const whole = await runTestbed(await resolved([torn([], noFrames)]), { version: '0' });
    expect(whole.passed).toBe(true);
    expect(whole).not.toHaveProperty('failures');
    expect(broken.runs).toEqual([whole.runs[0], whole.runs[2]]);
    const failure = {
      run: 'b',
      index: 1,
      axes: { frames: 'b' },
      stage: 'run',
      code: 'pcap-invalid',
      message: 'no more frames',
      hint: 'get more',
    };
    expect(broken.failures).toEqual([failure]);
    expect(broken.passed).toBe(false);
    expect(exitCodeOf(broken)).toBe(EXIT.RUN_FAILED);
    expect(thrown).toMatchObject([{ code: 'pcap-invalid' }]);
    expect(events.filter(({ event }) => event === 'run-failed')).toMatchObject([{ run: 'b', failure }]);
    expect(events.filter(({ event }) => event === 'run-finished')).toMatchObject([
      { run: 'a' },
      { run: 'c' },
    ]);
    expect(events.at(-1)).toMatchObject({ event: 'testbed-finished', passed: false });
  });

  it('is told as the plugin’s failure, whatever was thrown', async () => {
    const { failures } = await runTestbed(await resolved([torn([20], () => new TypeError('oops'))]), {
      version: '0',
    });
    expect(failures).toMatchObject([
      { code: 'plugin-failed', message: 'plugin workload torn failed in frames: oops' },
    ]);
  });

  it('is the last that is started with bail', async () => {
    const events: StreamEvent[] = [];
    const result = await runTestbed(await resolved([torn([20], noFrames)]), {
      version: '0',
      bail: true,
      onEvent: (event) => void events.push(event),
    });
    expect(result.runs.map(({ id }) => id)).toEqual(['a']);
    expect(result.failures).toMatchObject([{ run: 'b' }]);
    expect(result.notStarted).toEqual([{ run: 'c', index: 2, axes: { frames: 'c' } }]);
    expect(events.filter(({ event }) => event === 'run-not-started')).toMatchObject([{ run: 'c' }]);
    expect(events.filter(({ event }) => event === 'run-started')).toHaveLength(2);
    const all = await runTestbed(await resolved([torn([], noFrames)]), { version: '0', bail: true });
    expect(all.runs).toHaveLength(3);
    expect(all).not.toHaveProperty('notStarted');
  });

  it('is a problem of each check that needs it, and of no other', async () => {
    const checks =
      '[{ kind: conservation }, { kind: same-across, axis: frames, compare: [verdicts] }, { kind: offload-shields-guest }, { kind: expect, value: frames-sent, equals: 10, where: { frames: a } }, { kind: expect, value: frames-sent, equals: 20, where: { frames: b } }]';
    const bench = await resolved([torn([20], noFrames)], checks);
    const result = await runTestbed(bench, { version: '0' });
    const failed = 'b: the run failed';
    expect(result.checks.map(({ check, passed, problems }) => [check, passed, problems.at(-1)])).toEqual([
      ['expect', false, failed],
      ['conservation', false, failed],
      ['same-across', false, failed],
      ['offload-shields-guest', false, failed],
      ['expect', true, undefined],
      ['expect', false, failed],
    ]);
    expect(result.checks.at(-1)).toMatchObject({ runs: [], problems: [failed] });
  });

  it('does not pass a check that --only left nothing else', async () => {
    const checks = '[{ kind: conservation }, { kind: same-across, axis: frames }]';
    const bench = await resolved([torn([20], noFrames)], checks, ['frames=b']);
    const { checks: results } = await runTestbed(bench, { version: '0' });
    // The comparison would have had nothing to compare anyway.
    expect(results.map(({ passed }) => passed)).toEqual([false, false, true]);
  });

  it('ends everything when it was interrupted, also when a plugin heard of that first', async () => {
    for (const error of [noFrames, () => new XdpbedError('interrupted', 'the run was interrupted')]) {
      const interruption = new AbortController();
      const interrupt = (): unknown => {
        interruption.abort();
        return error();
      };
      const events: StreamEvent[] = [];
      const checks = `[{ kind: conservation }, { kind: expect, value: frames-sent, equals: 10, where: { frames: a } },
        { kind: expect, value: frames-sent, equals: 30, where: { frames: c } }]`;
      const result = await runTestbed(await resolved([torn([20], interrupt)], checks), {
        version: '0',
        signal: interruption.signal,
        onEvent: (event) => void events.push(event),
      });
      expect(result.runs.map(({ id }) => id)).toEqual(['a']);
      expect(result.interrupted).toEqual({ run: 'b', index: 1, axes: { frames: 'b' } });
      expect(result.notStarted).toEqual([{ run: 'c', index: 2, axes: { frames: 'c' } }]);
      expect(result.passed).toBe(false);
      expect(exitCodeOf(result)).toBe(130);
      // Nothing went wrong but that it was interrupted.
      expect(result).not.toHaveProperty('failures');
      expect(result.checks.map(({ passed, problems }) => [passed, problems])).toEqual([
        [false, ['b: the run was interrupted', 'c: the run was not started']],
        [false, ['b: the run was interrupted', 'c: the run was not started']],
        [true, []],
        [false, ['c: the run was not started']],
      ]);
      const ends = events.filter(({ event }) => event === 'run-interrupted' || event === 'run-not-started');
      expect(ends).toMatchObject([
        { event: 'run-interrupted', run: 'b', place: { index: 1 } },
        { event: 'run-not-started', run: 'c' },
      ]);
      const validate = new Ajv({ strict: false }).compile(ResultDocument);
      expect(validate(result), JSON.stringify(validate.errors)).toBe(true);
    }
  });

  it('starts no run that it was interrupted before, and has all when the last was through', async () => {
    const interrupted = await runTestbed(await resolved([torn([], noFrames)]), {
      version: '0',
      signal: AbortSignal.abort(),
    });
    expect(interrupted).toMatchObject({
      runs: [],
      interrupted: { run: 'a' },
      notStarted: [{ run: 'b' }, { run: 'c' }],
    });

    const late = new AbortController();
    const whole = await runTestbed(await resolved([torn([], noFrames)]), {
      version: '0',
      signal: late.signal,
      onEvent: (event) => void (event.event === 'run-finished' && event.run === 'c' && late.abort()),
    });
    expect(whole.runs).toHaveLength(3);
    expect(whole).not.toHaveProperty('interrupted');
  });
});

describe('exit code', () => {
  const failure = {
    run: 'b',
    index: 1,
    axes: {},
    stage: 'run',
    code: 'plugin-failed',
    message: 'no',
  } as const;
  const leftover = { ...failure, run: 'a', index: 0, stage: 'clean-up' } as const;
  const unsupported = { ...failure, code: 'host-unsupported' };
  const of = (parts: Partial<ResultDocument>): number =>
    exitCodeOf({ ...exampleResult([]), passed: false, ...parts });

  it.each([
    ['every check passed', { passed: true }, 0],
    ['a check failed', {}, 1],
    ['a run failed, and so a check', { failures: [failure] }, 5],
    ['something was left, whatever else failed', { failures: [failure, leftover] }, 4],
    ['a run found what an earlier one had left', { failures: [{ ...failure, code: 'leftovers' }] }, 4],
    ['the host can carry out no run', { failures: [unsupported] }, 3],
    ['the host can carry out some', { failures: [unsupported], runs: [exampleRun()] }, 5],
    [
      'it was interrupted, whatever failed',
      { interrupted: { run: 'a', index: 0, axes: {} }, failures: [leftover] },
      130,
    ],
    ['a code of somebody else’s', { failures: [{ ...failure, code: 'toString' }] }, 5],
  ])('%s: %j', (_, parts, code) => {
    expect(of(parts as Partial<ResultDocument>)).toBe(code);
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

describe('with some of the runs left out', () => {
  const text = testbed(
    'matrix: { placement: { guest: { guests.g0.nics.eth0.placement: guest }, host: {} } }\nchecks: [{ kind: same-across, axis: placement }, { kind: conservation }]',
  );

  it.each([
    [
      ['placement=guest'],
      'verdicts and maps are the same across placement: not looked at, --only left no run for it',
    ],
    [[], 'verdicts and maps are the same across placement'],
  ])('--only %j', async (only, description) => {
    const registry = new PluginRegistry(BUILT_IN_PLUGINS);
    const resolved = await resolveTestbed('/nowhere/small.testbed.yaml', text, registry, { only });
    const result = await runTestbed(resolved, { version: '0.0.0' });
    expect(result.passed).toBe(true);
    expect(result.checks.find((check) => check.check === 'same-across')!.description).toBe(description);
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
