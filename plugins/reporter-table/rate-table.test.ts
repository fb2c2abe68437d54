import { describe, expect, it } from 'vitest';
import { exampleResult, exampleRun } from '../../src/conformance/reporter/index.js';
import type { RateResult, ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { rateTables } from './rate-table.js';
import { cellsAndNotes } from './testing-tables.js';

function rate(median: number, changes: Partial<RateResult> = {}): RateResult {
  return {
    node: 'g0.eth0',
    program: 'xdp1',
    placement: 'host',
    hook: 'tail-call',
    guest: 'somebody',
    size: 60,
    flows: 1,
    seconds: 1,
    framesPerSecond: { median, min: median - 100_000, max: median + 100_000 },
    samples: [median - 100_000, median, median + 100_000],
    offeredPerSecond: 2 * median,
    framesSent: 100,
    framesCopied: 0,
    ends: [],
    unexplained: 0,
    ...changes,
  };
}

function run(placement: 'guest' | 'host', ...rates: RateResult[]): RunResult {
  return { ...exampleRun(`redirect/${placement}`), axes: { case: 'redirect', placement }, rates };
}

const rendered = (result: ResultDocument): ReturnType<typeof cellsAndNotes> =>
  cellsAndNotes(rateTables(result, false));

describe('the table of rates', () => {
  it('is not there when nothing was measured', () => {
    expect(rateTables(exampleResult([exampleRun('a')]), false)).toEqual([]);
  });

  it('has what was measured, and how', () => {
    const { rows, notes } = rendered(exampleResult([run('host', rate(5_810_000))]));
    expect(rows.slice(2)).toEqual([['redirect/host', '5.81', '5.71 – 5.91', 'tail-call', '11.62']]);
    expect(notes).toEqual([
      'frames of 60 bytes, 1 flow; median of 3 × 1 s; guest: somebody',
      '0 frames unexplained',
    ]);
  });

  it('has one row for nics that were loaded together, with what each had and who limited it', () => {
    const explained = (bottleneck: string): Partial<RateResult> => ({
      explanation: {
        bottleneck,
        cpus: [],
        queues: [],
        wakeUps: [],
        latency: { p50: 1, p90: 1, p99: 1, max: 1 },
      },
    });
    const rates = [1, 2, 3].map((millions) =>
      rate(millions * 1e6, {
        node: `g${millions}.eth0`,
        unexplained: millions,
        ...explained(millions === 1 ? 'the wire' : `vhost cpu${millions}`),
      }),
    );
    const together: RunResult = {
      ...run('host', ...rates),
      totalRate: {
        framesPerSecond: { median: 6_000_000, min: 5_700_000, max: 6_300_000 },
        samples: [5_700_000, 6_000_000, 6_300_000],
        offeredPerSecond: 12_000_000,
        fairness: 36 / 42,
      },
    };
    const { rows, notes } = rendered(exampleResult([together]));
    expect(rows.slice(2)).toEqual([
      [
        'redirect/host',
        '6.00',
        '5.70 – 6.30',
        '3',
        '1.00 – 3.00',
        '0.857',
        'tail-call',
        '12.00',
        'the wire (1), vhost',
      ],
      ['', '', '', '', '', '', '', '', 'cpu* (2)'],
    ]);
    expect(notes.at(-1)).toBe('6 frames unexplained');
  });

  it('says why there are none', () => {
    const result = exampleResult([{ ...exampleRun('a'), ratesUnmeasured: 'nobody counts' }]);
    expect(rateTables(result, false)).toEqual([[{ text: '  a: no rates: nobody counts' }]]);
  });

  it('compares with the baseline of its axis, the ceiling, and the figures of others', () => {
    const ceiling = { what: 'native XDP_DROP on eth0', framesPerSecond: 8_000_000 };
    const result: ResultDocument = {
      ...exampleResult([
        run('guest', rate(500_000, { placement: 'guest', unexplained: 3 })),
        run('host', rate(6_000_000, { ceiling })),
      ]),
      comparison: {
        axis: 'placement',
        baseline: 'guest',
        reference: { name: 'RFC', mpps: { 'redirect/guest': 2, 'redirect/host': 9 } },
      },
    };
    const { rows, notes } = rendered(result);
    expect(rows.slice(2)).toEqual([
      ['redirect/guest', '0.500', '0.400 – 0.600', '–', '–', '–', '2.00', '–'],
      ['redirect/host', '6.00', '5.90 – 6.10', '12.0', 'tail-call', '0.75', '9.00', '4.50'],
    ]);
    expect(notes).toContain('ceiling: native XDP_DROP on eth0, 8.00 Mpps in redirect/host');
    expect(notes.at(-1)).toBe('3 frames unexplained');
  });

  it('has what was offered where that was chosen, and needs no axis for the figures of others', () => {
    const paced = rate(99_000, { rate: 100_000, size: 388.4, workloadFrames: 12 });
    const result: ResultDocument = {
      ...exampleResult([run('host', paced)]),
      comparison: { reference: { name: 'RFC', mpps: { 'redirect/host': 9 } } },
    };
    const { rows, notes } = rendered(result);
    expect(rows.slice(2).map((row) => [row[1], row[3], row.at(-1)])).toEqual([['0.099', '0.198', '9.00']]);
    expect(notes[0]).toMatch(
      /^12 frames of the workload over and over, 388 bytes on average, 0\.100 Mpps wanted; median/,
    );
  });

  it('says what limits a predicted rate, and how far it is from what was measured', () => {
    const explanation = (bottleneck: string): NonNullable<RateResult['explanation']> => ({
      bottleneck,
      cpus: [],
      queues: [],
      wakeUps: [],
      latency: { p50: 1, p90: 1, p99: 1, max: 1 },
    });
    const result: ResultDocument = {
      ...exampleResult([
        run('guest', rate(2_050_000, { placement: 'guest', explanation: explanation('g0.eth0 vhost') })),
        run('host', rate(8_910_000, { explanation: explanation('the wire') })),
      ]),
      comparison: {
        axis: 'placement',
        baseline: 'guest',
        reference: { name: 'RFC', mpps: { 'redirect/guest': 2, 'redirect/host': 9 } },
      },
    };
    expect(rendered(result).rows[0]![1]).toBe('predicted');
    expect(rendered(result).rows.slice(2)).toEqual([
      ['redirect/guest', '2.05', '1.95 – 2.15', '–', '–', '2.00', '+2.5 %', '–', 'g0.eth0 vhost'],
      ['redirect/host', '8.91', '8.81 – 9.01', '4.35', 'tail-call', '9.00', '−1.0 %', '4.50', 'the wire'],
    ]);
  });

  it('names the nic where a run has several, and shows no control characters', () => {
    const several = run('host', rate(1_000_000), rate(2_000_000, { node: 'g1.eth0', hook: 'a\u001b[31mb' }));
    const { rows } = rendered(exampleResult([several]));
    expect(rows.slice(2).map(([name]) => name)).toEqual(['redirect/host g0.eth0', 'redirect/host g1.eth0']);
    expect(rows.flat().join('')).not.toContain('\u001b');
  });
});
