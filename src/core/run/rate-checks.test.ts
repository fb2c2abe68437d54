import { describe, expect, it } from 'vitest';
import { exampleRun } from '../../conformance/reporter/index.js';
import type { ExchangeResult, RateResult, RunResult } from '../contract/result.js';
import { evaluateCheck } from './checks.js';

function run(id: string, mpps: number | undefined, fabric = 'model'): RunResult {
  const [hostCase, placement] = id.split('/');
  const rate: RateResult = {
    node: 'g0.eth0',
    placement: 'host',
    hook: 'tun_recvmsg',
    guest: '',
    size: 60,
    seconds: 1,
    framesPerSecond: { median: (mpps ?? 0) * 1e6, min: 0, max: 0 },
    samples: [],
    offeredPerSecond: 1,
    framesSent: 0,
    framesCopied: 0,
    ends: [],
    unexplained: 0,
  };
  return {
    ...exampleRun(id),
    axes: { case: hostCase!, placement: placement! },
    fabric,
    ...(mpps === undefined ? {} : { rates: [rate] }),
  };
}

describe('near-reference', () => {
  const check = { kind: 'near-reference', within: 5, ordered: true } as const;
  const reference = { name: 'They', mpps: { 'bridge/guest': 1, 'bridge/host': 1.02, 'redirect/host': 10 } };

  it('holds to a percentage of each figure, either way, and looks at no run without one', () => {
    const runs = [run('bridge/guest', 0.951), run('bridge/host', 1.07), run('redirect/guest', 99)];
    expect(evaluateCheck(check, runs, [], reference)).toMatchObject({
      passed: true,
      runs: ['bridge/guest', 'bridge/host'],
      description: 'rates are within 5 % of They, in the same order',
    });
    expect(evaluateCheck(check, [run('redirect/host', 9.49)], [], reference).problems).toEqual([
      'redirect/host: 9.490 Mpps, They has 10',
    ]);
    expect(evaluateCheck(check, [run('redirect/host', 10.51)], [], reference).passed).toBe(false);
  });

  it('wants of every two runs the faster one faster, and takes equal ones for wrong', () => {
    const runs = [run('bridge/guest', 1.01), run('bridge/host', 1.01)];
    expect(evaluateCheck(check, runs, [], reference).problems).toEqual([
      'bridge/host is not faster than bridge/guest, in They it is',
    ]);
    expect(evaluateCheck({ ...check, ordered: false }, runs, [], reference).passed).toBe(true);
  });

  it('says nothing of runs on another fabric, but fails where there is nothing to compare', () => {
    const elsewhere = [run('bridge/guest', 5, 'linux')];
    expect(evaluateCheck({ ...check, fabric: 'model' }, elsewhere, [], reference)).toMatchObject({
      passed: true,
      description:
        'rates on fabric model are within 5 % of They, in the same order: not looked at, the runs are on another',
    });
    expect(evaluateCheck(check, elsewhere, [], reference).passed).toBe(false);
    expect(evaluateCheck(check, [run('bridge/guest', undefined)], [], reference).passed).toBe(false);
    expect(evaluateCheck(check, [run('bridge/guest', 1)], []).passed).toBe(false);
    expect(evaluateCheck({ ...check, fabric: 'model' }, [], [], reference).passed).toBe(false);
  });

  it('fails for a run with a figure that has no result', () => {
    const missing = (id: string) => ({ id, axes: {}, offloads: true, reason: 'failed' as const });
    const runs = [run('bridge/guest', 1)];
    expect(evaluateCheck(check, runs, [missing('bridge/host')], reference).problems).toEqual([
      'bridge/host: the run failed',
    ]);
    expect(evaluateCheck(check, runs, [missing('bridge/other')], reference).passed).toBe(true);
  });
});

describe('near-change', () => {
  const check = { kind: 'near-change', axis: 'path', baseline: 'old', within: 1.5 } as const;
  const reference = {
    name: 'They',
    exchanges: {
      old: { 'udp-stream/18': { netperf: 100 }, 'udp-rr/1': { netperf: 50 } },
      new: { 'udp-stream/18': { netperf: 102 } },
    },
  };
  const stream: ExchangeResult = {
    node: 'g0.eth0',
    kind: 'udp-stream',
    size: 18,
    streams: 1,
    guest: '',
    seconds: 1,
    samples: [],
  };
  const exchanged = (path: string, median: number | undefined, fabric = 'model'): RunResult => ({
    ...exampleRun(path),
    axes: { path },
    fabric,
    exchanges: [
      median === undefined
        ? { ...stream, unmeasured: 'nobody there' }
        : { ...stream, bitsPerSecond: { median, min: 0, max: 0 } },
      { ...stream, kind: 'udp-rr', size: 1, transactionsPerSecond: { median: 1, min: 1, max: 1 } },
    ],
  });

  it('holds to percentage points of change, whatever the figures themselves, and looks at what both have', () => {
    // Theirs is +2 %: from +0.5 to +3.5.
    for (const [after, passes] of [
      [1005.1, true],
      [1034.9, true],
      [1004.9, false],
      [1035.1, false],
    ] as const) {
      const result = evaluateCheck(check, [exchanged('old', 1000), exchanged('new', after)], [], reference);
      expect(result).toMatchObject({ passed: passes, runs: ['old', 'new'] });
    }
    expect(
      evaluateCheck(check, [exchanged('old', 1000), exchanged('new', 990)], [], reference).problems,
    ).toEqual(['new udp-stream/18: −1.00 %, They has +2.00 %']);
  });

  it('fails where one of both was not measured, and where nothing can be compared', () => {
    expect(
      evaluateCheck(check, [exchanged('old', undefined), exchanged('new', 5)], [], reference).problems,
    ).toEqual(['new udp-stream/18: not measured, or not in old']);
    expect(evaluateCheck(check, [exchanged('new', 5)], [], reference).passed).toBe(false);
    const elsewhere = [exchanged('old', 1, 'linux'), exchanged('new', 9, 'linux')];
    expect(evaluateCheck({ ...check, fabric: 'model' }, elsewhere, [], reference).passed).toBe(true);
    expect(evaluateCheck(check, elsewhere, [], reference).passed).toBe(false);
  });
});

describe('outpaces', () => {
  const check = {
    kind: 'outpaces',
    axis: 'placement',
    variant: 'host',
    baseline: 'guest',
    'at-least-times': 2,
  } as const;

  it('compares runs that differ only on the axis', () => {
    const runs = [
      run('bridge/guest', 1),
      run('bridge/host', 2),
      run('redirect/guest', 3),
      run('redirect/host', 5.9),
    ];
    expect(evaluateCheck(check, runs)).toMatchObject({
      description: 'placement=host has at least 2 times the rate of placement=guest',
      problems: ['redirect/host: 5.900 Mpps is 1.97 times the 3.000 of redirect/guest'],
    });
    expect(evaluateCheck({ ...check, where: { case: 'bridge' } }, runs).passed).toBe(true);
  });

  it('fails without rates, and without anything to compare', () => {
    const unmeasured = [run('bridge/guest', 1), run('bridge/host', undefined)];
    expect(evaluateCheck(check, unmeasured).problems).toEqual([
      'bridge/host: nothing was measured that could be compared with bridge/guest',
    ]);
    expect(evaluateCheck(check, [run('bridge/host', 1)]).passed).toBe(false);
  });
});
