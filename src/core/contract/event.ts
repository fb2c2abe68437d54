import type { Picoseconds } from './clock.js';
import type { AuditRecord, CheckResult, RulingRecord, RunFailure, RunPlace, RunResult } from './result.js';
import { token } from './injection.js';

/** What happens in one run. */
export type RunEvent =
  | {
      readonly event: 'program-attached';
      readonly run: string;
      readonly node: string;
      readonly program: string;
      readonly placement: string;
    }
  | { readonly event: 'trace'; readonly run: string; readonly node: string; readonly text: string }
  | { readonly event: 'ruling'; readonly run: string; readonly record: RulingRecord }
  | { readonly event: 'audit'; readonly run: string; readonly record: AuditRecord };

/** When it happened, on the run's clock, and after what: numbered from 0 in each run. */
export type TimedEvent = RunEvent & { readonly seq: number; readonly time: Picoseconds };

/** Where a run's parts tell what happens; the core adds when, and in which order. */
export interface Events {
  emit(event: RunEvent): void;
}

export const EVENTS = token<Events>('events');

/** What happens around the runs of a testbed. */
export type TestbedEvent =
  | {
      readonly event: 'testbed-started';
      readonly testbed: string;
      readonly runs: number;
      readonly seed: string;
    }
  | { readonly event: 'run-started'; readonly run: string; readonly index: number; readonly of: number }
  | { readonly event: 'run-finished'; readonly run: string; readonly result: RunResult }
  | { readonly event: 'run-failed'; readonly run: string; readonly failure: RunFailure }
  | { readonly event: 'run-interrupted'; readonly run: string; readonly place: RunPlace }
  | { readonly event: 'run-not-started'; readonly run: string; readonly place: RunPlace }
  | { readonly event: 'check-finished'; readonly result: CheckResult }
  | { readonly event: 'testbed-finished'; readonly passed: boolean };

/**
 * All that happens while a testbed runs, numbered from 0. Progress, logs and streaming reports are renderings of
 * this one stream. Where the runs' time is virtual, a stream is as reproducible as a result.
 */
export type StreamEvent = (TestbedEvent & { readonly seq: number }) | TimedEvent;
