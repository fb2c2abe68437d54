import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { join } from 'node:path';
import { XdpbedError } from '../../core/diagnostic.js';
import { nearest } from '../../core/nearest.js';
import { ledgerFolder, readLedgers, type LeftLedger } from '../../linux/ledger.js';
import { STATE_SOCKET, type HeldState } from './holder-messages.js';

/** Milliseconds that a run's process gets to say how it is. */
const ANSWER_MS = 2000;

/** The ledger of the run of this name. Throws `usage` when there is none. */
export function findRun(name: string, ledgers = readLedgers()): LeftLedger {
  const found = ledgers.find(({ run }) => run === name);
  if (found !== undefined) return found;
  const names = ledgers.map(({ run }) => run);
  throw new XdpbedError('usage', `there is no run ${name}`, {
    hint:
      names.length === 0 ? 'there is none at all' : `there is ${nearest(name, names) ?? names.join(', ')}`,
  });
}

/** What the process of a run that is held says of it; undefined when it does not, or is not held. */
export async function askForState({ run, alive, note }: LeftLedger): Promise<HeldState | undefined> {
  if (!alive || note.held !== true) return undefined;
  const socket = connect(join(ledgerFolder(), run, STATE_SOCKET));
  const timer = setTimeout(() => socket.destroy(new Error('no answer')), ANSWER_MS);
  try {
    return JSON.parse(await text(socket)) as HeldState;
  } catch {
    // It is on its way up or down, or has no socket.
    return undefined;
  } finally {
    clearTimeout(timer);
    socket.destroy();
  }
}
