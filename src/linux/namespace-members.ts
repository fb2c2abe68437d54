import { readdirSync, readlinkSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { XdpbedError } from '../core/diagnostic.js';
import { OWN_NAMESPACE } from './namespace-files.js';
import { signalProcess } from './process-signal.js';

/** Milliseconds that a process gets to end by itself, and then to be gone. */
const TERM_MS = 1000;
const KILL_MS = 2000;
/** Milliseconds between looks at whether they have. */
const LOOK_MS = 5;

/**
 * Ends the processes that are in network namespaces of a run: commands of `xdpbed exec`, whatever these have started, and
 * whoever else has gone in there: as long as one of them is there, the namespace is, and all that is in it. They get a
 * SIGTERM, and a second later a SIGKILL.
 *
 * A process is in there when all its threads are. One that has a thread elsewhere, too, looks into several namespaces and
 * is not the run's: it is waited for, and not touched. Nor is the calling process.
 *
 * Throws `leftovers` with the numbers of those that are still there in the end.
 *
 * @param inodes what namespaces are told apart by, each kept from being given to another by an open file or a mount
 */
export async function endMembers(inodes: ReadonlySet<bigint>): Promise<void> {
  const names = new Set([...inodes].map((inode) => `net:[${inode}]`));
  // Were one of them where this process is at home, then everything of the machine would be in it.
  if (names.has(namespaceOf(`/proc/${process.pid}`) ?? '') || names.has(readlinkSync(OWN_NAMESPACE))) {
    throw new XdpbedError('internal-error', 'the network namespace of this process is not of a run');
  }
  const start = performance.now();
  const told = new Map<NodeJS.Signals, Set<number>>([
    ['SIGTERM', new Set()],
    ['SIGKILL', new Set()],
  ]);
  for (;;) {
    const members = processIds().filter((pid) => isInside(pid, names));
    if (members.length === 0) return;
    const elapsed = performance.now() - start;
    if (elapsed > TERM_MS + KILL_MS) {
      throw new XdpbedError('leftovers', `process ${members.join(', ')} is in there and does not end`);
    }
    const signal = elapsed < TERM_MS ? 'SIGTERM' : 'SIGKILL';
    const heard = told.get(signal)!;
    for (const pid of members) {
      if (heard.has(pid)) continue;
      signalProcess(
        pid,
        () => {
          const isMeant = isWhollyInside(pid, names);
          if (isMeant) heard.add(pid);
          return isMeant;
        },
        signal,
      );
    }
    await sleep(LOOK_MS);
  }
}

function processIds(): number[] {
  return readdirSync('/proc')
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid);
}

/** By its first thread, or, where that has ended before the others, by those. A zombie is nowhere. */
function isInside(pid: number, names: ReadonlySet<string>): boolean {
  const namespace = namespaceOf(`/proc/${pid}`);
  return namespace === undefined ? isWhollyInside(pid, names) : names.has(namespace);
}

function isWhollyInside(pid: number, names: ReadonlySet<string>): boolean {
  const namespaces = threadsOf(pid).flatMap((thread) => namespaceOf(`/proc/${pid}/task/${thread}`) ?? []);
  return namespaces.length > 0 && namespaces.every((namespace) => names.has(namespace));
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** `net:[4026532008]`, by the number of its inode; undefined for one that has ended, and for one that is not ours to see. */
function namespaceOf(process: string): string | undefined {
  try {
    return readlinkSync(`${process}/ns/net`);
  } catch {
    return undefined;
  }
}
