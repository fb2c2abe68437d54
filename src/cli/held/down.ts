import { EXIT, XdpbedError, type ExitCode } from '../../core/diagnostic.js';
import { readLedgers, type LeftLedger } from '../../linux/ledger.js';
import { endRun } from '../../linux/prune.js';
import type { CliContext } from '../cli-context.js';
import { findRun } from './held-runs.js';

interface DownOptions {
  readonly all?: boolean;
  /** Seconds. */
  readonly timeout: string;
}

/**
 * `xdpbed down`: has runs that `up` brought up taken down by their processes, and waits until nothing of them is left. A
 * process that does not answer in time is killed, and what it leaves is removed. Exit code 4 when something stays.
 */
export async function down(
  { terminal }: CliContext,
  name: string | undefined,
  options: DownOptions,
): Promise<ExitCode> {
  const seconds = Number(options.timeout);
  if (!/^\d+(\.\d+)?$/.test(options.timeout) || seconds > 3600) {
    throw new XdpbedError('usage', `--timeout '${options.timeout}' is not a number of seconds up to 3600`);
  }
  const runs = chosen(name, options.all === true);
  if (runs.length === 0) terminal.err('nothing is up\n');
  const ended = await Promise.all(runs.map((run) => endRun(run, seconds * 1000)));
  for (const { run, left } of ended) {
    if (left.length === 0) terminal.out(`${run} is down\n`);
    for (const { resource, reason } of left)
      terminal.err(`${run}: ${resource.kind} ${resource.id} stays: ${reason}\n`);
  }
  return ended.some(({ left }) => left.length > 0) ? EXIT.LEFTOVERS : EXIT.OK;
}

function chosen(name: string | undefined, all: boolean): readonly LeftLedger[] {
  const ledgers = readLedgers();
  if (name !== undefined) {
    if (all) throw new XdpbedError('usage', `either ${name} or --all`);
    // What is down already need not be taken down: it may be done again.
    return /^xb[0-9a-f]{8}$/.test(name) && ledgers.every(({ run }) => run !== name)
      ? []
      : [findRun(name, ledgers)];
  }
  const held = ledgers.filter(({ note }) => note.held === true);
  if (!all && held.length > 1) {
    throw new XdpbedError('usage', `${held.length} runs are up`, {
      hint: `xdpbed down ${held[0]!.run}, or xdpbed down --all (${held.map(({ run }) => run).join(', ')})`,
    });
  }
  return held;
}
