import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { printable } from '../../core/printable.js';
import { readLedgers, type LeftLedger } from '../../linux/ledger.js';
import type { Printed } from '../../report/printed.js';
import type { StatusDocument } from '../../report/status-schema.js';
import type { CliContext } from '../cli-context.js';
import { checkFormat, describeState } from './format-state.js';
import { askForState, findRun } from './held-runs.js';
import type { HeldState } from './holder-messages.js';

/**
 * `xdpbed status`: the runs that are there on this machine, from their ledgers: those that are held up, those whose
 * traffic is under way, and what is left of those whose process is gone.
 */
export async function status(
  { terminal }: CliContext,
  run: string | undefined,
  options: { readonly format: string },
): Promise<ExitCode> {
  checkFormat(options.format);
  const all = readLedgers();
  const ledgers = run === undefined ? all : [findRun(run, all)];
  const states = await Promise.all(ledgers.map(askForState));
  if (options.format === 'json') {
    const runs = ledgers.map((ledger, index) => ({ ...summary(ledger), state: states[index] ?? null }));
    const document: Printed<StatusDocument> = { schema: 'xdpbed.status/1', runs };
    terminal.out(`${JSON.stringify(document, null, 2)}\n`);
    return EXIT.OK;
  }
  if (ledgers.length === 0) terminal.err('nothing is up\n');
  ledgers.forEach((ledger, index) => terminal.out(`${describe(ledger, states[index]).join('\n')}\n`));
  return EXIT.OK;
}

/** `up`: held until `down`; `running`: its traffic is under way; `stale`: its process is gone. */
type Standing = 'up' | 'running' | 'stale';

function standing({ alive, note }: LeftLedger): Standing {
  if (!alive) return 'stale';
  return note.held === true ? 'up' : 'running';
}

function summary(ledger: LeftLedger) {
  const { run: name, pid, since, note, held } = ledger;
  return {
    name,
    standing: standing(ledger),
    testbed: note.testbed ?? null,
    run: note.run ?? null,
    pid,
    since,
    holds: held,
  };
}

function describe(ledger: LeftLedger, state: HeldState | undefined): string[] {
  if (state !== undefined) return describeState(state);
  const { run, pid, since, note, held } = ledger;
  const what =
    [note.testbed, note.run].filter((each) => each !== undefined).join(': ') || 'of an unknown testbed';
  const stands = {
    up: `up since ${since}, process ${pid}, which does not say how it is`,
    running: `running since ${since}, process ${pid}`,
    stale: `stale since its process ${pid} is gone: xdpbed prune`,
  }[standing(ledger)];
  return [`${run}  ${what}, ${stands}`, ...held.map(({ kind, id }) => `  ${kind} ${id}`)].map(printable);
}
