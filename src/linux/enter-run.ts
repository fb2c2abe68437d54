import { closeSync, fstatSync, openSync } from 'node:fs';
import { XdpbedError } from '../core/diagnostic.js';
import { ledgerFolder, readLedgers, type LeftLedger } from './ledger.js';
import { enterNamespace, NETNS_FOLDER, OWN_NAMESPACE } from './namespace-files.js';

/** Whether a run is up, and has a namespace of this name that can be gone into. */
export function canBeEntered({ alive, note, held }: LeftLedger, netns: string): boolean {
  return (
    alive &&
    note.ending !== true &&
    held.some(({ kind, id, inode }) => kind === 'netns' && id === netns && inode !== undefined)
  );
}

/**
 * Runs `work` with the calling thread in a network namespace of a run that another process holds, and brings it back.
 * A process that it starts is in there from its first insn on, and so is found by who takes the run down: that writes in the
 * ledger that it does and then looks who is in there, and here the ledger is read once the thread is. Throws `usage` when
 * the run is not up, or not any more.
 */
export function insideRun<T>(run: string, netns: string, work: () => T, folder = ledgerFolder()): T {
  const home = openSync(OWN_NAMESPACE, 'r');
  let there: number | undefined;
  try {
    try {
      there = openSync(`${NETNS_FOLDER}/${netns}`, 'r');
    } catch (cause) {
      throw notUp(run, cause);
    }
    const inode = String(fstatSync(there, { bigint: true }).ino);
    enterNamespace(there, netns);
    try {
      const ledger = readLedgers(folder).find((each) => each.run === run);
      const isOwn = ledger?.held.some((each) => each.id === netns && each.inode === inode);
      if (ledger === undefined || isOwn !== true || !canBeEntered(ledger, netns)) throw notUp(run);
      return work();
    } finally {
      enterNamespace(home, 'of this process');
    }
  } finally {
    if (there !== undefined) closeSync(there);
    closeSync(home);
  }
}

function notUp(run: string, cause?: unknown): XdpbedError {
  return new XdpbedError('usage', `run ${run} is not up any more`, { cause });
}
