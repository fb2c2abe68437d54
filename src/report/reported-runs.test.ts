import { expect, it } from 'vitest';
import { exampleResult, exampleRun, failedResult, RUN_FAILURE } from '../conformance/reporter/index.js';
import { reportedRuns } from './reported-runs.js';

it('has all runs in their order, with what went wrong', () => {
  const outcomes = reportedRuns(failedResult());
  expect(outcomes.map(({ id, state, failures }) => [id, state, failures.map(({ stage }) => stage)])).toEqual([
    ['redirect/xdp1/host', 'finished', ['clean-up']],
    ['redirect/xdp2/host', 'failed', ['run']],
    ['bridge/xdp1/host', 'not started', []],
  ]);
  expect(outcomes[0]!.result).toEqual(failedResult().runs[0]);
});

it.each([
  [[0], ['b', 'a0', 'a1']],
  [[1], ['a0', 'b', 'a1']],
  [[2], ['a0', 'a1', 'b']],
  // No place for it: at the end.
  [[9], ['a0', 'a1', 'b']],
])('puts a failed run at its index %j', ([index], ids) => {
  const runs = [exampleRun('a0'), exampleRun('a1')];
  const failures = [{ ...RUN_FAILURE, run: 'b', index: index! }];
  expect(reportedRuns({ ...exampleResult(runs), failures }).map(({ id }) => id)).toEqual(ids);
});
