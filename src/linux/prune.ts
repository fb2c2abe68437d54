import { rmSync } from 'node:fs';
import { dirname, resolve, sep } from 'node:path';
import { messageOf } from '../core/diagnostic.js';
import {
  abandonedDrafts,
  isRunning,
  ledgerFolder,
  readLedgers,
  type LeftLedger,
  type Resource,
} from './ledger.js';
import { removeNamespace } from './namespace-files.js';

/** Milliseconds that a process gets to end. */
const END_MS = 2000;

export interface Pruned {
  readonly run: string;
  readonly removed: readonly Resource[];
  /** What could not be removed, and why: it stays in the ledger. */
  readonly left: readonly { readonly resource: Resource; readonly reason: string }[];
}

/**
 * Removes what runs have left behind whose process is gone, from their ledgers alone: whatever ended them. What is there
 * no more counts as removed, so that it may be done again and again. Ledgers of processes that are there are passed over.
 */
export async function prune(folder = ledgerFolder()): Promise<Pruned[]> {
  const pruned: Pruned[] = [];
  for (const ledger of readLedgers(folder)) if (!ledger.alive) pruned.push(await pruneLedger(ledger));
  for (const draft of abandonedDrafts(folder)) rmSync(draft, { force: true });
  return pruned;
}

/** Of one run, whose process is gone. */
export async function pruneLedger(ledger: LeftLedger): Promise<Pruned> {
  const removed: Resource[] = [];
  const left: { resource: Resource; reason: string }[] = [];
  // Last first: a process may be in a namespace, a file of its in a folder.
  for (const resource of [...ledger.held].reverse()) {
    try {
      await remove(resource, ledger);
      removed.push(resource);
    } catch (error) {
      left.push({ resource, reason: messageOf(error) });
    }
  }
  if (left.length === 0) rmSync(ledger.file, { force: true });
  return { run: ledger.run, removed, left };
}

async function remove({ kind, id }: Resource, ledger: LeftLedger): Promise<void> {
  switch (kind) {
    case 'netns':
      // A ledger that somebody wrote by hand must not name what is not of this run.
      if (!/^xdpbed-xb[0-9a-f]{8}-[\w-]+$/.test(id) || !id.startsWith(`xdpbed-${ledger.run}-`))
        throw new Error(`${id} is not a namespace of run ${ledger.run}`);
      return removeNamespace(id);
    case 'process':
      return endProcess(id);
    case 'folder': {
      const own = resolve(dirname(ledger.file), ledger.run);
      if (resolve(id) !== own && !resolve(id).startsWith(own + sep))
        throw new Error(`${id} is not a folder of run ${ledger.run}`);
      rmSync(id, { recursive: true, force: true });
    }
  }
}

/** By its pid, if that is still the process that was meant. */
async function endProcess(id: string): Promise<void> {
  if (!isRunning(id)) return;
  try {
    process.kill(Number(id.split(' ')[0]), 'SIGKILL');
  } catch (error) {
    // It has ended meanwhile.
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
  for (const until = Date.now() + END_MS; isRunning(id);) {
    if (Date.now() > until) throw new Error(`process ${id.split(' ')[0]} does not end`);
    await new Promise((done) => setTimeout(done, 10));
  }
}
