import { spawn } from 'node:child_process';
import { watch, type FSWatcher } from 'node:fs';
import { dirname } from 'node:path';
import { EXIT, XdpbedError, type ExitCode } from '../../core/diagnostic.js';
import type { CliContext } from '../cli-context.js';
import { reportError } from '../terminal.js';
import { filesBelow } from './case-files.js';

/** What came of a round of tests. */
export interface TestedFiles {
  readonly exit: ExitCode;
  /** What kept files from being run; the others were. */
  readonly errors: readonly Error[];
  /** Files that the tests depend on. */
  readonly reads: readonly string[];
}

/** Milliseconds without a change after which the tests run again: editors and compilers write in several steps. */
const SETTLED_MS = 80;
const SOURCE = /\.(?:c|h|cc|cpp|hpp|rs|s|S)$/;

/**
 * Builds, tests, and does so again whenever a file changed that the tests depend on, or with `build` a source below the
 * working directory. Ends with the first interruption.
 */
export async function watchTests(
  context: CliContext,
  build: string | undefined,
  test: () => Promise<TestedFiles>,
): Promise<ExitCode> {
  const { terminal } = context;
  const signal = context.interruption();
  let reads: readonly string[] = [];
  while (!signal.aborted) {
    if (build === undefined || (await isBuilt(context, build, signal))) {
      try {
        const tested = await test();
        for (const error of tested.errors) reportError(error, terminal);
        reads = tested.reads;
      } catch (error) {
        // A pattern that fits nothing yet, say: it may once something changed.
        if (!(error instanceof XdpbedError) || reads.length === 0) throw error;
        reportError(error, terminal);
      }
    }
    if (signal.aborted) break;
    const sources = build === undefined ? [] : (await filesBelow('')).filter((file) => SOURCE.test(file));
    terminal.err('waiting for changes; Ctrl-C ends\n');
    await nextChange(reads, sources, signal);
  }
  return EXIT.INTERRUPTED;
}

/** Whether the command ended well; what it prints goes to stderr. */
function isBuilt({ terminal }: CliContext, command: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'pipe', 'pipe'], signal });
    const print = (chunk: Buffer): void => terminal.raw.err(chunk.toString());
    child.stdout.on('data', print);
    child.stderr.on('data', print);
    child.on('error', () => resolve(false));
    child.on('close', (code) => {
      if (code !== 0 && !signal.aborted) terminal.err(`${command}: exit ${code}\n`);
      resolve(code === 0);
    });
  });
}

/** Until one of the files changed and a little time passed without another change, or until the interruption. */
function nextChange(
  reads: readonly string[],
  sources: readonly string[],
  signal: AbortSignal,
): Promise<void> {
  const files = new Set([...reads, ...sources].map((file) => file.replace(/^\.\//, '')));
  const folders = new Set([...files].map(dirname));
  return new Promise((resolve) => {
    const watchers: FSWatcher[] = [];
    let timer: NodeJS.Timeout | undefined;
    const end = (): void => {
      clearTimeout(timer);
      for (const watcher of watchers) watcher.close();
      signal.removeEventListener('abort', end);
      resolve();
    };
    signal.addEventListener('abort', end);
    for (const folder of folders) {
      // A folder and not its files: editors put another file in the place of the one that they change.
      const watcher = watch(folder, (_, name) => {
        const file = folder === '.' ? name : `${folder}/${name}`;
        const counts = file !== null && (files.has(file) || (sources.length > 0 && SOURCE.test(file)));
        if (!counts) return;
        clearTimeout(timer);
        timer = setTimeout(end, SETTLED_MS);
      });
      // One that is gone changes no more.
      watcher.on('error', () => watcher.close());
      watchers.push(watcher);
    }
    if (signal.aborted) end();
  });
}
