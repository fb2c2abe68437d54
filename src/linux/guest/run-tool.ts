import { spawn } from 'node:child_process';
import { XdpbedError } from '../../core/diagnostic.js';

/** Bytes of a tool's complaints that a message repeats. */
const MAX_COMPLAINT = 2000;

export interface ToolOptions {
  /** What it reads; nothing by default. */
  readonly input?: Uint8Array | undefined;
  readonly folder?: string | undefined;
  /** Bytes that it may write to its standard output; default 1 MiB. */
  readonly maxOutput?: number | undefined;
  /** Milliseconds until it is ended; default 60 s. */
  readonly timeout?: number | undefined;
}

/**
 * What a tool writes to its standard output. Throws `host-unsupported` when it is not there, does not end well, takes
 * too long or writes too much, with what it complained of.
 */
export async function runTool(
  command: string,
  words: readonly string[],
  options: ToolOptions = {},
): Promise<Buffer> {
  const { input, folder, maxOutput = 1024 * 1024, timeout = 60_000 } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, words, {
      cwd: folder,
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C' },
      timeout,
      killSignal: 'SIGKILL',
    });
    const output: Buffer[] = [];
    let length = 0;
    let complaint = '';
    const fail = (reason: string, cause?: unknown): void =>
      reject(new XdpbedError('host-unsupported', `${command} ${words.join(' ')}: ${reason}`, { cause }));
    child.stdout.on('data', (bytes: Buffer) => {
      output.push(bytes);
      length += bytes.length;
      if (length <= maxOutput) return;
      fail(`more than ${maxOutput} bytes of output`);
      child.kill('SIGKILL');
    });
    child.stderr.on('data', (bytes: Buffer) => {
      complaint = `${complaint}${bytes.toString()}`.slice(-MAX_COMPLAINT);
    });
    child.on('error', (error: NodeJS.ErrnoException) =>
      fail(error.code === 'ENOENT' ? `there is no ${command} here` : error.message, error),
    );
    child.on('close', (code, signal) => {
      if (code === 0) resolve(Buffer.concat(output));
      else fail(`${signal ?? `exit code ${code}`}${complaint === '' ? '' : `: ${complaint.trim()}`}`);
    });
    // A tool that does not read all it is given is one that fails, which is told by its exit code.
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}
