import { describe, expect, it } from 'vitest';
import {
  exampleEvents,
  exampleResult,
  exampleResults,
  exampleRun,
  FAILED_CHECK,
  failedResult,
  interruptedResult,
  PASSED_CHECK,
  reporterConformance,
} from '../../src/conformance/reporter/index.js';
import type { StreamEvent } from '../../src/core/contract/event.js';
import { REPORTER } from '../../src/core/contract/reporter.js';
import type { ResultDocument } from '../../src/core/contract/result.js';
import { Scope } from '../../src/core/plugin/scope.js';
import plugin from './index.js';
import { NdjsonReporter } from './ndjson-reporter.js';

reporterConformance('ndjson', () => new NdjsonReporter());

/** All that goes to stdout, as a consumer reads it. */
function stream(result: ResultDocument): Record<string, unknown>[] {
  const reporter = new NdjsonReporter();
  const lines = exampleEvents(result).map((event) => reporter.onEvent(event));
  const text = lines.map((line) => `${line}\n`).join('') + reporter.render(result);
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe('ndjson', () => {
  it('is what the plugin binds', () => {
    const scope = new Scope('test');
    void plugin.register(scope, {});
    expect(scope.resolve(REPORTER)).toBeInstanceOf(NdjsonReporter);
  });

  it('gives each event as it is, with a schema version', () => {
    const event: StreamEvent = { event: 'run-started', run: 'default', index: 0, of: 1, seq: 1 };
    expect(new NdjsonReporter().onEvent(event)).toBe(
      '{"schema":"xdpbed.event/1","event":"run-started","run":"default","index":0,"of":1,"seq":1}',
    );
  });

  it.each(Object.keys(exampleResults()))('holds everything that the result holds: %s', (what) => {
    const result = exampleResults()[what]!;
    const records = stream(result);
    const resultsOf = (event: string) =>
      records.filter((record) => record.event === event).map((record) => record.result);
    expect(resultsOf('run-finished')).toEqual(result.runs);
    const partsOf = (event: string, part: string) =>
      records.filter((record) => record.event === event).map((record) => record[part]);
    expect(partsOf('run-failed', 'failure')).toEqual(result.failures ?? []);
    expect(partsOf('run-interrupted', 'place')).toEqual(result.interrupted ? [result.interrupted] : []);
    expect(partsOf('run-not-started', 'place')).toEqual(result.notStarted ?? []);
    expect(resultsOf('check-finished')).toEqual(result.checks);
    expect(records.every((record) => record.schema === 'xdpbed.event/1')).toBe(true);
  });

  it('ends with a summary', () => {
    const result = exampleResult([exampleRun()], [PASSED_CHECK, FAILED_CHECK, FAILED_CHECK]);
    expect(stream(result).at(-1)).toEqual({
      schema: 'xdpbed.event/1',
      event: 'summary',
      xdpbed: '0.1.0',
      testbed: 'rfc-2019',
      seed: '1',
      passed: false,
      runs: 1,
      failedRuns: 0,
      interrupted: false,
      runsNotStarted: 0,
      failures: 0,
      checks: { total: 3, passed: 1, failed: 2 },
    });
  });

  it('says that it was interrupted', () => {
    expect(stream(interruptedResult()).at(-1)).toMatchObject({
      passed: false,
      runs: 1,
      failedRuns: 0,
      interrupted: true,
      runsNotStarted: 1,
    });
  });

  it('counts runs that failed and that were not started', () => {
    expect(stream(failedResult()).at(-1)).toMatchObject({
      passed: false,
      runs: 1,
      failedRuns: 1,
      runsNotStarted: 1,
      failures: 2,
    });
  });

  it('writes a bigint as text instead of ending the stream', () => {
    const event = {
      event: 'trace',
      run: 'default',
      node: 'host',
      text: 'x',
      at: 2n ** 63n,
    } as unknown as StreamEvent;
    expect(JSON.parse(new NdjsonReporter().onEvent(event))).toMatchObject({ at: '9223372036854775808' });
  });
});
