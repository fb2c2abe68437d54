import { runCommandLine } from './command-line.js';

/** What one command line printed and how it ended: for tests, which run the command line in their own process. */
export interface CommandOutcome {
  readonly exit: number;
  readonly out: string;
  readonly err: string;
}

/** @param signal fires: the command is interrupted */
export async function runForTest(
  args: readonly string[],
  input = '',
  signal = new AbortController().signal,
): Promise<CommandOutcome> {
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
    signal: () => signal,
  });
  return { exit, out, err };
}
