import { runCommandLine } from './command-line.js';

/** What one command line printed and how it ended: for tests, which run the command line in their own process. */
export interface CommandOutcome {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

/** @param signal fires: the command is interrupted */
export function runForTest(
  args: readonly string[],
  input = '',
  signal = new AbortController().signal,
): Promise<CommandOutcome> {
  return run(args, { input, signal, interactive: false, onPrinted: () => undefined });
}

/** As `runForTest`, on a terminal, which shows progress; interrupted once what was printed matches. */
export function interruptForTest(args: readonly string[], when: RegExp): Promise<CommandOutcome> {
  const abort = new AbortController();
  const onPrinted = (printed: string): void => {
    if (when.test(printed)) abort.abort();
  };
  return run(args, { input: '', signal: abort.signal, interactive: true, onPrinted });
}

async function run(
  args: readonly string[],
  {
    input,
    signal,
    interactive,
    onPrinted,
  }: {
    readonly input: string;
    readonly signal: AbortSignal;
    readonly interactive: boolean;
    /** Is told everything so far. */
    readonly onPrinted: (printed: string) => void;
  },
): Promise<CommandOutcome> {
  let [out, err] = ['', ''];
  const terminal = {
    out: (text: string) => {
      out += text;
      onPrinted(out + err);
    },
    err: (text: string) => {
      err += text;
      onPrinted(out + err);
    },
    input: () => Promise.resolve(input),
    color: false,
    interactive,
    columns: 120,
  };
  const exit = await runCommandLine(args, terminal, {
    listen: () => undefined,
    signal: () => signal,
  });
  return { exit, out, err };
}
