import { text as readText } from 'node:stream/consumers';
import {
  DIAGNOSTIC_CODES,
  EXIT,
  XdpbedError,
  formatLocation,
  messageOf,
  type ExitCode,
} from '../core/diagnostic.js';
import { printable, printableText } from '../core/printable.js';
import { TestbedError, formatProblem } from '../core/testbed/problem-list.js';

/** Where the command line prints: data to `out`, everything else to `err`. */
export interface TerminalStreams {
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

/**
 * What verbs print to; they never touch process directly. What `out` and `err` print is made printable on its way, line
 * feeds and tabs apart: whatever a verb prints of an object file's or a guest's cannot command the terminal.
 */
export interface Terminal extends TerminalStreams {
  /** The streams as they are, for text with colours, carriage returns or cursor movements, whose writer has made printable what is not its own. */
  readonly raw: TerminalStreams;
}

export function printableTerminal(raw: TerminalStreams): Terminal {
  return {
    raw,
    out: (text) => raw.out(printableText(text)),
    err: (text) => raw.err(printableText(text)),
    input: () => raw.input(),
    color: raw.color,
    interactive: raw.interactive,
    get columns() {
      return raw.columns;
    },
  };
}

export function processTerminal(): TerminalStreams {
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
    for (const problem of error.problems) terminal.err(`${printable(formatProblem(problem))}\n`);
    const more = error.truncated ? ', and maybe more' : '';
    terminal.err(`${count} ${count === 1 ? 'problem' : 'problems'}${more}\n`);
    return error.exitCode;
  }
  if (error instanceof XdpbedError) {
    const at = error.at === undefined ? '' : `${formatLocation(error.at)}: `;
    terminal.err(`xdpbed: ${indented(`${at}${error.message} [${error.code}]`)}\n`);
    if (error.hint !== undefined) terminal.err(`  hint: ${indented(error.hint)}\n`);
    return DIAGNOSTIC_CODES[error.code].exit;
  }
  // Not ours to explain: a defect of xdpbed, so the stack is what helps.
  terminal.err(`xdpbed: internal error: ${messageOf(error)}\n`);
  if (error instanceof Error && error.stack !== undefined) terminal.err(`${error.stack}\n`);
  return EXIT.CHECK_FAILED;
}

/** A message of several lines, or one that repeats a line feed of somebody else's, looks like one message. */
function indented(text: string): string {
  return text.replaceAll('\n', '\n    ');
}
