import { appendFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { XdpbedError, messageOf } from '../core/diagnostic.js';

/** What a run makes outside of its own process, and so outlives it. */
export type ResourceKind =
  /** A network namespace, by its name. All that is in it goes with it. */
  | 'netns'
  /** A process, as `<pid> <start>`: the second is when it started, by which another of the same pid is told apart. */
  | 'process'
  /** A folder of files below the ledger's own, by its absolute path. */
  | 'folder';

export interface Resource {
  readonly kind: ResourceKind;
  readonly id: string;
}

/** Where ledgers are: $XDPBED_STATE, by default /run/xdpbed, which is empty after a reboot, as is what they tell of. */
export function ledgerFolder(): string {
  return process.env.XDPBED_STATE ?? '/run/xdpbed';
}

/**
 * What a run holds of the machine, written down before it is made and struck when it is gone, in a file of its own that
 * outlives the process: whatever ends it, `xdpbed prune` finds there what is left. A line each, appended in one write,
 * so that a file that was cut off has at most its last line missing.
 */
export class Ledger {
  readonly #file: string;
  readonly #held = new Map<string, Resource>();
  #open = true;

  private constructor(
    /** Unique on the machine: names of what the run makes begin with it. */
    readonly run: string,
    readonly folder: string,
  ) {
    this.#file = join(folder, `${run}.ledger`);
  }

  /** Throws `host-unsupported` where the folder cannot be written. */
  static create(folder = ledgerFolder()): Ledger {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const ledger = new Ledger(`xb${randomBytes(4).toString('hex')}`, folder);
      const owner = `${process.pid} ${processStart(process.pid)}`;
      writeFileSync(ledger.#file, `${JSON.stringify({ ledger: 1, run: ledger.run, owner })}\n`, {
        flag: 'wx',
      });
      return ledger;
    } catch (cause) {
      throw new XdpbedError('host-unsupported', `no ledger can be kept in ${folder}: ${messageOf(cause)}`, {
        cause,
        hint: 'run as root, or name a folder of your own in XDPBED_STATE',
      });
    }
  }

  get held(): readonly Resource[] {
    return [...this.#held.values()];
  }

  /** Before it is made. */
  add(kind: ResourceKind, id: string): void {
    this.#held.set(`${kind} ${id}`, { kind, id });
    this.#append({ add: { kind, id } });
  }

  /** Once it is gone. */
  strike(kind: ResourceKind, id: string): void {
    if (this.#held.delete(`${kind} ${id}`)) this.#append({ gone: { kind, id } });
  }

  /** Removes the file; with something still held it stays, for who prunes. */
  close(): void {
    if (!this.#open || this.#held.size > 0) return;
    this.#open = false;
    rmSync(this.#file, { force: true });
  }

  #append(line: object): void {
    appendFileSync(this.#file, `${JSON.stringify(line)}\n`);
  }
}

/** A ledger that was read back. */
export interface LeftLedger {
  readonly file: string;
  readonly run: string;
  /** Whether the process that keeps it is still there. */
  readonly alive: boolean;
  /** In the order in which they were made. */
  readonly held: readonly Resource[];
}

/** All ledgers of a folder. What is no ledger is passed over; a last line that was cut off is ignored. */
export function readLedgers(folder = ledgerFolder()): LeftLedger[] {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return [];
  }
  return names
    .filter((name) => /^xb[0-9a-f]{8}\.ledger$/.test(name))
    .map((name) => readLedger(join(folder, name), name.slice(0, -'.ledger'.length)));
}

function readLedger(file: string, run: string): LeftLedger {
  const held = new Map<string, Resource>();
  let owner = '';
  for (const text of readFileSync(file, 'utf8').split('\n')) {
    let line: { owner?: unknown; add?: Resource; gone?: Resource };
    try {
      line = JSON.parse(text) as typeof line;
    } catch {
      continue;
    }
    if (typeof line.owner === 'string') owner = line.owner;
    if (line.add !== undefined) held.set(`${line.add.kind} ${line.add.id}`, line.add);
    if (line.gone !== undefined) held.delete(`${line.gone.kind} ${line.gone.id}`);
  }
  return { file, run, alive: isRunning(owner), held: [...held.values()] };
}

/** @param process as a ledger names it. */
export function isRunning(process: string): boolean {
  const [pid = '', start = ''] = process.split(' ');
  return start !== '' && processStart(Number(pid)) === start;
}

/**
 * When a process started, in clock ticks since boot (field 22 of /proc/<pid>/stat); empty when there is none. A zombie
 * counts as none: it holds nothing any more.
 */
export function processStart(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? '' : (fields[19] ?? '');
  } catch {
    return '';
  }
}
