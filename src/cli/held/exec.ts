import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { XdpbedError } from '../../core/diagnostic.js';
import { canBeEntered, insideRun } from '../../linux/enter-run.js';
import type { CliContext } from '../cli-context.js';
import { findRun } from './held-runs.js';

const ROLES: readonly string[] = ['host', 'wire'];

/**
 * `xdpbed exec RUN [host|wire] -- COMMAND…`: runs a command in a network namespace of a run that is there. Its exit code
 * is the command's, or 128 and the number of the signal that ended it. When the run goes down before, it ends the command
 * and whatever that has started.
 */
export async function exec(context: CliContext, name: string, words: readonly string[]): Promise<number> {
  const { role, command } = parseWords(words);
  const ledger = findRun(name);
  const { run, alive, note } = ledger;
  const netns = `xdpbed-${run}-${role}`;
  if (!canBeEntered(ledger, netns)) {
    throw new XdpbedError(
      'usage',
      `run ${run} is not up${alive && note.ending !== true ? ' yet' : ' any more'}`,
      {
        hint: alive ? undefined : 'xdpbed prune removes what is left of it',
      },
    );
  }
  // From now on the command hears of what is meant for it.
  const interruption = context.interruption();
  // In the group of this process: a shell that is run in there may read the terminal.
  const child = insideRun(run, netns, () =>
    spawn('ip', ['netns', 'exec', netns, ...command], { stdio: 'inherit' }),
  );
  // Ctrl-C reaches it from the terminal; a signal to this process alone does not.
  interruption.addEventListener('abort', () => child.kill('SIGTERM'));
  return new Promise((resolve, reject) => {
    child.on('error', (cause) =>
      reject(
        new XdpbedError('host-unsupported', `ip(8) cannot be run: ${cause.message}`, {
          cause,
          hint: 'apt-get install iproute2',
        }),
      ),
    );
    child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal!]));
  });
}

/** What is behind `--` is the command, whatever it is called; without it the first word may say where. */
function parseWords(words: readonly string[]): { role: string; command: readonly string[] } {
  const at = words.indexOf('--');
  const first = words[0] ?? '';
  const named = at < 0 ? ROLES.includes(first) : at === 1;
  const role = named ? first : 'host';
  const command = at === 0 || at === 1 ? words.slice(at + 1) : words.slice(named ? 1 : 0);
  if (!ROLES.includes(role)) {
    throw new XdpbedError('usage', `'${role}' is not a namespace of a run: ${ROLES.join(' or ')}`);
  }
  if (command.length === 0) {
    throw new XdpbedError('usage', 'there is no command to run', { hint: 'xdpbed exec RUN host -- ip link' });
  }
  return { role, command };
}
