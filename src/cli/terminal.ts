import { text as readText } from 'node:stream/consumers';
import {
  DIAGNOSTIC_CODES,
  EXIT,
  XdpbedError,
  formatLocation,
  messageOf,
  type ExitCode,
} from '../core/diagnostic.js';
import { TestbedError, formatProblem } from '../core/testbed/problem-list.js';

/** Where a verb prints: data to `out`, everything else to `err`. Verbs never touch process directly. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  /** Waits until what was printed has been taken, where that may be slow. */
  drained?(): Promise<void>;
  /** All of stdin, for the verbs that read it. */
  input(): Promise<string>;
  /** Colours are wanted on stdout. */
  readonly color: boolean;
  /** stderr is a terminal: progress may overwrite itself. */
  readonly interactive: boolean;
  /** Characters of a line of that terminal. */
  readonly columns?: number | undefined;
}

export function processTerminal(): Terminal {
  // A reader that goes away early (`xdpbed … | head`, `xdpbed … 2>&1 | head`) is no failure.
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPIPE') throw error;
    });
  }
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    drained,
    input: () => readText(process.stdin),
    color: process.stdout.isTTY === true && process.env.NO_COLOR === undefined,
    interactive: process.stderr.isTTY === true,
    get columns() {
      return process.stderr.columns;
    },
  };
}

/** A reader that is gone takes nothing, and is not waited for. */
async function drained(): Promise<void> {
  const { stdout } = process;
  if (!stdout.writableNeedDrain || stdout.destroyed) return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      for (const event of ['drain', 'close', 'error']) stdout.removeListener(event, done);
      resolve();
    };
    for (const event of ['drain', 'close', 'error']) stdout.once(event, done);
  });
}

/** Prints whatever was thrown and returns the exit code it leads to. */
export function reportError(error: unknown, terminal: Terminal): ExitCode {
  if (error instanceof AggregateError) {
    const codes = error.errors.map((each) => reportError(each, terminal));
    return codes[0] ?? EXIT.CHECK_FAILED;
  }
  if (error instanceof TestbedError) {
    const count = error.problems.length;
    for (const problem of error.problems) terminal.err(`${formatProblem(problem)}\n`);
    const more = error.truncated ? ', and maybe more' : '';
    terminal.err(`${count} ${count === 1 ? 'problem' : 'problems'}${more}\n`);
    return error.exitCode;
  }
  if (error instanceof XdpbedError) {
    const at = error.at === undefined ? '' : `${formatLocation(error.at)}: `;
    terminal.err(`xdpbed: ${at}${error.message} [${error.code}]\n`);
    if (error.hint !== undefined) terminal.err(`  hint: ${error.hint}\n`);
    return DIAGNOSTIC_CODES[error.code].exit;
  }
  // Not ours to explain: a defect of xdpbed, so the stack is what helps.
  terminal.err(`xdpbed: internal error: ${messageOf(error)}\n`);
  if (error instanceof Error && error.stack !== undefined) terminal.err(`${error.stack}\n`);
  return EXIT.CHECK_FAILED;
}
