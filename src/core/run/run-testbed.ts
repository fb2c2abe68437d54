import type { StreamEvent, TestbedEvent, TimedEvent } from '../contract/event.js';
import { RESULT_SCHEMA_VERSION, type ResultDocument, type RunResult } from '../contract/result.js';
import { XdpbedError } from '../diagnostic.js';
import type { ResolvedTestbed } from '../testbed/resolve-testbed.js';
import { effectiveChecks, evaluateChecks } from './checks.js';
import { executeRun } from './execute-run.js';

export interface RunOptions {
  /** Version of xdpbed, for the result. */
  readonly version: string;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: StreamEvent) => void) | undefined;
  /** Milliseconds a plugin may take to start or stop. */
  readonly phaseTimeoutMs?: number | undefined;
}

/**
 * Runs a testbed: each run by itself, one after the other, then the checks. Whatever a run brought up is taken
 * down again, however it ended. Throws the XdpbedError of the run that failed; a failed check is no error.
 */
export async function runTestbed(testbed: ResolvedTestbed, options: RunOptions): Promise<ResultDocument> {
  let seq = 0;
  const emit = (event: TestbedEvent | TimedEvent): void => options.onEvent?.({ ...event, seq: seq++ });
  emit({
    event: 'testbed-started',
    testbed: testbed.name,
    runs: testbed.runs.length,
    seed: String(testbed.seed),
  });
  const runs: RunResult[] = [];
  for (const [index, spec] of testbed.runs.entries()) {
    const run = spec.plan.id;
    emit({ event: 'run-started', run, index, of: testbed.runs.length });
    const result = await executeRun(spec, {
      registry: testbed.registry,
      folder: testbed.folder,
      object: (hash) => {
        const bytes = testbed.objects.get(hash);
        if (bytes === undefined) throw new XdpbedError('file-unreadable', `no file has the hash ${hash}`);
        return bytes;
      },
      signal: options.signal,
      emit,
      phaseTimeoutMs: options.phaseTimeoutMs,
    });
    emit({ event: 'run-finished', run, result });
    runs.push(result);
  }
  const checks = evaluateChecks(effectiveChecks(testbed.checks), runs, testbed.narrowed);
  for (const result of checks) emit({ event: 'check-finished', result });
  const passed = checks.every((check) => check.passed);
  emit({ event: 'testbed-finished', passed });
  return {
    schema: RESULT_SCHEMA_VERSION,
    xdpbed: options.version,
    testbed: testbed.name,
    seed: String(testbed.seed),
    passed,
    runs,
    checks,
  };
}
