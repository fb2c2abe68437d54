import { describe, expect, it } from 'vitest';
import {
  exampleResult,
  exampleResults,
  exampleRun,
  FAILED_CHECK,
  failedResult,
  interruptedResult,
  PASSED_CHECK,
  refusedRun,
  reporterConformance,
} from '../../src/conformance/reporter/index.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import type { ResultDocument, RunResult } from '../../src/core/contract/result.js';
import { Scope } from '../../src/core/plugin/scope.js';
import plugin from './index.js';
import { TableReporter } from './table-reporter.js';

reporterConformance('table', () => new TableReporter());

const render = (result: ResultDocument, color = false) => new TableReporter().render(result, { color });
const lastLine = (text: string) => text.trimEnd().split('\n').at(-1);

/** What stands in each column of the first run, blanks collapsed. */
function firstRow(run: RunResult): string[] {
  const [, , row] = render(exampleResult([run])).split(/^[┌├└].*$/m);
  const cells: string[] = [];
  for (const line of row!.trim().split('\n')) {
    for (const [index, text] of line.split('│').slice(1, -1).entries()) {
      cells[index] = `${cells[index] ?? ''} ${text.trim()}`.trim();
    }
  }
  return cells;
}

describe('table', () => {
  it('is what the plugin binds', () => {
    const scope = new Scope('test');
    void plugin.register(scope, {});
    expect(scope.resolve(REPORTER)).toBeInstanceOf(TableReporter);
  });

  it('has the counters of an offloaded run in its row', () => {
    expect(firstRow(exampleRun('redirect/xdp1/host'))).toEqual([
      'redirect/ xdp1/ host',
      '10',
      'xdp1 @ offload XDP_DROP 10',
      'host.tap-guest0 xdp-drop 10',
      'rxcnt: [1]=3 [17]=7',
      '2 commands 2 ok CREATE_MAP 1 SET_OFFLOAD 1',
      '1 allow 0 deny',
    ]);
  });

  it('leaves a dash where there is nothing', () => {
    const cells = firstRow(exampleRun('redirect/xdp1/guest'));
    expect(cells[2]).toBe('xdp1 @ guest-driver XDP_DROP 10');
    expect(cells.slice(5)).toEqual(['–', '–']);
  });

  it('shows copies, denied requests, error acks and programs that are not there', () => {
    const cells = firstRow({ ...refusedRun(), framesCopied: 3 });
    expect(cells[1]).toBe('10 +3 copied');
    expect(cells[2]).toBe('xdp1 not attached');
    expect(cells[5]).toBe('2 commands 0 ok 2 err SET_OFFLOAD 2');
    expect(cells[6]).toBe('0 allow 2 deny');
  });

  it('has a row for each run whatever became of it, and says what went wrong', () => {
    const text = render(failedResult());
    const rows = text.split('\n').filter((line) => line.startsWith('│'));
    const cells = (mark: string) =>
      rows
        .find((line) => line.includes(mark))!
        .split('│')
        .map((cell) => cell.trim());
    expect(cells('failed').slice(2, 4)).toEqual(['failed', '–']);
    expect(rows.findIndex((line) => line.includes('failed'))).toBeLessThan(
      rows.findIndex((line) => /│ not +│/.test(line)),
    );
    expect(text).toContain(
      [
        'failed:',
        '  redirect/xdp1/host: clean-up: interface tap0 is still there [leftovers]',
        '  redirect/xdp2/host: plugin executor wasm failed in run: out of order [plugin-failed]',
        '    hint: use the interpreter',
        '',
      ].join('\n'),
    );
    expect(lastLine(text)).toBe('3 runs, 1 failed, 1 not started, 0 of 1 check passed');
    expect(render(exampleResult())).not.toContain('failed');
  });

  it('says why a check must hold, when it does not', () => {
    const check = { ...FAILED_CHECK, why: 'alice pays for two' };
    expect(render(exampleResult([exampleRun()], [check]))).toContain('\n    why: alice pays for two\n');
    expect(render(exampleResult([exampleRun()], [{ ...PASSED_CHECK, why: 'of course' }]))).not.toContain(
      'of course',
    );
  });

  it('has a row for the run that was interrupted', () => {
    const text = render(interruptedResult());
    const row = text.split('\n').find((line) => line.includes('interrupted'))!;
    expect(row.split('│').map((cell) => cell.trim())).toContain('interrupted');
    expect(lastLine(text)).toBe('3 runs, 1 interrupted, 1 not started, 0 of 1 check passed');
  });

  it('says why something was refused, equal reasons once', () => {
    const { audit } = refusedRun();
    const text = render(exampleResult([{ ...refusedRun(), audit: [audit[0]!, audit[0]!] }]));
    expect(text).toContain(
      [
        'refused:',
        '  redirect/xdp1/host: guest0.eth0 xdp1 not attached: offload failed: EPERM',
        '  redirect/xdp1/host: guest0.eth0 EBPF_PROG/SET_OFFLOAD: denied: by quota: 4097 insns exceed the quota of 4096',
      ].join('\n'),
    );
    expect(text).toMatch(/of 4096\s+\(2 times\)\n/);
    expect(render(exampleResult())).not.toContain('refused');
  });

  it('says how long requests took, and what judging programs cost', () => {
    const run: RunResult = {
      ...exampleRun('redirect/xdp1/host'),
      id: 'noisy',
      requests: [
        {
          node: 'quiet.eth0',
          request: 'lookup',
          name: 'rxcnt',
          sent: 16000,
          refused: 0,
          latency: { p50: 7.2, p90: 912.4, p99: 1040, max: 2_345_600 },
        },
        { node: 'noisy.eth0', request: 'load', name: 'slow', sent: 0, refused: 0 },
      ],
      verification: {
        programs: 3,
        outOfTime: 2,
        outOfMemory: 1,
        cancelled: 4,
        longestMs: 2012.3,
        peakMemoryMiB: 127.6,
      },
    };
    const section = render(exampleResult([run]))
      .split('\n\n')
      .find((each) => each.startsWith('requests:'));
    expect(section?.split('\n')).toEqual([
      'requests:',
      '  noisy: quiet.eth0 lookup rxcnt: 16000 sent, 0 refused; p50 7 µs, p90 912 µs, p99 1.0 ms, max 2.3 s',
      '  noisy: noisy.eth0 load slow: 0 sent, 0 refused',
      '  noisy: 3 programs judged, 2 out of time, 1 out of memory, 4 cancelled; longest 2.0 s, at most 128 MiB',
    ]);
    expect(render(exampleResult([exampleRun('redirect/xdp1/host')]))).not.toContain('requests:');
  });

  it('leaves out the host’s own programs and empty places', () => {
    const run = exampleRun();
    const [hook] = run.hooks;
    const cells = firstRow({
      ...run,
      hooks: [{ ...hook!, site: 'host-nic', node: 'host.eth0', program: 'redirect-to-tap' }, hook!],
      ends: [...run.ends, { place: 'guest0.eth0', fate: 'guest-stack', frames: 0 }],
    });
    expect(cells[2]).toBe('xdp1 @ offload XDP_DROP 10');
    expect(cells[3]).toBe('host.tap-guest0 xdp-drop 10');
  });

  it('groups fates by the place', () => {
    const run = exampleRun();
    const cells = firstRow({
      ...run,
      ends: [
        { place: 'tap0', fate: 'xdp-drop', frames: 4 },
        { place: 'wire', fate: 'transmitted', frames: 5 },
        { place: 'tap0', fate: 'ring-full', frames: 1 },
      ],
    });
    expect(cells[3]).toBe('tap0 xdp-drop 4 ring-full 1 wire transmitted 5');
  });

  it('cuts a long map and says how much is missing', () => {
    const run = exampleRun();
    const entries = Array.from({ length: 20 }, (_, key) => ({
      key: Buffer.from(Uint32Array.of(key).buffer).toString('hex'),
      value: '01000000',
    }));
    const cell = firstRow({ ...run, maps: [{ ...run.maps[0]!, entries }] })[4]!;
    expect(cell).toMatch(/^rxcnt: \[0\]=1 \[1\]=1 .*\[7\]=1 … 12 more$/);
    expect(cell).not.toContain('[8]');
  });

  it('cuts a long list of places, but not their frames', () => {
    const ends = Array.from(
      { length: 15 },
      (_, n) => ({ place: `p${n}`, fate: 'guest-stack', frames: 2 }) as const,
    );
    const cell = firstRow({ ...exampleRun(), ends })[3]!;
    expect(cell).toMatch(/p11 guest-stack 2 … 3 more places 6$/);
  });

  it('names the guest nics once there are several', () => {
    expect(render(exampleResult([exampleRun('host')]))).not.toContain('guest0.eth0');
    const cells = firstRow(exampleRun('host', { guests: 2 }));
    expect(cells[2]).toBe('guest0.eth0: xdp1 @ offload XDP_DROP 10 guest1.eth0: xdp1 @ offload XDP_DROP 10');
    expect(cells[4]).toBe('guest0.eth0 rxcnt: [1]=3 [17]=7 guest1.eth0 rxcnt: [1]=3 [17]=7');
    // Commands of both guests together.
    expect(cells[5]).toBe('4 commands 4 ok CREATE_MAP 2 SET_OFFLOAD 2');
  });

  it.each(Object.keys(exampleResults()))('is at most 120 columns wide: %s', (what) => {
    for (const line of render(exampleResults()[what]!).split('\n'))
      expect(line.length).toBeLessThanOrEqual(120);
  });

  it('is one table with a row for each run', () => {
    const text = render(exampleResults()['eight runs']!);
    expect(text.match(/^┌/gm)).toHaveLength(1);
    // One line below the head and one between each two of the eight.
    expect(text.match(/^├/gm)).toHaveLength(8);
    expect(text).not.toContain('Mpps');
  });

  it('lists the checks with their problems and ends with the summary', () => {
    const text = render(exampleResult([exampleRun()], [PASSED_CHECK, FAILED_CHECK]));
    expect(text).toContain(
      [
        '✓ every frame is accounted for exactly once (conservation, 1 run)',
        '✗ ends.transmitted is 10 (expect, 2 runs)',
        '    redirect/xdp1/host: ends.transmitted is 0, not 10',
        '    bridge/xdp1/host: ends.transmitted is 0, not 10',
        '',
        '1 run, 1 of 2 checks passed',
      ].join('\n'),
    );
    expect(lastLine(render(exampleResults()['eight runs']!))).toBe('8 runs, 1 of 1 check passed');
    expect(lastLine(render(exampleResult([], [])))).toBe('0 runs, no checks');
  });

  it('shows the first 20 of many problems', () => {
    const problems = Array.from({ length: 64 }, (_, n) => `run${n}: wrong`);
    const text = render(exampleResult([exampleRun()], [{ ...FAILED_CHECK, problems }]));
    expect(text).toContain('    run19: wrong\n    … 44 more\n');
  });

  it('has colours when they are asked for, and nothing else changes', () => {
    const result = exampleResult([refusedRun()], [PASSED_CHECK, FAILED_CHECK]);
    const colored = render(result, true);
    expect(colored).toContain('\u001b[32m✓');
    expect(colored).toContain('\u001b[31m✗');
    expect(colored).toContain('\u001b[31m2 err\u001b[39m');
    // eslint-disable-next-line no-control-regex
    expect(colored.replace(/\u001b\[\d+m/g, '')).toBe(render(result));
  });

  it('lets no escape sequence of a guest through, with colours or without', () => {
    const words = () => ({ value: '"\u001b]0;owned\u0007"' });
    const colored = new TableReporter().render(exampleResult([exampleRun()]), { color: true, words });
    expect(colored).toContain('\\u001b]0;owned\\u0007');
    expect(colored).not.toContain('\u001b]');
  });
});
