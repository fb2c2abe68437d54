import { describe, expect, it } from 'vitest';
import {
  emptyVerdictCounts,
  HOOK_SITES,
  type CheckResult,
  type HookResult,
  type RunResult,
  type VerdictCounts,
} from '../contract/result.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { PluginRegistry } from '../plugin/plugin-registry.js';
import { resolveTestbed } from '../testbed/resolve-testbed.js';
import { CHECKS, COUNTERS, type CheckSection } from '../testbed/testbed-schema.js';
import { effectiveChecks, evaluateCheck, evaluateChecks } from './checks.js';

/** A run of one guest whose program is attached and to which nothing has been sent. */
function runResult(changes: Partial<RunResult> = {}): RunResult {
  return {
    id: 'default',
    axes: {},
    fabric: 'by-hand',
    framesSent: 0,
    framesCopied: 0,
    attachments: [{ node: 'g0.eth0', program: 'count', placement: 'host', attached: true }],
    hooks: [],
    ends: [],
    maps: [],
    control: [],
    links: [],
    rulings: [],
    audit: [],
    ...changes,
  };
}

/** A hook that ran on as many frames as it returned verdicts. */
function hook(
  site: HookResult['site'],
  node: string,
  verdicts: Partial<VerdictCounts>,
  program = 'count',
): HookResult {
  const frames = Object.values(verdicts).reduce((total, count) => total + count, 0);
  return { site, node, program, frames, verdicts: { ...emptyVerdictCounts(), ...verdicts } };
}

function link(nic: string, framesToGuest: number, guest = 'g0'): RunResult['links'][number] {
  return {
    guest,
    nic,
    framesToGuest,
    framesFromGuest: 0,
    kicks: 0,
    interrupts: 0,
    suppressedNotifications: 0,
    violations: 0,
  };
}

/** Content of map `rxcnt` of g0.eth0, hex key by hex value. */
function rxcnt(entries: Record<string, string>): RunResult['maps'] {
  return [
    {
      guest: 'g0',
      nic: 'eth0',
      name: 'rxcnt',
      type: 'BPF_MAP_TYPE_ARRAY',
      readFrom: 'device',
      entries: Object.entries(entries).map(([key, value]) => ({ key, value })),
    },
  ];
}

const passed = { passed: true, problems: [] };
const failed = (...problems: string[]) => ({ passed: false, problems });

/** What a check says when it is left no run. */
const NO_RUN = 'no run of this testbed is one that the check could look at';

describe('conservation', () => {
  const check = { kind: 'conservation' } as const;

  it('holds for what was sent to measure a rate, too', () => {
    const rate = {
      node: 'g0.eth0',
      placement: 'host' as const,
      hook: 'tail-call',
      guest: '',
      size: 60,
      flows: 1,
      seconds: 1,
      framesPerSecond: { median: 1, min: 1, max: 1 },
      samples: [1],
      offeredPerSecond: 1,
      framesSent: 7,
      framesCopied: 1,
      ends: [],
    };
    const problems = (unexplained: number): string[] =>
      evaluateCheck(check, [runResult({ rates: [{ ...rate, unexplained }] })]).problems;
    expect(problems(0)).toEqual([]);
    expect(problems(-2)).toEqual([
      'default: of 8 frames sent to g0.eth0 for its rate, nobody knows where -2 ended',
    ]);
  });
  const ends: RunResult['ends'] = [
    { place: 'g0.eth0', fate: 'guest-stack', frames: 7 },
    { place: 'host.tap0', fate: 'xdp-drop', frames: 5 },
  ];

  it('passes when as many frames ended as were sent and copied', () => {
    expect(evaluateCheck(check, [runResult({ framesSent: 10, framesCopied: 2, ends })])).toEqual({
      check: 'conservation',
      description: 'every frame is accounted for exactly once',
      runs: ['default'],
      ...passed,
    });
  });

  it.each([
    ['was lost', 11, 2],
    ['ended twice', 9, 2],
    ['was copied without being counted', 10, 1],
  ])('fails when a frame %s', (_, framesSent, framesCopied) => {
    expect(evaluateCheck(check, [runResult({ framesSent, framesCopied, ends })])).toMatchObject(
      failed(`default: ${framesSent} sent + ${framesCopied} copied, but 12 ended`),
    );
  });

  it('fails when a program saw more frames than it returned verdicts, and names each run', () => {
    const short = { ...hook('offload', 'g0.eth0', { XDP_DROP: 3, XDP_PASS: 4 }), frames: 8 };
    const result = evaluateCheck(check, [
      runResult({ id: 'a', hooks: [short] }),
      runResult({ id: 'b', hooks: [hook('offload', 'g0.eth0', { XDP_DROP: 8 })] }),
      runResult({ id: 'c', framesSent: 1, hooks: [short] }),
    ]);
    expect(result).toMatchObject({
      runs: ['a', 'b', 'c'],
      ...failed(
        'a: count at g0.eth0 saw 8 frames but returned 7 verdicts',
        'c: 1 sent + 0 copied, but 0 ended',
        'c: count at g0.eth0 saw 8 frames but returned 7 verdicts',
      ),
    });
  });
});

describe('requests-undisturbed', () => {
  const check: CheckSection = {
    kind: 'requests-undisturbed',
    node: 'quiet.eth0',
    axis: 'neighbour',
    baseline: 'silent',
    percentile: 'p99',
    'at-most-times': 2,
  };
  /** A run in which quiet.eth0 waited so long, all else being half or twice that. */
  const run = (neighbour: string, p99: number | undefined, other = 'a'): RunResult =>
    runResult({
      id: `${neighbour}/${other}`,
      axes: { neighbour, other },
      requests: [
        {
          node: 'quiet.eth0',
          request: 'lookup',
          name: 'rxcnt',
          sent: 10,
          refused: 0,
          ...(p99 === undefined ? {} : { latency: { p50: p99 / 2, p90: p99 / 2, p99, max: 20 * p99 } }),
        },
      ],
    });

  it('passes up to as many times the latency of the baseline, and not beyond', () => {
    expect(evaluateCheck(check, [run('silent', 50), run('noisy', 100)])).toEqual({
      check: 'requests-undisturbed',
      description: 'p99 of quiet.eth0’s requests is at most 2 times that of neighbour=silent',
      runs: ['noisy/a'],
      passed: true,
      problems: [],
    });
    expect(evaluateCheck(check, [run('silent', 50), run('noisy', 100.1)])).toMatchObject({
      passed: false,
      problems: ['noisy/a: quiet.eth0 waited 100.1 µs (p99), 50 µs in silent/a'],
    });
  });

  it('looks at the percentile that it names', () => {
    const runs = [run('silent', 50), run('noisy', 90)];
    expect(evaluateCheck({ ...check, percentile: 'max', 'at-most-times': 1.5 }, runs).problems).toEqual([
      'noisy/a: quiet.eth0 waited 1800 µs (max), 1000 µs in silent/a',
    ]);
  });

  it('compares with the baseline that differs on the axis alone', () => {
    const runs = [
      run('silent', 10, 'a'),
      run('silent', 90, 'b'),
      run('noisy', 100, 'a'),
      run('noisy', 100, 'b'),
    ];
    expect(evaluateCheck(check, runs)).toMatchObject({
      runs: ['noisy/a', 'noisy/b'],
      problems: ['noisy/a: quiet.eth0 waited 100 µs (p99), 10 µs in silent/a'],
    });
  });

  it('fails where requests were refused, which is quick and no answer', () => {
    const refusing = (result: RunResult, refused: number): RunResult => ({
      ...result,
      requests: result.requests!.map((requests) => ({ ...requests, refused })),
    });
    expect(evaluateCheck(check, [run('silent', 50), refusing(run('noisy', 20), 3)]).problems).toEqual([
      'noisy/a: 3 requests of quiet.eth0 were refused, 0 in silent/a',
    ]);
    expect(
      evaluateCheck(check, [refusing(run('silent', 50), 10), refusing(run('noisy', 50), 10)]).problems,
    ).toEqual(['noisy/a: quiet.eth0 got no answer to compare with silent/a']);
  });

  it('fails where nothing was asked, or nothing is there to compare with', () => {
    expect(evaluateCheck(check, [run('silent', 50), run('noisy', undefined)]).problems).toEqual([
      'noisy/a: quiet.eth0 got no answer to compare with silent/a',
    ]);
    expect(evaluateCheck(check, [run('noisy', 50)]).passed).toBe(false);
  });
});

describe('same-across', () => {
  const inGuest = (changes: Partial<RunResult>, program = 'count') =>
    runResult({ id: `${program}/guest`, axes: { program, placement: 'guest' }, ...changes });
  const onHost = (changes: Partial<RunResult>, program = 'count') =>
    runResult({ id: `${program}/host`, axes: { program, placement: 'host' }, ...changes });
  const check = (...compare: ('verdicts' | 'maps')[]) =>
    ({ kind: 'same-across', axis: 'placement', compare }) as const;

  it('on verdicts: passes when the guest’s program returned the same at either place', () => {
    const result = evaluateCheck(check('verdicts'), [
      inGuest({
        hooks: [
          hook('host-nic', 'host.eth0', { XDP_REDIRECT: 9 }),
          hook('guest-driver', 'g0.eth0', { XDP_DROP: 9 }),
        ],
      }),
      // What the host's own programs return, and content of maps, is not asked for.
      onHost({
        hooks: [hook('offload', 'g0.eth0', { XDP_DROP: 9 }), hook('tap-rx', 'host.tap0', { XDP_PASS: 1 })],
        maps: rxcnt({ '11000000': '01' }),
      }),
    ]);
    expect(result).toEqual({
      check: 'same-across',
      description: 'verdicts are the same across placement',
      runs: ['count/guest', 'count/host'],
      ...passed,
    });
  });

  it('on verdicts: fails when one frame met another verdict', () => {
    const result = evaluateCheck(check('verdicts'), [
      inGuest({ hooks: [hook('guest-driver', 'g0.eth0', { XDP_DROP: 9 })] }),
      onHost({ hooks: [hook('offload', 'g0.eth0', { XDP_DROP: 8, XDP_PASS: 1 })] }),
    ]);
    expect(result).toMatchObject(
      failed(
        'count/host differs from count/guest in verdicts: g0.eth0 count is XDP_DROP 8, XDP_PASS 1, not XDP_DROP 9',
      ),
    );
  });

  it('on verdicts: fails when one of the runs has no program, or one that saw nothing', () => {
    const ran = inGuest({ hooks: [hook('guest-driver', 'g0.eth0', { XDP_TX: 2 })] });
    expect(evaluateCheck(check('verdicts'), [ran, onHost({})])).toMatchObject(
      failed('count/host differs from count/guest in verdicts: g0.eth0 count is absent, not XDP_TX 2'),
    );
    expect(
      evaluateCheck(check('verdicts'), [onHost({ hooks: [hook('offload', 'g0.eth0', {})] }), ran]),
    ).toMatchObject(
      failed('count/guest differs from count/host in verdicts: g0.eth0 count is XDP_TX 2, not none'),
    );
  });

  it('on maps: passes on the same content, read from wherever it lies', () => {
    const kept = rxcnt({ '06000000': '02', '11000000': '09' });
    const result = evaluateCheck(check('maps'), [
      inGuest({
        maps: kept.map((map) => ({ ...map, readFrom: 'guest-kernel' as const })),
        hooks: [hook('guest-driver', 'g0.eth0', { XDP_DROP: 9 })],
      }),
      // Verdicts are not asked for.
      onHost({ maps: kept }),
    ]);
    expect(result).toEqual({
      check: 'same-across',
      description: 'maps are the same across placement',
      runs: ['count/guest', 'count/host'],
      ...passed,
    });
  });

  it.each([
    ['another value', { '06000000': '03', '11000000': '09' }, '[06000000] is 03, not 02'],
    ['an element too few', { '11000000': '09' }, '[06000000] is absent, not 02'],
    [
      'an element too many',
      { '06000000': '02', '11000000': '09', '01000000': '01' },
      '[01000000] is 01, not absent',
    ],
  ])('on maps: fails on %s', (_, entries, difference) => {
    const result = evaluateCheck(check('verdicts', 'maps'), [
      inGuest({ maps: rxcnt({ '06000000': '02', '11000000': '09' }) }),
      onHost({ maps: rxcnt(entries) }),
    ]);
    expect(result).toMatchObject({
      description: 'verdicts and maps are the same across placement',
      ...failed(`count/host differs from count/guest in maps: g0.eth0 rxcnt${difference}`),
    });
  });

  describe('of a per-CPU map', () => {
    /** `counters` of blocklist.o: `struct traffic`, packets and bytes, 64 bits each. */
    const lanes = (...values: readonly (readonly [packets: bigint, bytes: bigint])[]): string => {
      const all = Buffer.alloc(16 * values.length);
      values.flat().forEach((number, index) => all.writeBigUInt64LE(BigInt.asUintN(64, number), 8 * index));
      return all.toString('hex');
    };
    const counters = (entries: Readonly<Record<string, string>>): Pick<RunResult, 'maps'> => ({
      maps: [
        {
          guest: 'g0',
          nic: 'eth0',
          name: 'counters',
          type: 'BPF_MAP_TYPE_PERCPU_ARRAY',
          readFrom: 'device',
          entries: Object.entries(entries).map(([key, value]) => ({ key, value })),
        },
      ],
    });
    const compared = async (
      one: Readonly<Record<string, string>>,
      other: Readonly<Record<string, string>>,
    ): Promise<readonly string[]> => {
      const path = new URL('../../../testbeds/programs/blocklist.o', import.meta.url).pathname;
      const text = `version: 1
name: cpus
programs: { count: { object: ${path} } }
host: { case: bridge, nics: { eth0: { mac: 52:54:00:00:00:01 } }, taps: { tap0: {} }, bridges: { br0: { ports: [eth0, tap0] } } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count } } } }
matrix: { placement: { guest: {}, host: { guests.g0.nics.eth0.placement: host } } }
checks: [{ kind: same-across, axis: placement }]
`;
      const { runs, checks } = await resolveTestbed('t.yaml', text, new PluginRegistry(BUILT_IN_PLUGINS));
      const [guest, host] = runs.map(({ plan: { id, axes } }) => ({ id, axes }));
      return evaluateCheck(checks[0]!, [
        runResult({ ...guest!, ...counters(one) }),
        runResult({ ...host!, ...counters(other) }),
      ]).problems;
    };
    const [first, second] = ['00000000', '01000000'];

    it('passes on the same sums, however many CPUs there are and whichever counted', async () => {
      expect(
        await compared(
          { [first]: lanes([10n, 600n]), [second]: lanes([1n, 60n]) },
          {
            [first]: lanes([3n, 180n], [0n, 0n], [7n, 420n], [0n, 0n]),
            [second]: lanes([0n, 0n], [1n, 60n], [0n, 0n], [0n, 0n]),
          },
        ),
      ).toEqual([]);
    });

    it('passes on the same sum of what one CPU adds and another takes away', async () => {
      const taken = lanes([5n, 1n], [-4n, -1n]);
      expect(await compared({ [first]: lanes([1n, 0n]) }, { [first]: taken })).toEqual([]);
      // Together they are what an element is that is not there.
      expect(await compared({}, { [second]: lanes([5n, -1n], [-5n, 1n]) })).toEqual([]);
    });

    it('fails on another sum, and names the member', async () => {
      expect(
        await compared({ [first]: lanes([10n, 600n]) }, { [first]: lanes([3n, 180n], [7n, 421n]) }),
      ).toEqual([
        'host differs from guest in maps: g0.eth0 counters[00000000].bytes over all CPUs is 601, not 600',
      ]);
      expect(await compared({ [first]: lanes([10n, 600n], [0n, 0n]) }, {})).toEqual([
        'host differs from guest in maps: g0.eth0 counters[00000000].packets over all CPUs is absent, not 10',
      ]);
    });
  });

  it('compares runs that differ on no other axis, and each of them with the first', () => {
    const saw = (frames: number) => ({ hooks: [hook('offload', 'g0.eth0', { XDP_DROP: frames })] });
    const third = runResult({ id: 'count/both', axes: { program: 'count', placement: 'both' }, ...saw(6) });
    const result = evaluateCheck(check('verdicts'), [
      inGuest(saw(5)),
      inGuest(saw(1), 'drop'),
      onHost(saw(5)),
      onHost(saw(1), 'drop'),
      inGuest(saw(3), 'alone'),
      third,
    ]);
    expect(result.runs).toEqual(['count/guest', 'count/host', 'count/both', 'drop/guest', 'drop/host']);
    expect(result.problems).toEqual([
      'count/both differs from count/guest in verdicts: g0.eth0 count is XDP_DROP 6, not XDP_DROP 5',
    ]);
  });

  it('fails when no run has another to be compared with', () => {
    expect(evaluateCheck(check('verdicts'), [inGuest({}), inGuest({}, 'drop')])).toMatchObject({
      runs: [],
      ...failed(NO_RUN),
    });
  });
});

describe('offload-shields-guest', () => {
  const check = { kind: 'offload-shields-guest' } as const;
  const offloaded = (reached: number, changes: Partial<RunResult> = {}) =>
    runResult({
      hooks: [hook('offload', 'g0.eth0', { XDP_DROP: 6, XDP_PASS: 4 })],
      links: [link('eth0', reached)],
      ...changes,
    });

  it.each([0, 3, 4])('passes when %i of the 4 frames that were passed reached the virtqueue', (reached) => {
    expect(evaluateCheck(check, [offloaded(reached)])).toEqual({
      check: 'offload-shields-guest',
      description: 'frames that an offloaded program did not pass never reach the guest’s virtqueue',
      runs: ['default'],
      ...passed,
    });
  });

  it('fails when one frame more reached it than was passed', () => {
    expect(evaluateCheck(check, [offloaded(5)])).toMatchObject(
      failed('default: count passed 4 frames, but 5 reached the virtqueue of g0.eth0'),
    );
  });

  it('looks at each nic by itself, and not at nics without an offloaded program', () => {
    const hooks = [
      hook('offload', 'g0.eth1', { XDP_TX: 2 }, 'reflect'),
      hook('guest-driver', 'g0.eth0', { XDP_DROP: 9 }),
      hook('offload', 'g1.eth0', { XDP_PASS: 9 }),
    ];
    const links = [link('eth0', 9), link('eth1', 1), link('eth0', 9, 'g1')];
    expect(evaluateCheck(check, [offloaded(0, { hooks, links })])).toMatchObject(
      failed('default: reflect passed 0 frames, but 1 reached the virtqueue of g0.eth1'),
    );
  });

  it('looks at no run in which nothing is offloaded, and fails when there is no other', () => {
    const inGuest = runResult({
      id: 'guest',
      hooks: [hook('guest-driver', 'g0.eth0', { XDP_DROP: 9 })],
      links: [link('eth0', 9)],
    });
    expect(evaluateCheck(check, [inGuest, offloaded(4)])).toMatchObject({ runs: ['default'], ...passed });
    expect(evaluateCheck(check, [inGuest])).toMatchObject({ runs: [], ...failed(NO_RUN) });
  });
});

describe('expect', () => {
  const asked = { request: 1, time: 0, guest: 'g0', nic: 'eth0', reason: '' };
  /** Something of each group of counters, in numbers that occur once, and beside it what does not count. */
  const run = runResult({
    framesSent: 1009,
    attachments: [
      { node: 'g0.eth0', program: 'count', placement: 'host', attached: true },
      { node: 'g1.eth0', program: 'count', placement: 'host', attached: false, reason: 'denied' },
      { node: 'g2.eth0', program: 'count', placement: 'guest', attached: false, reason: 'rejected' },
    ],
    hooks: [
      hook('offload', 'g0.eth0', { XDP_DROP: 11, XDP_PASS: 13 }),
      hook('offload', 'g1.eth0', { XDP_DROP: 17 }),
      hook('guest-driver', 'g0.eth0', { XDP_DROP: 19 }),
    ],
    ends: [
      { place: 'host.tap0', fate: 'xdp-drop', frames: 23 },
      { place: 'host.tap1', fate: 'xdp-drop', frames: 29 },
      { place: 'host.tap1', fate: 'ring-full', frames: 31 },
    ],
    control: [
      { guest: 'g0', nic: 'eth0', commands: { 'EBPF_MAP/CREATE_MAP': 78 }, acks: { ok: 37, err: 41 } },
      { guest: 'g1', nic: 'eth0', commands: { 'EBPF_MAP/CREATE_MAP': 90 }, acks: { ok: 43, err: 47 } },
    ],
    rulings: [
      { ...asked, operation: 'map-create', policy: 'quota', ruling: 'allow', count: 53 },
      { ...asked, operation: 'map-create', policy: 'quota', ruling: 'deny', count: 59 },
      { ...asked, operation: 'program-load', policy: 'limits', ruling: 'allow', count: 61 },
      { ...asked, operation: 'program-load', policy: 'limits', ruling: 'deny', dryRun: true, count: 101 },
    ],
    audit: [1, 2, 3, 4, 5].map((index) => ({
      time: 0,
      guest: 'g0',
      nic: 'eth0',
      command: 'EBPF_MAP/CREATE_MAP',
      outcome: 'error-ack' as const,
      reason: `denied for the time ${index}`,
      ...(index > 2 ? { code: 'out-of-time' } : {}),
    })),
    verification: {
      programs: 71,
      outOfTime: 67,
      outOfMemory: 3,
      cancelled: 79,
      longestMs: 83,
      peakMemoryMiB: 97,
    },
    migrations: [true, false, false].map((moved) => ({ node: 'g0.eth0', afterFrames: 9, moved })),
  });

  const expected: [string, number][] = [
    ['frames-sent', 1009],
    ['attachments.refused', 2],
    ['audit', 5],
    ['control.ok', 37 + 43],
    ['control.err', 41 + 47],
    ['rulings.allow', 53 + 61],
    ['rulings.deny', 59],
    ['rulings.would-deny', 101],
    ['ends.xdp-drop', 23 + 29],
    ['ends.ring-full', 31],
    ['ends.transmitted', 0],
    ['verdicts.offload.XDP_DROP', 11 + 17],
    ['verdicts.offload.XDP_PASS', 13],
    ['verdicts.guest-driver.XDP_DROP', 19],
    ['verdicts.guest-driver.XDP_PASS', 0],
    ['verdicts.tap-rx.XDP_DROP', 0],
    ['verifier.accepted', 1],
    ['verifier.rejected', 3],
    ['verification.programs', 71],
    ['verification.out-of-time', 67],
    ['verification.out-of-memory', 3],
    ['verification.cancelled', 79],
    ['migrations.moved', 1],
    ['migrations.stayed', 2],
  ];

  it.each(expected)('%s is %i, and nothing else', (value, actual) => {
    expect(evaluateCheck({ kind: 'expect', value, equals: actual }, [run])).toEqual({
      check: 'expect',
      description: `${value} is ${actual}`,
      runs: ['default'],
      ...passed,
    });
    expect(evaluateCheck({ kind: 'expect', value, equals: actual + 1 }, [run])).toMatchObject(
      failed(`default: ${value} is ${actual}, not ${actual + 1}`),
    );
  });

  it('knows every counter that a testbed may name, and says so of another', () => {
    // Nothing in the run is 7777, so each counter that is read says its value.
    for (const value of COUNTERS) {
      const [problem] = evaluateCheck({ kind: 'expect', value, equals: 7777 }, [run]).problems;
      expect(problem).toMatch(new RegExp(`^default: ${value.replaceAll('.', '\\.')} is \\d+, not 7777$`));
    }
    for (const value of ['control.late', 'frames-lost']) {
      expect(evaluateCheck({ kind: 'expect', value, equals: 0 }, [run])).toMatchObject(
        failed(`default: '${value}' is not a counter of this run`),
      );
    }
  });

  it('every group of counters that the language has is among those looked at here', () => {
    const group = (value: string) => value.split('.')[0];
    expect(new Set(expected.map(([value]) => group(value)))).toEqual(new Set(COUNTERS.map(group)));
    expect(HOOK_SITES.every((site) => COUNTERS.includes(`verdicts.${site}.XDP_DROP`))).toBe(true);
  });

  it('looks at the runs that it is for, each by itself', () => {
    const on = (hostCase: string, placement: string, framesSent: number) =>
      runResult({ id: `${hostCase}/${placement}`, axes: { case: hostCase, placement }, framesSent });
    const runs = [on('bridge', 'guest', 4), on('bridge', 'host', 5), on('redirect', 'host', 6)];
    const value = 'frames-sent';
    const where = { case: 'bridge', placement: 'host' };
    expect(evaluateCheck({ kind: 'expect', where, value, equals: 5 }, runs)).toEqual({
      check: 'expect',
      description: 'frames-sent is 5 where case=bridge, placement=host',
      runs: ['bridge/host'],
      ...passed,
    });
    expect(
      evaluateCheck({ kind: 'expect', where: { placement: 'host' }, value, equals: 5 }, runs),
    ).toMatchObject({
      runs: ['bridge/host', 'redirect/host'],
      ...failed('redirect/host: frames-sent is 6, not 5'),
    });
    expect(evaluateCheck({ kind: 'expect', where: { case: 'none' }, value, equals: 5 }, runs)).toMatchObject({
      runs: [],
      ...failed(NO_RUN),
    });
  });
});

describe('all checks of a testbed', () => {
  const checks: CheckSection[] = [
    { kind: 'conservation' },
    { kind: 'same-across', axis: 'placement', compare: ['verdicts', 'maps'] },
    {
      kind: 'requests-undisturbed',
      node: 'g0.eth0',
      axis: 'placement',
      baseline: 'guest',
      percentile: 'p99',
      'at-most-times': 2,
    },
    { kind: 'near-reference', within: 5, ordered: true, fabric: 'model' },
    { kind: 'near-change', axis: 'placement', baseline: 'guest', within: 1.5, fabric: 'model' },
    { kind: 'outpaces', axis: 'placement', variant: 'host', baseline: 'guest', 'at-least-times': 1 },
    { kind: 'offload-shields-guest' },
    { kind: 'expect', where: { placement: 'host' }, value: 'audit', equals: 0 },
    { kind: 'attacks', where: { placement: 'host' }, expect: 'fail' },
  ];
  const states = (results: readonly CheckResult[]) =>
    results.map(({ check, passed, problems }) => [check, passed, problems]);

  it('are one of each kind that the language has', () => {
    expect(checks.map((check) => check.kind).sort()).toEqual(Object.keys(CHECKS).sort());
  });

  it('fail without a run, whichever they are', () => {
    expect(states(evaluateChecks(checks, [], false))).toEqual(
      checks.map((check) => [check.kind, false, [NO_RUN]]),
    );
  });

  it('narrowed by --only, are not made where no run is left, and made where one is', () => {
    const lossy = runResult({ id: 'guest', axes: { placement: 'guest' }, framesSent: 3 });
    const results = evaluateChecks(checks, [lossy], true);
    expect(states(results)).toEqual([
      ['conservation', false, ['guest: 3 sent + 0 copied, but 0 ended']],
      ['same-across', true, []],
      ['requests-undisturbed', true, []],
      ['near-reference', true, []],
      ['near-change', true, []],
      ['outpaces', true, []],
      ['offload-shields-guest', true, []],
      ['expect', true, []],
      ['attacks', true, []],
    ]);
    expect(results.map((result) => result.description)).toEqual([
      'every frame is accounted for exactly once',
      'verdicts and maps are the same across placement: not looked at, --only left no run for it',
      'p99 of g0.eth0’s requests is at most 2 times that of placement=guest: not looked at, --only left no run for it',
      'rates on fabric model are within 5 % of the reference, in the same order: not looked at, the runs are on another',
      'exchanges on fabric model change from placement=guest as those of the reference, within 1.5 points: not looked at, the runs are on another',
      'placement=host has at least 1 times the rate of placement=guest: not looked at, --only left no run for it',
      'frames that an offloaded program did not pass never reach the guest’s virtqueue: not looked at, --only left no run for it',
      'audit is 0 where placement=host: not looked at, --only left no run for it',
      'attacks fail where placement=host: not looked at, --only left no run for it',
    ]);
  });

  it('demand that every program was attached, unless one says how many are refused', () => {
    const refused = runResult({
      attachments: [
        { node: 'g0.eth0', program: 'count', placement: 'host', attached: false, reason: 'denied' },
      ],
    });
    const conservation = { kind: 'conservation' } as const;
    expect(states(evaluateChecks(effectiveChecks([conservation]), [refused], false))).toEqual([
      ['expect', false, ['default: attachments.refused is 1, not 0']],
      ['conservation', true, []],
    ]);
    const one = { kind: 'expect', value: 'attachments.refused', equals: 1 } as const;
    expect(states(evaluateChecks(effectiveChecks([conservation, one]), [refused], false))).toEqual([
      ['conservation', true, []],
      ['expect', true, []],
    ]);
  });
});

describe('attacks', () => {
  const attacked = (broken: readonly string[], device = 'strong'): RunResult =>
    runResult({
      id: device,
      axes: { device },
      attacks: [
        {
          node: 'm.eth0',
          attack: 'peek',
          device,
          held: broken.length === 0,
          aims: ['no-leak', 'refused'],
          broken: broken.map((invariant) => ({ invariant, what: 'so and so' })),
          detail: '',
        },
      ],
    });
  const fail: CheckSection = { kind: 'attacks', expect: 'fail' };
  const succeed: CheckSection = { kind: 'attacks', expect: 'succeed' };

  it('fail only where everything held', () => {
    expect(evaluateCheck(fail, [attacked([])]).passed).toBe(true);
    expect(evaluateCheck(fail, [attacked(['reset-frees'])]).problems).toEqual([
      'strong: peek of m.eth0 on strong: reset-frees: so and so',
    ]);
  });

  it('succeed only where something did not hold that they go for', () => {
    expect(evaluateCheck(succeed, [attacked(['reset-frees', 'refused'])]).passed).toBe(true);
    for (const broken of [[], ['reset-frees']]) {
      expect(evaluateCheck(succeed, [attacked(broken)]).problems).toEqual([
        'strong: peek of m.eth0 on strong broke nothing that it goes for: no-leak, refused',
      ]);
    }
  });

  it('are looked at where the check says, and a run without any is none', () => {
    const runs = [attacked([]), attacked(['no-leak'], 'weak')];
    expect(evaluateCheck({ ...fail, where: { device: 'strong' } }, runs).passed).toBe(true);
    expect(evaluateCheck({ ...succeed, where: { device: 'weak' } }, runs).passed).toBe(true);
    expect(evaluateCheck(fail, [runResult()]).passed).toBe(false);
  });
});
