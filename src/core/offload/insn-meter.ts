import type { Clock, Picoseconds } from '../contract/clock.js';
import type { ProgramWork } from '../contract/executor.js';
import type { ChainedPolicy } from '../contract/policy.js';
import { chained, tellChain } from './policy-chain.js';

/** A nic whose guest's programs do work on the host. */
interface MeteredNic {
  readonly guest: string;
  readonly nic: string;
  readonly work: () => ProgramWork | undefined;
  insns: number;
  time: Picoseconds;
}

/**
 * Tells policies how many insns the host has executed on behalf of each guest. Programs count as they run, and nobody
 * is called for it: so who is about to rule on a program is told first, of all nics.
 */
export class InsnMeter {
  readonly #nics: MeteredNic[] = [];

  constructor(
    readonly policies: readonly ChainedPolicy[],
    readonly clock: Clock,
  ) {}

  /** Whether any policy wants to be told. */
  get isWanted(): boolean {
    return this.policies.some(({ countsInsns }) => countsInsns === true);
  }

  /** @param work what the nic's programs have done; undefined as long as none was loaded, or where it is not counted. */
  add(guest: string, nic: string, work: () => ProgramWork | undefined): void {
    this.#nics.push({ guest, nic, work, insns: 0, time: this.clock.now() });
  }

  /** The same policies, each told before it rules on a program. */
  metered(): readonly ChainedPolicy[] {
    return this.policies.map((policy) => {
      if (policy.countsInsns !== true) return policy;
      const { dryRun, endsChain, configPath } = policy;
      return {
        ...chained(policy, { dryRun, endsChain, configPath }),
        rule: (request) => {
          if (request.operation === 'program-load') this.tell();
          return policy.rule(request);
        },
      };
    });
  }

  /** Tells what was executed since it was told last. */
  tell(): void {
    const time = this.clock.now();
    for (const metered of this.#nics) {
      const { guest, nic, work, time: since } = metered;
      const total = work()?.insns ?? 0;
      const insns = total - metered.insns;
      metered.insns = total;
      metered.time = time;
      if (insns > 0) tellChain(this.policies, { kind: 'insns', guest, nic, time, since, insns });
    }
  }
}
