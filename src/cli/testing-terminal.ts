import { runCommandLine } from './command-line.js';

/** What one command line printed and how it ended: for tests, which run the command line in their own process. */
export interface CommandOutcome {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

export async function runForTest(args: readonly string[], input = ''): Promise<CommandOutcome> {
  let [out, err] = ['', ''];
  const terminal = {
    out: (text: string) => void (out += text),
    err: (text: string) => void (err += text),
    input: () => Promise.resolve(input),
    color: false,
    interactive: false,
  };
  const exit = await runCommandLine(args, terminal, {
    listen: () => undefined,
    signal: () => new AbortController().signal,
  });
  return { exit, out, err };
}
