import { spawn } from 'node:child_process';
import { XdpbedError } from '../core/diagnostic.js';

export interface IpOptions {
  /** Name of the network namespace to do it in; left out: that of this process. */
  readonly namespace?: string | undefined;
}

/**
 * Runs commands of ip(8) in one process, in order; the first that fails ends it. Throws `host-unsupported` with what ip
 * said; what the commands before it did stays.
 */
export async function runIp(commands: readonly string[], options: IpOptions = {}): Promise<void> {
  if (commands.length === 0) return;
  await execute('ip', [...inNamespace(options), '-batch', '-'], commands);
}

/** As {@link runIp}, with bridge(8). */
export async function runBridge(commands: readonly string[], options: IpOptions = {}): Promise<void> {
  if (commands.length === 0) return;
  await execute('bridge', [...inNamespace(options), '-batch', '-'], commands);
}

/** What a command of ip(8) shows, as its `-json` prints it. */
export async function showIp(command: readonly string[], options: IpOptions = {}): Promise<unknown> {
  const text = await execute('ip', [...inNamespace(options), '-json', ...command], []);
  return text.trim() === '' ? [] : (JSON.parse(text) as unknown);
}

function inNamespace({ namespace }: IpOptions): string[] {
  return namespace === undefined ? [] : ['-netns', namespace];
}

async function execute(tool: string, args: readonly string[], lines: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(tool, args, { stdio: 'pipe' });
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
    child.on('error', (cause) => {
      const absent = (cause as NodeJS.ErrnoException).code === 'ENOENT';
      reject(
        new XdpbedError(
          'host-unsupported',
          absent ? `${tool}(8) is not installed` : `${tool}(8) cannot be run: ${cause.message}`,
          { cause, hint: absent ? 'apt-get install iproute2' : undefined },
        ),
      );
    });
    child.on('close', (status) => {
      if (status === 0) resolve(out);
      else reject(failure(tool, lines, err, args));
    });
    // A child that died has said why already.
    child.stdin.on('error', () => undefined);
    child.stdin.end(`${lines.join('\n')}\n`);
  });
}

/** `RTNETLINK answers: Operation not permitted` and `Command failed -:3`: the third line is meant. */
function failure(tool: string, lines: readonly string[], said: string, args: readonly string[]): XdpbedError {
  const line = /Command failed -:(\d+)/.exec(said)?.[1];
  const command = line === undefined ? args.join(' ') : (lines[Number(line) - 1] ?? '');
  const reason = said
    .split('\n')
    .filter((text) => text.trim() !== '' && !text.startsWith('Command failed'))
    .join('; ');
  return new XdpbedError('host-unsupported', `${tool} ${command}: ${reason || 'failed'}`, {
    hint: /not permitted/i.test(said) ? 'run as root, or with CAP_NET_ADMIN and CAP_SYS_ADMIN' : undefined,
  });
}
