import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { compiledModule } from '../../core/child-process-module.js';
import type { FileOutcome, FileTests } from './test-one-file.js';

/**
 * Milliseconds after which other threads help: starting one takes as long as some thousand cases. Whatever is through by then
 * has not paid for any.
 */
const ALONE_MS = 250;
/** Milliseconds that a thread has after an interruption to hand over what it has so far. */
const LAST_WORDS_MS = 120;

/** What a thread is told: the file to test next, or that it was interrupted. */
export type ToTestThread = { readonly file: string } | 'interrupted';

/**
 * Tests files side by side, one in this thread and, when it takes longer, as many others in threads of their own as `jobs` says. Of
 * an interruption comes what was through by then; what was not begun is absent.
 * @param testOne tests a file in this thread
 * @returns by the order of the files
 */
export async function testSideBySide(
  files: readonly string[],
  tests: FileTests,
  testOne: (file: string) => Promise<FileOutcome>,
  { jobs, signal, aloneMs = ALONE_MS }: TestThreadsOptions,
): Promise<FileOutcome[]> {
  const outcomes: FileOutcome[] = [];
  let begun = 0;
  const next = (): number | undefined => (signal.aborted || begun === files.length ? undefined : begun++);
  const threads: Promise<void>[] = [];
  const timer = setTimeout(() => {
    for (let count = Math.min(jobs - 1, files.length - begun); count > 0; count--) {
      const thread = inThread(files, tests, outcomes, next, signal);
      // It is awaited when this thread has nothing left to do.
      thread.catch(() => undefined);
      threads.push(thread);
    }
  }, aloneMs);
  try {
    for (let index = next(); index !== undefined; index = next()) {
      const outcome = await testOne(files[index]!);
      outcomes[index] = outcome;
      if (tests.bail === true && hasFailed(outcome)) break;
    }
  } finally {
    clearTimeout(timer);
    await Promise.all(threads);
  }
  return outcomes.filter((outcome) => outcome !== undefined);
}

export interface TestThreadsOptions {
  /** Files at a time. */
  readonly jobs: number;
  readonly signal: AbortSignal;
  /** Milliseconds that this thread works alone. */
  readonly aloneMs?: number;
}

/** One thread: it takes the next file for as long as there is one. */
async function inThread(
  files: readonly string[],
  tests: FileTests,
  outcomes: FileOutcome[],
  next: () => number | undefined,
  signal: AbortSignal,
): Promise<void> {
  let current = next();
  if (current === undefined) return;
  const main = compiledModule(new URL('./test-thread.js', import.meta.url).href);
  const thread = new Worker(new URL(main), { workerData: tests });
  const post = (message: ToTestThread): void => thread.postMessage(message);
  let timer: NodeJS.Timeout | undefined;
  const interrupt = (): void => {
    post('interrupted');
    timer = setTimeout(() => void thread.terminate(), LAST_WORDS_MS);
  };
  signal.addEventListener('abort', interrupt, { once: true });
  thread.on('message', (outcome: FileOutcome) => {
    outcomes[current!] = outcome;
    current = next();
    if (current === undefined) void thread.terminate();
    else post({ file: files[current]! });
  });
  post({ file: files[current]! });
  try {
    // What it throws comes as `error`, which rejects this.
    await once(thread, 'exit');
    if (current !== undefined && !signal.aborted)
      throw new Error(`the thread that tested ${files[current]} has ended`);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', interrupt);
  }
}

function hasFailed({ report }: FileOutcome): boolean {
  return report?.results.some(({ passed }) => !passed) === true;
}
