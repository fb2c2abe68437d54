import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeSync,
  type Stats,
} from 'node:fs';
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
  /** Of a network namespace, once it is made: its inode, by which another that got its name is told apart. */
  readonly inode?: string | undefined;
}

/** Where ledgers are: $XDPBED_STATE, by default /run/xdpbed, which is empty after a reboot, as is what they tell of. */
export function ledgerFolder(): string {
  return process.env.XDPBED_STATE ?? '/run/xdpbed';
}

/** What a run is, for a person who looks at the machine. */
export interface RunNote {
  /** Name of the testbed, where it is known. */
  readonly testbed?: string | undefined;
  /** The run's id in it, e.g. `redirect/xdp1/host`. */
  readonly run?: string | undefined;
  /** It stays up until it is told to go (`xdpbed up`); else it goes when its traffic is over. */
  readonly held?: boolean | undefined;
  /** It is being taken down: nobody goes into its namespaces any more. */
  readonly ending?: boolean | undefined;
}

/**
 * What a run holds of the machine, written down before it is made and struck when it is gone, in a file of its own that
 * outlives the process: whatever ends it, `xdpbed prune` finds there what is left. A line each, appended in one write,
 * so that a file that was cut off has at most its last line missing. The first line, which says whose it is, is there
 * as soon as the file is.
 */
export class Ledger {
  readonly #file: string;
  readonly #fd: number;
  readonly #held = new Map<string, Resource>();
  #open = true;

  private constructor(
    /** Unique on the machine: names of what the run makes begin with it. */
    readonly run: string,
    readonly folder: string,
  ) {
    this.#file = join(folder, `${run}.ledger`);
    const owner = `${process.pid} ${processStart(process.pid)}`;
    const draft = join(folder, `.${run}.${owner.replace(' ', '-')}.draft`);
    // Kept open: were the file removed, nobody must find one that does not say whose it is.
    this.#fd = openSync(draft, 'ax', 0o600);
    try {
      this.#append({ ledger: 1, run, owner, since: new Date().toISOString() });
      linkSync(draft, this.#file);
    } catch (error) {
      closeSync(this.#fd);
      throw error;
    } finally {
      rmSync(draft, { force: true });
    }
  }

  /** Throws `host-unsupported` where the folder cannot be written. */
  static create(folder = ledgerFolder()): Ledger {
    try {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      requireOwnFolder(folder);
      return new Ledger(`xb${randomBytes(4).toString('hex')}`, folder);
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

  /** Adds to what is known of the run. */
  note(note: RunNote): void {
    this.#append({ note });
  }

  /** Before it is made; and again, with its inode, once a namespace is. */
  add(kind: ResourceKind, id: string, inode?: string): void {
    this.#append({ add: { kind, id, inode } });
    this.#held.set(`${kind} ${id}`, { kind, id, inode });
  }

  /** Once it is gone. */
  strike(kind: ResourceKind, id: string): void {
    if (this.#held.delete(`${kind} ${id}`)) this.#append({ gone: { kind, id } });
  }

  /** The run's folder of files, made at the first call; it goes when the ledger is closed. */
  ownFolder(): string {
    const folder = join(this.folder, this.run);
    if (this.#held.has(`folder ${folder}`)) return folder;
    this.add('folder', folder);
    mkdirSync(folder, { mode: 0o700 });
    return folder;
  }

  /** Removes the file; with something still held it stays, for who prunes. */
  close(): void {
    if (!this.#open) return;
    const folder = join(this.folder, this.run);
    if ([...this.#held.values()].every(({ kind, id }) => kind === 'folder' && id === folder)) {
      rmSync(folder, { recursive: true, force: true });
      this.strike('folder', folder);
    }
    if (this.#held.size > 0) return;
    this.#open = false;
    rmSync(this.#file, { force: true });
    closeSync(this.#fd);
  }

  #append(line: object): void {
    if (!this.#open) throw new Error(`the ledger of ${this.run} is closed`);
    writeSync(this.#fd, `${JSON.stringify(line)}\n`);
  }
}

/** A ledger that was read back. */
export interface LeftLedger {
  readonly file: string;
  readonly run: string;
  /** The process that keeps it, as {@link Resource} names processes. */
  readonly owner: string;
  readonly pid: number;
  /** Whether that is still there. */
  readonly alive: boolean;
  /** When it was begun, as ISO 8601; empty when the file does not say so. */
  readonly since: string;
  readonly note: RunNote;
  /** In the order in which they were made. */
  readonly held: readonly Resource[];
}

/**
 * All ledgers of a folder, the oldest first. What is no ledger is passed over; a last line that was cut off is ignored.
 */
export function readLedgers(folder = ledgerFolder()): LeftLedger[] {
  return namesIn(folder)
    .filter((name) => /^xb[0-9a-f]{8}\.ledger$/.test(name))
    .flatMap((name) => readLedger(join(folder, name), name.slice(0, -'.ledger'.length)) ?? [])
    .sort((a, b) => (a.since < b.since ? -1 : a.since > b.since ? 1 : 0));
}

/** Files of a folder that processes had not made ledgers of when they were ended. */
export function abandonedDrafts(folder = ledgerFolder()): string[] {
  return namesIn(folder).flatMap((name) => {
    const owner = /^\.xb[0-9a-f]{8}\.(\d+)-(\d+)\.draft$/.exec(name);
    return owner === null || isRunning(`${owner[1]} ${owner[2]}`) ? [] : [join(folder, name)];
  });
}

/** Throws `host-unsupported` for a folder that is a link, or that others can write: ledgers in it may be anybody's. */
function requireOwnFolder(folder: string): void {
  const about = lstatSync(folder);
  if (about.isDirectory() && isOwn(about)) return;
  throw new XdpbedError('host-unsupported', `${folder} is not a folder that only its user can write`, {
    hint: 'name another in XDPBED_STATE',
  });
}

function namesIn(folder: string): string[] {
  try {
    requireOwnFolder(folder);
    return readdirSync(folder);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    if (cause instanceof XdpbedError) throw cause;
    throw new XdpbedError('host-unsupported', `the ledgers cannot be read: ${messageOf(cause)}`, {
      cause,
      hint: 'run as root, or name a folder of your own in XDPBED_STATE',
    });
  }
}

/** Bytes of a ledger that are read: a run holds a few dozen things. */
const MAX_LEDGER_BYTES = 1024 * 1024;

/** A folder or file that nobody but this user can have written: what it says is done with this user's rights. */
function isOwn({ uid, mode }: Stats): boolean {
  return uid === process.geteuid?.() && (mode & 0o022) === 0;
}

/** Undefined when the run has closed it meanwhile, and for a file that somebody else may have written. */
function readLedger(file: string, run: string): LeftLedger | undefined {
  let content: string;
  try {
    // Of a link, the target may be anybody's; from a pipe, nothing may ever come.
    const about = lstatSync(file);
    if (!about.isFile() || !isOwn(about) || about.size > MAX_LEDGER_BYTES) return undefined;
    content = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const held = new Map<string, Resource>();
  let owner = '';
  let since = '';
  let note: RunNote = {};
  for (const text of content.split('\n')) {
    const line = parseLine(text);
    if (typeof line.owner === 'string') owner = line.owner;
    if (typeof line.since === 'string') since = line.since;
    if (line.note !== undefined) note = { ...note, ...line.note };
    if (line.add !== undefined) held.set(`${line.add.kind} ${line.add.id}`, line.add);
    if (line.gone !== undefined) held.delete(`${line.gone.kind} ${line.gone.id}`);
  }
  const pid = Number(owner.split(' ')[0]);
  return { file, run, owner, pid, alive: isRunning(owner), since, note, held: [...held.values()] };
}

interface LedgerLine {
  readonly owner?: unknown;
  readonly since?: unknown;
  readonly note?: RunNote;
  readonly add?: Resource;
  readonly gone?: Resource;
}

function parseLine(text: string): LedgerLine {
  try {
    const line: unknown = JSON.parse(text);
    return typeof line === 'object' && line !== null ? line : {};
  } catch {
    return {};
  }
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
