import { createHash } from 'node:crypto';
import { EBADF, EINVAL } from '../../src/bpf/errno.js';
import type { MapAttributes } from '../../src/bpf/map-spec.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { PretendHeap } from './pretend-heap.js';

/** Elements of a map that go into its digest. */
const DIGESTED_ELEMENTS = 256;

/** What a file descriptor is open on. */
export type Description =
  | { readonly kind: 'file'; readonly name: string; readonly owner: string }
  | {
      readonly kind: 'map';
      readonly name: string;
      /** `guest.nic` on whose behalf it was created. */
      readonly owner: string;
      readonly map: BpfMap;
      readonly attributes: MapAttributes;
      /** Bytes of the host's memory. */
      readonly memoryBytes: number;
      /** Descriptors and programs that keep it alive. */
      references: number;
    }
  | {
      /** What protocol 2 has besides maps. */
      readonly kind: 'program' | 'link' | 'btf';
      readonly name: string;
      readonly owner: string;
      /** Bytes that it takes of the host's memory, as far as anybody counts them. */
      readonly memoryBytes: number;
      references: number;
      /** Called when nothing keeps it alive any more. */
      readonly close: () => void;
    };
export type MapDescription = Extract<Description, { kind: 'map' }>;
export type FileDescription = Extract<Description, { kind: 'file' }>;
/** What is counted by references. */
export type ObjectDescription = Exclude<Description, FileDescription>;

/** What a process that serves guests has open besides what they ask for. */
const OWN_FILES = [
  'stdin',
  'stdout',
  'stderr',
  '/dev/kvm',
  'the monitor’s socket',
  'the log file',
  '/dev/vhost-net',
] as const;

/**
 * The process that RFC 2019's handler runs in, but for show: a table of file descriptors of its own, none of which is one of
 * the real process, and a heap of its own. A number that a guest sends is looked up here and nowhere else. The lowest
 * free number is the next to be given out, as POSIX has it.
 *
 * QEMU has a process for each guest; here one serves all of a run, as a back end of vhost-user may: so what one guest does to
 * another's map is done to a map that the other really uses.
 */
export class PretendProcess {
  readonly heap = new PretendHeap();
  readonly #descriptors = new Map<number, Description>();
  /** No descriptor below it is free. */
  #lowestFree = 0;
  /** Everything that was ever open, in order, and whether its owner closed it. */
  readonly #opened = new Map<
    Description,
    { readonly id: number; state: 'open' | 'closed' | 'closed by its owner' }
  >();
  /** The same by number, from 1. */
  readonly #byId: Description[] = [];
  /** Who is at work: the process has one thread for all of its guests. */
  #busy: Promise<unknown> | undefined;

  constructor() {
    for (const name of OWN_FILES) this.open({ kind: 'file', name, owner: 'the host' });
  }

  open(description: Description): number {
    let fd = this.#lowestFree;
    while (this.#descriptors.has(fd)) fd++;
    this.#lowestFree = fd + 1;
    this.#descriptors.set(fd, description);
    if (!this.#opened.has(description)) {
      this.#opened.set(description, { id: this.#byId.push(description), state: 'open' });
    }
    return fd;
  }

  /** close(2): 0 or -errno. Whose descriptor it is, it does not ask. */
  close(fd: number, by: string): number {
    const description = this.#descriptors.get(fd);
    if (description === undefined) return -EBADF;
    this.#descriptors.delete(fd);
    this.#lowestFree = Math.min(this.#lowestFree, fd);
    const record = this.#opened.get(description);
    if (record !== undefined && !this.#isOpen(description))
      record.state = description.owner === by ? 'closed by its owner' : 'closed';
    if (description.kind !== 'file') this.release(description);
    return 0;
  }

  #isOpen(description: Description): boolean {
    for (const each of this.#descriptors.values()) if (each === description) return true;
    return false;
  }

  /** What a descriptor is open on; undefined: nothing. */
  description(fd: number): Description | undefined {
    return this.#descriptors.get(fd);
  }

  /** The map behind a descriptor, as bpf(2) finds it, or -errno. */
  map(fd: number): MapDescription | number {
    const description = this.#descriptors.get(fd);
    if (description === undefined) return -EBADF;
    return description.kind === 'map' ? description : -EINVAL;
  }

  release(description: ObjectDescription): void {
    if (description.references > 0 && --description.references === 0) destroy(description);
  }

  /** Frees an object, whoever still uses it. */
  free(description: ObjectDescription): void {
    if (description.references === 0) return;
    description.references = 0;
    destroy(description);
  }

  /** Objects of a kind that are alive on behalf of a nic. */
  objectsOf<K extends ObjectDescription['kind']>(owner: string, kind: K): ObjectDescription[] {
    return this.#byId.flatMap((description) =>
      description.kind === kind && description.owner === owner && description.references > 0
        ? [description]
        : [],
    );
  }

  /** Maps that are alive on behalf of a nic. */
  mapsOf(owner: string): MapDescription[] {
    return this.objectsOf(owner, 'map') as MapDescription[];
  }

  /** Descriptors that are open on objects of a nic. */
  descriptorsOf(owner: string): number {
    let count = 0;
    for (const each of this.#descriptors.values()) if (each.kind !== 'file' && each.owner === owner) count++;
    return count;
  }

  /** The number of an object in the process, from 1, whoever it belongs to. */
  idOf(description: Description): number {
    return this.#opened.get(description)?.id ?? 0;
  }

  /** An object that is there, by its number. */
  byId(kind: ObjectDescription['kind'], id: number): ObjectDescription | undefined {
    const found = this.#byId[id - 1];
    return found?.kind === kind && found.references > 0 ? found : undefined;
  }

  /** The lowest number above `after`. */
  idAfter(kind: ObjectDescription['kind'], after: number): number | undefined {
    for (let id = after + 1; id <= this.#byId.length; id++) {
      if (this.byId(kind, id) !== undefined) return id;
    }
    return undefined;
  }

  /** Closes what is open on behalf of a nic, as the end of its guest's process would. */
  closeAllOf(owner: string): void {
    for (const [fd, description] of [...this.#descriptors]) {
      if (description.owner === owner) this.close(fd, owner);
    }
  }

  /** What is open that is not the nic's, by name, and in which state. */
  belongings(except: string): Map<string, string> {
    const states = new Map<string, string>();
    for (const [description, { state }] of this.#opened) {
      if (description.owner === except) continue;
      const content =
        description.kind === 'map' && description.references > 0 && state === 'open'
          ? `, ${digest(description.map)}`
          : '';
      states.set(`${description.name} of ${description.owner}`, `${state}${content}`);
    }
    return states;
  }

  /** Runs `work` when the thread is free: at once if that is so. */
  alone<T>(work: () => T | Promise<T>): T | Promise<T> {
    if (this.#busy !== undefined) return this.#occupy(this.#busy.then(work));
    const result = work();
    return result instanceof Promise ? this.#occupy(result) : result;
  }

  #occupy<T>(run: Promise<T>): Promise<T> {
    const settled = run.then(
      () => undefined,
      () => undefined,
    );
    this.#busy = settled;
    void settled.then(() => {
      if (this.#busy === settled) this.#busy = undefined;
    });
    return run;
  }
}

function destroy(description: ObjectDescription): void {
  if (description.kind === 'map') description.map.close();
  else description.close();
}

function digest(map: BpfMap): string {
  const hash = createHash('sha256');
  let key = map.nextKey(null);
  for (let count = 0; typeof key !== 'number' && count < DIGESTED_ELEMENTS; count++) {
    const value = map.lookup(key);
    hash.update(key);
    if (typeof value !== 'number') hash.update(value);
    key = map.nextKey(key);
  }
  return hash.digest('hex').slice(0, 16);
}
