import { closeSync, fstatSync, openSync } from 'node:fs';
import type { Ledger } from './ledger.js';
import {
  enterNamespace,
  makeNamespace,
  NETNS_FOLDER,
  OWN_NAMESPACE,
  removeNamespace,
} from './namespace-files.js';
import { endMembers } from './namespace-members.js';
import type { NetworkNamespace } from './network-namespace.js';

/**
 * A network namespace that this process made, under a name that `ip netns` knows, so that a person can look into it
 * while it is there. It goes when it is closed; interfaces in it, and programs on them, go with it.
 */
export class OwnedNamespace implements NetworkNamespace {
  readonly #ledger: Ledger;
  #fd: number | undefined;
  /** The namespace of the main thread. */
  readonly #home: number;
  readonly #inode: bigint;

  private constructor(
    readonly name: string,
    ledger: Ledger,
  ) {
    this.#ledger = ledger;
    this.#fd = openSync(`${NETNS_FOLDER}/${name}`, 'r');
    this.#home = openSync(OWN_NAMESPACE, 'r');
    this.#inode = fstatSync(this.#fd, { bigint: true }).ino;
    ledger.add('netns', name, String(this.#inode));
  }

  /** Makes namespaces of these names, all or none. Throws `host-unsupported` without the right to. */
  static create(names: readonly string[], ledger: Ledger): OwnedNamespace[] {
    const made: OwnedNamespace[] = [];
    try {
      for (const name of names) {
        ledger.add('netns', name);
        makeNamespace(name);
        try {
          made.push(new OwnedNamespace(name, ledger));
        } catch (error) {
          removeNamespace(name);
          throw error;
        }
      }
      return made;
    } catch (error) {
      for (const namespace of made) namespace.close();
      // The last one was not made.
      for (const name of names) ledger.strike('netns', name);
      throw error;
    }
  }

  run<T>(work: () => T): T {
    if (this.#fd === undefined) throw new Error(`network namespace ${this.name} is closed`);
    enterNamespace(this.#fd, this.name);
    try {
      return work();
    } finally {
      enterNamespace(this.#home, 'of this process');
    }
  }

  /**
   * Ends whoever is in namespaces of a run, for these to be closed. From now on nobody goes in, who asks the run's ledger.
   * Throws `leftovers` where somebody stays.
   */
  static async vacate(namespaces: readonly OwnedNamespace[], ledger: Ledger): Promise<void> {
    ledger.note({ ending: true });
    const open = namespaces.filter((namespace) => namespace.#fd !== undefined);
    await endMembers(new Set(open.map((namespace) => namespace.#inode)));
  }

  close(): void {
    if (this.#fd === undefined) return;
    closeSync(this.#fd);
    closeSync(this.#home);
    this.#fd = undefined;
    removeNamespace(this.name);
    this.#ledger.strike('netns', this.name);
  }
}
