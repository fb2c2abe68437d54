import { closeSync, fstatSync, openSync, rmSync } from 'node:fs';
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
import { NETNS_FOLDER, removeNamespace } from './namespace-files.js';
import { endMembers } from './namespace-members.js';
import { signalProcess } from './process-signal.js';

/** Milliseconds that a process gets to end. */
const END_MS = 2000;
/** Milliseconds between looks at whether it has. */
const LOOK_MS = 5;

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

async function remove({ kind, id, inode }: Resource, ledger: LeftLedger): Promise<void> {
  switch (kind) {
    case 'netns':
      // A ledger that somebody wrote by hand must not name what is not of this run.
      if (!/^xdpbed-xb[0-9a-f]{8}-[\w-]+$/.test(id) || !id.startsWith(`xdpbed-${ledger.run}-`))
        throw new Error(`${id} is not a namespace of run ${ledger.run}`);
      await vacate(id, inode);
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

/** Ends who is in a namespace, if it is the one that the run has made. */
async function vacate(name: string, inode: string | undefined): Promise<void> {
  let fd: number;
  try {
    fd = openSync(`${NETNS_FOLDER}/${name}`, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  // As long as this is open, no other gets its inode.
  try {
    const present = fstatSync(fd, { bigint: true }).ino;
    if (String(present) === inode) await endMembers(new Set([present]));
  } finally {
    closeSync(fd);
  }
}

/**
 * Has the process of a run take it down, and waits until it has. Where it does not in time it is killed, and what it left
 * behind is removed, as is what is left of a run whose process is gone already. What could not be removed is told.
 */
export async function endRun(ledger: LeftLedger, ms: number, folder = ledgerFolder()): Promise<Pruned> {
  if (!(await endsBy(ledger.owner, 'SIGTERM', ms))) await endProcess(ledger.owner);
  const left = readLedgers(folder).find(({ run }) => run === ledger.run);
  return left === undefined ? { run: ledger.run, removed: ledger.held, left: [] } : pruneLedger(left);
}

async function endProcess(id: string): Promise<void> {
  if (!(await endsBy(id, 'SIGKILL', END_MS))) throw new Error(`process ${id.split(' ')[0]} does not end`);
}

/** Sends a signal to a process, if it is still the one that was meant; whether it is gone within the time. */
async function endsBy(id: string, signal: NodeJS.Signals, ms: number): Promise<boolean> {
  if (!isRunning(id)) return true;
  signalProcess(Number(id.split(' ')[0]), () => isRunning(id), signal);
  for (const until = Date.now() + ms; isRunning(id);) {
    if (Date.now() > until) return false;
    await new Promise((done) => setTimeout(done, LOOK_MS));
  }
  return true;
}
