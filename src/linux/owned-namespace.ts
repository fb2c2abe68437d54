import { closeSync, openSync } from 'node:fs';
import { errnoName } from '../bpf/errno.js';
import { XdpbedError } from '../core/diagnostic.js';
import { runIp } from './iproute2.js';
import type { Ledger } from './ledger.js';
import { libc } from './libc.js';
import type { NetworkNamespace } from './network-namespace.js';

/** include/uapi/linux/sched.h */
const CLONE_NEWNET = 0x4000_0000;

/**
 * A network namespace that this process made, under a name that `ip netns` knows, so that a person can look into it
 * while it is there. It goes when it is closed; interfaces in it, and programs on them, go with it.
 */
export class OwnedNamespace implements NetworkNamespace {
  readonly #ledger: Ledger;
  #fd: number | undefined;
  /** The namespace of the main thread. */
  #home: number;

  private constructor(
    readonly name: string,
    ledger: Ledger,
  ) {
    this.#ledger = ledger;
    this.#fd = openSync(`/run/netns/${name}`, 'r');
    this.#home = openSync('/proc/thread-self/ns/net', 'r');
  }

  /** Makes namespaces of these names, all or none. Throws `host-unsupported` without the right to. */
  static async create(names: readonly string[], ledger: Ledger): Promise<OwnedNamespace[]> {
    const made: OwnedNamespace[] = [];
    try {
      for (const name of names) ledger.add('netns', name);
      await runIp(names.map((name) => `netns add ${name}`));
      for (const name of names) made.push(new OwnedNamespace(name, ledger));
      return made;
    } catch (error) {
      for (const namespace of made) namespace.#release();
      await removeNamespaces(names);
      for (const name of names) ledger.strike('netns', name);
      throw error;
    }
  }

  run<T>(work: () => T): T {
    if (this.#fd === undefined) throw new Error(`network namespace ${this.name} is closed`);
    enter(this.#fd, this.name);
    try {
      return work();
    } finally {
      enter(this.#home, 'of this process');
    }
  }

  async close(): Promise<void> {
    if (this.#fd === undefined) return;
    this.#release();
    await removeNamespaces([this.name]);
    this.#ledger.strike('netns', this.name);
  }

  #release(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    closeSync(this.#home);
    this.#fd = undefined;
  }
}

/** Removes those of the namespaces that are there. */
export async function removeNamespaces(names: readonly string[]): Promise<void> {
  const there = new Set(await listNamespaces());
  const commands = [...new Set(names)]
    .filter((name) => there.has(name))
    .map((name) => `netns delete ${name}`);
  if (commands.length > 0) await runIp(commands);
}

/** Names of the network namespaces that `ip netns` knows. */
async function listNamespaces(): Promise<string[]> {
  const { readdir } = await import('node:fs/promises');
  // Without the folder there is none yet.
  return readdir('/run/netns').catch(() => []);
}

function enter(fd: number, name: string): void {
  const result = libc().setns(fd, CLONE_NEWNET);
  if (result < 0) {
    throw new XdpbedError(
      'host-unsupported',
      `network namespace ${name} cannot be entered: ${errnoName(result)}`,
      {
        hint: 'it needs CAP_SYS_ADMIN',
      },
    );
  }
}
