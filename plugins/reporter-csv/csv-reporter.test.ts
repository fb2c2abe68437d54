import { describe, expect, it } from 'vitest';
import {
  exampleResult,
  exampleResults,
  exampleRun,
  failedResult,
  interruptedResult,
  refusedRun,
  reporterConformance,
} from '../../src/conformance/reporter/index.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { Scope } from '../../src/core/plugin/scope.js';
import { CsvReporter } from './csv-reporter.js';
import plugin from './index.js';

reporterConformance('csv', () => new CsvReporter());

/** RFC 4180, read strictly: throws on a bare quote or line end. */
function parseCsv(text: string): string[][] {
  const rows: string[][] = [];
  let row: string[] = [];
  const token = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/gy;
  let end = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    end = token.lastIndex;
    row.push(match[1]?.replaceAll('""', '"') ?? match[2]!);
    if (match[3] === '\r\n') rows.push(row.splice(0));
    row = match[3] === '\r\n' ? [] : row;
  }
  if (end !== text.length) throw new Error(`not CSV at ${end}: ${text.slice(end, end + 40)}`);
  return rows;
}

function records(result: ResultDocument): Record<string, string>[] {
  const [header, ...rows] = parseCsv(new CsvReporter().render(result));
  return rows.map((row) => {
    expect(row).toHaveLength(header!.length);
    return Object.fromEntries(header!.map((name, index) => [name, row[index]!]));
  });
}

describe('csv', () => {
  it('is what the plugin binds', () => {
    const scope = new Scope('test');
    void plugin.register(scope, {});
    expect(scope.resolve(REPORTER)).toBeInstanceOf(CsvReporter);
  });

  it('has a header that files can be joined on', () => {
    const headers = Object.values(exampleResults()).map(
      (result) => parseCsv(new CsvReporter().render(result))[0],
    );
    for (const header of headers) expect(header).toEqual(headers[0]);
    expect(new Set(headers[0]).size).toBe(headers[0]!.length);
    expect(headers[0]!.slice(0, 8)).toEqual([
      'testbed',
      'seed',
      'run',
      'axes',
      'fabric',
      'frames-sent',
      'frames-copied',
      'verdicts.host-nic.XDP_ABORTED',
    ]);
  });

  it('has the counters of a run, summed over its guests', () => {
    const [record] = records(exampleResult([exampleRun('redirect/xdp1/host', { guests: 2 })]));
    expect(record).toMatchObject({
      testbed: 'rfc-2019',
      seed: '1',
      run: 'redirect/xdp1/host',
      axes: 'case=redirect program=xdp1 placement=host',
      fabric: 'model',
      'frames-sent': '20',
      'verdicts.offload.XDP_DROP': '20',
      'verdicts.offload.XDP_TX': '0',
      'verdicts.guest-driver.XDP_DROP': '0',
      'ends.xdp-drop': '20',
      'ends.guest-stack': '0',
      'control.commands': '4',
      'control.ok': '4',
      'control.err': '0',
      'rulings.allow': '2',
      'rulings.deny': '0',
      audit: '0',
      'attachments.refused': '0',
      'links.frames-to-guest': '0',
      'links.suppressed-notifications': '10',
      maps: 'guest0.eth0.rxcnt[1]=3 guest0.eth0.rxcnt[17]=7 guest1.eth0.rxcnt[1]=3 guest1.eth0.rxcnt[17]=7',
    });
  });

  it('counts what was refused', () => {
    expect(records(exampleResult([refusedRun()]))[0]).toMatchObject({
      'control.err': '2',
      // One record that stands for two rulings.
      'rulings.deny': '2',
      audit: '2',
      'attachments.refused': '1',
    });
  });

  it('has a row for runs without a result, which says why there is none', () => {
    const rows = records(failedResult());
    const said = ['run', 'frames-sent', 'maps', 'state', 'failure.stage', 'failure.code', 'failure.message'];
    expect(rows.map((row) => said.map((name) => row[name]))).toEqual([
      [
        'redirect/xdp1/host',
        '10',
        'guest0.eth0.rxcnt[1]=3 guest0.eth0.rxcnt[17]=7',
        'finished',
        'clean-up',
        'leftovers',
        'interface tap0 is still there',
      ],
      [
        'redirect/xdp2/host',
        '',
        '',
        'failed',
        'run',
        'plugin-failed',
        'plugin executor wasm failed in run: out of order',
      ],
      ['bridge/xdp1/host', '', '', 'not started', '', '', ''],
    ]);
    expect(rows[1]).toMatchObject({
      'failure.hint': 'use the interpreter',
      axes: 'case=redirect program=xdp2 placement=host',
    });
  });

  it('has a row for the run that was interrupted', () => {
    expect(records(interruptedResult()).map(({ run, state, maps }) => [run, state, maps === ''])).toEqual([
      ['redirect/xdp1/host', 'finished', false],
      ['redirect/xdp2/host', 'interrupted', true],
      ['bridge/xdp1/host', 'not started', true],
    ]);
  });

  it('has one row for each run, in their order', () => {
    const result = exampleResults()['eight runs']!;
    expect(records(result).map((record) => record.run)).toEqual(result.runs.map((run) => run.id));
    expect(records(exampleResult([]))).toEqual([]);
  });

  it('quotes what needs it', () => {
    const run = exampleRun();
    const name = '{ name: "a,b",\r\n }';
    const maps = [{ ...run.maps[0]!, name, entries: [{ key: '00000000', value: '01' }] }];
    const result = exampleResult([{ ...run, maps }]);
    expect(new CsvReporter().render(result)).toContain(
      '"guest0.eth0.{ name: ""a,b"",\\u000d\\u000a }[0]=1",finished,',
    );
    const quoted = new CsvReporter().render({ ...exampleResult(), testbed: 'a "b"' });
    expect(quoted.split('\r\n')[1]).toMatch(/^"a ""b""",1,/);
    expect(records(result)[0]!.maps).toBe('guest0.eth0.{ name: "a,b",\\u000d\\u000a }[0]=1');
  });
});
