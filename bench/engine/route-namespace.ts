import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { CLONE_NEWNET, enterNamespace, OWN_NAMESPACE } from '../../src/linux/namespace-files.js';
import { libc } from '../../src/linux/libc.js';

/** A network namespace without a name, which goes with this process at the latest: where the kernel has routes of its own. */
export class RouteNamespace {
  readonly #home = openSync(OWN_NAMESPACE, 'r');
  readonly #there: number;

  /** @param commands of ip(8), in order. The loopback device forwards. */
  constructor(commands: readonly string[]) {
    const status = libc().unshare(CLONE_NEWNET);
    if (status < 0) {
      closeSync(this.#home);
      throw new Error(`unshare: ${status}`);
    }
    this.#there = openSync(OWN_NAMESPACE, 'r');
    try {
      // A process is made in the namespace of the thread that starts it, and what is here of /proc/sys/net as well.
      execFileSync('ip', ['-batch', '-'], {
        input: commands.join('\n'),
        stdio: ['pipe', 'inherit', 'inherit'],
      });
      writeFileSync('/proc/sys/net/ipv4/conf/lo/forwarding', '1');
    } catch (error) {
      enterNamespace(this.#home, 'of this process');
      this.close();
      throw error;
    }
    enterNamespace(this.#home, 'of this process');
  }

  /** Runs synchronous `work` with the calling thread in there. */
  run<T>(work: () => T): T {
    enterNamespace(this.#there, 'of routes');
    try {
      return work();
    } finally {
      enterNamespace(this.#home, 'of this process');
    }
  }

  close(): void {
    closeSync(this.#there);
    closeSync(this.#home);
  }
}
