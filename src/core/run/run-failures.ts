import type { RunPlan } from '../contract/plan.js';
import type { ResultDocument, RunFailure, RunPlace } from '../contract/result.js';
import {
  DIAGNOSTIC_CODES,
  EXIT,
  XdpbedError,
  formatLocation,
  messageOf,
  type DiagnosticCode,
  type ExitCode,
} from '../diagnostic.js';
import { failureOf, type RunEnd } from './execute-run.js';

/** A run without a result, as checks need to know of it. */
export interface MissingRun {
  readonly id: string;
  readonly axes: Readonly<Record<string, string>>;
  /** Whether a guest's program was to run on the host. */
  readonly offloads: boolean;
  readonly reason: 'failed' | 'was interrupted' | 'was not started';
}

export function missingRun(plan: RunPlan, reason: MissingRun['reason']): MissingRun {
  const nics = plan.guests.flatMap((guest) => guest.nics);
  const offloads = nics.some((nic) => nic.placement === 'host' && nic.program !== undefined);
  return { id: plan.id, axes: plan.axes, offloads, reason };
}

/** Where a run stands among all of its testbed. */
export function runPlace(plan: RunPlan, index: number): RunPlace {
  return { run: plan.id, index, axes: { ...plan.axes } };
}

/** An error of a run as the result has it. */
export function runFailure(place: RunPlace, stage: RunFailure['stage'], error: unknown): RunFailure {
  if (!(error instanceof XdpbedError)) {
    return { ...place, stage, code: 'internal-error', message: messageOf(error) };
  }
  const at = error.at === undefined ? '' : `${formatLocation(error.at)}: `;
  return {
    ...place,
    stage,
    code: error.code,
    message: `${at}${error.message}`,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}

/** Whether what went wrong is that all was ended from outside. */
export function isInterruption(error: unknown): boolean {
  return error instanceof XdpbedError && error.code === 'interrupted';
}

/** Whether a run has no result because all was ended from outside; a plugin that heard of it first may have thrown an error of its own. */
export function wasInterrupted(end: RunEnd, signal: AbortSignal | undefined): boolean {
  if (end.result !== undefined) return false;
  return signal?.aborted === true || end.failures.some(({ error }) => isInterruption(error));
}

/** Throws what went wrong with a run that was ended from outside, the interruption first. */
export function throwIfInterrupted(end: RunEnd, signal: AbortSignal | undefined): void {
  if (!wasInterrupted(end, signal)) return;
  if (end.failures.some(({ error }) => isInterruption(error))) throw failureOf(end);
  const error = new XdpbedError('interrupted', 'the run was interrupted');
  throw failureOf({ failures: [{ stage: 'run', error }, ...end.failures] });
}

/**
 * Exit code of a testbed. One that was interrupted: 130. Of one that was brought to its end, what was left behind weighs more than a run that failed, and
 * that more than a check: 4, 5, 1. A host that can carry out none of the runs is no failure of theirs: 3.
 */
export function exitCodeOf({ runs, failures = [], interrupted, passed }: ResultDocument): ExitCode {
  if (interrupted !== undefined) return EXIT.INTERRUPTED;
  const isLeft = ({ stage, code }: RunFailure): boolean => stage === 'clean-up' || code === 'leftovers';
  if (failures.some(isLeft)) return EXIT.LEFTOVERS;
  if (failures.length > 0) {
    const unsupported = failures.every(({ code }) => exitCodeOfCode(code) === EXIT.UNSUPPORTED);
    return unsupported && runs.length === 0 ? EXIT.UNSUPPORTED : EXIT.RUN_FAILED;
  }
  return passed ? EXIT.OK : EXIT.CHECK_FAILED;
}

function exitCodeOfCode(code: string): ExitCode | undefined {
  return Object.hasOwn(DIAGNOSTIC_CODES, code) ? DIAGNOSTIC_CODES[code as DiagnosticCode].exit : undefined;
}
