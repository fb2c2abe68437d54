import type { ResultDocument, RunFailure, RunResult } from '../core/contract/result.js';

/** One run of a testbed, whatever became of it. */
export interface ReportedRun {
  readonly id: string;
  readonly axes: Readonly<Record<string, string>>;
  /** Only those that finished have a result. */
  readonly state: 'finished' | 'failed' | 'interrupted' | 'not started';
  /** Of a run that finished. */
  readonly result?: RunResult | undefined;
  /** What went wrong with it; a run that finished may have been taken down badly. */
  readonly failures: readonly RunFailure[];
}

/** All runs of a testbed in their order, whatever became of each. */
export function reportedRuns({
  runs,
  failures = [],
  interrupted,
  notStarted = [],
}: ResultDocument): ReportedRun[] {
  const unfinished = new Map<number, ReportedRun>();
  for (const { run: id, index, axes } of failures) {
    if (runs.some((run) => run.id === id)) continue;
    const own = failures.filter((failure) => failure.index === index);
    unfinished.set(index, { id, axes, state: 'failed', failures: own });
  }
  if (interrupted !== undefined) {
    const { run: id, index, axes } = interrupted;
    // What was not taken down then, or what a plugin said that heard of it.
    const own = failures.filter((failure) => failure.index === index);
    unfinished.set(index, { id, axes, state: 'interrupted', failures: own });
  }
  for (const { run: id, index, axes } of notStarted)
    unfinished.set(index, { id, axes, state: 'not started', failures: [] });

  const outcomes: ReportedRun[] = [];
  const addUnfinished = (): void => {
    for (let next = unfinished.get(outcomes.length); next; next = unfinished.get(outcomes.length)) {
      unfinished.delete(outcomes.length);
      outcomes.push(next);
    }
  };
  for (const result of runs) {
    addUnfinished();
    const own = failures.filter((failure) => failure.run === result.id);
    outcomes.push({ id: result.id, axes: result.axes, state: 'finished', result, failures: own });
  }
  addUnfinished();
  // A document of somebody else's may number its runs as it likes: none is left out.
  return [...outcomes, ...unfinished.values()];
}

/** `could not be set up [plugin-failed]`, with what it happened in when that was not the run itself. */
export function formatFailure({
  stage,
  code,
  message,
}: Pick<RunFailure, 'stage' | 'code' | 'message'>): string {
  return `${stage === 'clean-up' ? 'clean-up: ' : ''}${message} [${code}]`;
}
