import type { AuditRecord, CheckResult, RulingRecord, RunResult } from './result.js';

/**
 * What happens while a testbed runs. Progress, logs and streaming reports are all renderings of this one
 * stream. No event carries wall-clock time, so that a stream is as reproducible as a result.
 */
export type RunEvent =
  | {
      readonly event: 'testbed-started';
      readonly testbed: string;
      readonly runs: number;
      readonly seed: string;
    }
  | { readonly event: 'run-started'; readonly run: string; readonly index: number; readonly of: number }
  | {
      readonly event: 'program-attached';
      readonly run: string;
      readonly node: string;
      readonly program: string;
      readonly placement: string;
    }
  | { readonly event: 'trace'; readonly run: string; readonly node: string; readonly text: string }
  | { readonly event: 'ruling'; readonly run: string; readonly record: RulingRecord }
  | { readonly event: 'audit'; readonly run: string; readonly record: AuditRecord }
  | { readonly event: 'run-finished'; readonly run: string; readonly result: RunResult }
  | { readonly event: 'check-finished'; readonly result: CheckResult }
  | { readonly event: 'testbed-finished'; readonly passed: boolean };
