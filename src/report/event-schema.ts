import { Type, type TObject, type TProperties } from '@sinclair/typebox';
import {
  AuditRecord,
  CheckResult,
  RulingRecord,
  RunFailure,
  RunPlace,
  RunResult,
} from '../core/contract/result.js';
import { EVENT_SCHEMA_VERSION } from './event-line.js';
import { Count } from './schema-parts.js';

const Run = Type.String({ description: 'id of the run' });

const Line = (event: string, properties: TProperties, description: string): TObject =>
  Type.Object(
    { schema: Type.Literal(EVENT_SCHEMA_VERSION), event: Type.Literal(event), ...properties },
    { additionalProperties: false, description },
  );

/** What happens around the runs. */
const OfTestbed = (event: string, properties: TProperties, description: string): TObject =>
  Line(event, { seq: Count('number of the event in the stream, from 0'), ...properties }, description);

/** What happens in a run. */
const OfRun = (event: string, properties: TProperties, description: string): TObject =>
  Line(
    event,
    {
      seq: Count('number of the event in the stream, from 0'),
      time: Type.Number({ minimum: 0, description: 'ps on the run’s clock' }),
      run: Run,
      ...properties,
    },
    description,
  );

/** A line of `--format ndjson`: an event (`StreamEvent`), or the summary, which is the last. */
export const EventLine = Type.Union(
  [
    OfTestbed(
      'testbed-started',
      { testbed: Type.String(), runs: Count('how many'), seed: Type.String({ description: 'decimal' }) },
      'the first',
    ),
    OfTestbed(
      'run-started',
      { run: Run, index: Count('place of the run, from 0'), of: Count('runs in all') },
      'a run begins',
    ),
    OfTestbed('run-finished', { run: Run, result: RunResult }, 'a run has its result'),
    OfTestbed('run-failed', { run: Run, failure: RunFailure }, 'a run failed, or was not taken down'),
    OfTestbed('run-interrupted', { run: Run, place: RunPlace }, 'a run was under way when all was ended'),
    OfTestbed('run-not-started', { run: Run, place: RunPlace }, 'a run was left out'),
    OfTestbed('check-finished', { result: CheckResult }, 'what came of a check'),
    OfTestbed('testbed-finished', { passed: Type.Boolean() }, 'the last event'),
    OfRun(
      'program-attached',
      { node: Type.String(), program: Type.String(), placement: Type.String() },
      'a guest’s program is in its place',
    ),
    OfRun('trace', { node: Type.String(), text: Type.String() }, 'a program called bpf_trace_printk'),
    OfRun('ruling', { record: RulingRecord }, 'a policy ruled'),
    OfRun('audit', { record: AuditRecord }, 'a request was refused, or broke a rule'),
    Line(
      'summary',
      {
        xdpbed: Type.String({ description: 'version of xdpbed' }),
        testbed: Type.String(),
        seed: Type.String({ description: 'decimal' }),
        passed: Type.Boolean(),
        runs: Count('with a result'),
        failedRuns: Count('without one, because they failed'),
        interrupted: Type.Boolean(),
        runsNotStarted: Count('left out'),
        failures: Count('of runs, and of taking them down'),
        checks: Type.Object(
          { total: Count('checks'), passed: Count('of these'), failed: Count('of these') },
          { additionalProperties: false },
        ),
      },
      'the last line: the stream is whole',
    ),
  ],
  {
    $id: 'urn:xdpbed:schemas:event.schema.json',
    title: 'xdpbed event: one line of --format ndjson',
  },
);
