import { describe, expect, it } from 'vitest';
import { exampleResult, exampleRun } from '../../src/conformance/reporter/index.js';
import type { ExchangeResult, ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { exchangeTables } from './exchange-table.js';
import { cellsAndNotes } from './testing-tables.js';

const COMMON = { node: 'g0.eth0', streams: 1, guest: 'somebody', seconds: 2 } as const;

function stream(median: number, changes: Partial<ExchangeResult> = {}): ExchangeResult {
  return {
    ...COMMON,
    kind: 'udp-stream',
    size: 18,
    samples: [median - 1e6, median, median + 1e6],
    bitsPerSecond: { median, min: median - 1e6, max: median + 1e6 },
    messagesSentPerSecond: 700_000,
    messagesReceivedPerSecond: 600_000,
    ...changes,
  };
}

const RR: ExchangeResult = {
  ...COMMON,
  kind: 'tcp-rr',
  size: 1,
  samples: [12_918, 13_000],
  transactionsPerSecond: { median: 12_959, min: 12_918, max: 13_000 },
  latency: { p50: 74.6, p90: 80, p99: 120, max: 4000 },
};

function run(id: string, ...exchanges: ExchangeResult[]): RunResult {
  return { ...exampleRun(id), axes: { path: id }, exchanges };
}

const rendered = (result: ResultDocument): ReturnType<typeof cellsAndNotes> =>
  cellsAndNotes(exchangeTables(result, false));

describe('the table of exchanges', () => {
  it('is not there when none was measured', () => {
    expect(exchangeTables(exampleResult([exampleRun('a')]), false)).toEqual([]);
  });

  it('names them as netperf does, in its units', () => {
    const { rows, notes } = rendered(exampleResult([run('old', stream(89_430_000), RR)]));
    expect(rows.slice(2)).toEqual([
      ['old', 'UDP_STREAM 18', '89.43 Mbit/s', '88.43 – 90.43', '700000 → 600000', '–'],
      ['old', 'TCP_RR 1', '12959 trans/s', '12918 – 13000', '–', '75 / 120 / 4000'],
    ]);
    expect(notes).toEqual(['median of 3 × 2 s; guest: somebody', 'median of 2 × 2 s; guest: somebody']);
  });

  it('has the figures of others beside those of one stream', () => {
    const reference = {
      name: 'RFC',
      exchanges: { old: { 'udp-stream/18': { before: 89.43, after: 90.74 } } },
    };
    const result = exampleResult([run('old', stream(8e7), stream(16e7, { streams: 2 }))]);
    const { rows } = rendered({ ...result, comparison: { reference } });
    expect(rows.slice(0, 2).map((row) => row.slice(-2))).toEqual([
      ['RFC', 'RFC'],
      ['before', 'after'],
    ]);
    expect(rows.slice(2).map((row) => [row[1], ...row.slice(-2)])).toEqual([
      ['UDP_STREAM 18', '89.43', '90.74'],
      ['UDP_STREAM 18 × 2', '–', '–'],
    ]);
  });

  it('compares runs along the axis, each exchange with its like', () => {
    const comparison = { axis: 'path', baseline: 'old' };
    const two = [run('old', stream(8e7), RR), run('new', stream(12e7), RR)];
    const { rows } = rendered({ ...exampleResult(two), comparison });
    expect(rows.slice(2).map((row) => [row[0], row[1], row[4]])).toEqual([
      ['old', 'UDP_STREAM 18', '–'],
      ['new', 'UDP_STREAM 18', '1.50'],
      ['old', 'TCP_RR 1', '–'],
      ['new', 'TCP_RR 1', '1.00'],
    ]);
  });

  it('shows changes beside those of others, and what limits each', () => {
    const reference = {
      name: 'RFC',
      exchanges: {
        old: { 'udp-stream/18': { netperf: 89.43 } },
        new: { 'udp-stream/18': { netperf: 90.74 } },
      },
    };
    const explanation = {
      bottleneck: 'the wire',
      cpus: [],
      queues: [],
      wakeUps: [],
      latency: { p50: 1, p90: 1, p99: 1, max: 1 },
    };
    const comparison = { axis: 'path', baseline: 'old', reference };
    const two = [run('old', stream(80e6, { explanation }), RR), run('new', stream(78e6), RR)];
    const { rows } = rendered({ ...exampleResult(two), comparison });
    // 78 / 80 and 90.74 / 89.43.
    const runs = rows.filter(([name]) => name === 'old' || name === 'new');
    expect(runs.map((row) => [row[0], ...row.slice(-4)])).toEqual([
      ['old', '89.43', '–', '–', 'the wire'],
      ['new', '90.74', '−2.50 %', '+1.46 %', '–'],
      ['old', '–', '–', '–', '–'],
      ['new', '–', '+0.00 %', '–', '–'],
    ]);
    expect(rows[0]).not.toContain('÷ path');
  });

  it('says what was not measured, and what was not answered', () => {
    const refused: ExchangeResult = {
      ...COMMON,
      kind: 'tcp-stream',
      size: 5,
      samples: [],
      unmeasured: 'no stack',
    };
    const { rows, notes } = rendered(exampleResult([run('old', refused, { ...RR, unanswered: 3 })]));
    expect(rows[2]!.slice(0, 4)).toEqual(['old', 'TCP_STREAM 5', '–', '–']);
    expect(notes).toContain('old TCP_STREAM 5: not measured: no stack');
    expect(notes).toContain('old TCP_RR 1: 3 requests unanswered');
  });
});
