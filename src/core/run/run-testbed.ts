import type { StreamEvent, TestbedEvent, TimedEvent } from '../contract/event.js';
import {
  RESULT_SCHEMA_VERSION,
  type ResultDocument,
  type RunFailure,
  type RunPlace,
  type RunResult,
} from '../contract/result.js';
import { XdpbedError } from '../diagnostic.js';
import type { ResolvedTestbed } from '../testbed/resolve-testbed.js';
import { effectiveChecks, evaluateChecks } from './checks.js';
import { carryOutRun } from './execute-run.js';
import {
  isInterruption,
  missingRun,
  runFailure,
  runPlace,
  wasInterrupted,
  type MissingRun,
} from './run-failures.js';
import type { RunProgress } from './run-progress.js';

export interface RunOptions {
  /** Version of xdpbed, for the result. */
  readonly version: string;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: ((event: StreamEvent) => void) | undefined;
  /** Milliseconds a plugin may take to start or stop. */
  readonly phaseTimeoutMs?: number | undefined;
  /** Told how far the run under way is. */
  readonly onProgress?: ((progress: RunProgress) => void) | undefined;
  /** Start no run after one that failed. */
  readonly bail?: boolean | undefined;
  /** Told of each error of a run as it was thrown, too: the result holds no stack. */
  readonly onFailure?: ((failure: RunFailure, error: unknown) => void) | undefined;
}

/**
 * Runs a testbed: each run by itself, one after the other, then the checks. Whatever a run brought up is taken
 * down again, however it ended. A run that fails is part of the result, and the others are carried out all the same;
 * only an interruption ends everything: the result then has the runs that were finished before, names the one that was
 * under way, and no check passes that needs more. A signal that fires when the last run has its result changes nothing.
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
  const failures: RunFailure[] = [];
  let interrupted: RunPlace | undefined;
  const notStarted: RunPlace[] = [];
  const missing: MissingRun[] = [];
  for (const [index, spec] of testbed.runs.entries()) {
    const run = spec.plan.id;
    const place = runPlace(spec.plan, index);
    const onInterruption = (): void => {
      interrupted = place;
      missing.push(missingRun(spec.plan, 'was interrupted'));
      emit({ event: 'run-interrupted', run, place });
    };
    if (interrupted !== undefined || (options.bail === true && failures.length > 0)) {
      notStarted.push(place);
      missing.push(missingRun(spec.plan, 'was not started'));
      emit({ event: 'run-not-started', run, place });
      continue;
    }
    if (options.signal?.aborted === true) {
      onInterruption();
      continue;
    }
    emit({ event: 'run-started', run, index, of: testbed.runs.length });
    const end = await carryOutRun(spec, {
      registry: testbed.registry,
      folder: testbed.folder,
      object: (hash) => {
        const bytes = testbed.objects.get(hash);
        if (bytes === undefined) throw new XdpbedError('file-unreadable', `no file has the hash ${hash}`);
        return bytes;
      },
      signal: options.signal,
      emit,
      onProgress: options.onProgress,
      phaseTimeoutMs: options.phaseTimeoutMs,
    });
    const { result } = end;
    if (wasInterrupted(end, options.signal)) {
      onInterruption();
    } else if (result === undefined) {
      missing.push(missingRun(spec.plan, 'failed'));
    } else {
      emit({ event: 'run-finished', run, result });
      runs.push(result);
    }
    for (const { stage, error } of end.failures) {
      if (isInterruption(error)) continue;
      const failure = runFailure(place, stage, error);
      emit({ event: 'run-failed', run, failure });
      options.onFailure?.(failure, error);
      failures.push(failure);
    }
  }
  const checks = evaluateChecks(
    effectiveChecks(testbed.checks),
    runs,
    testbed.narrowed,
    missing,
    testbed.comparison?.reference,
  );
  for (const result of checks) emit({ event: 'check-finished', result });
  const passed = failures.length === 0 && interrupted === undefined && checks.every((check) => check.passed);
  emit({ event: 'testbed-finished', passed });
  return {
    schema: RESULT_SCHEMA_VERSION,
    xdpbed: options.version,
    testbed: testbed.name,
    seed: String(testbed.seed),
    passed,
    runs,
    ...(failures.length === 0 ? {} : { failures }),
    ...(interrupted === undefined ? {} : { interrupted }),
    ...(notStarted.length === 0 ? {} : { notStarted }),
    // Where nothing was measured there is nothing that it is about.
    ...(testbed.comparison === undefined || runs.every(({ rates, exchanges }) => !rates && !exchanges)
      ? {}
      : { comparison: testbed.comparison }),
    checks,
  };
}
