import type { Attack, HostileGuest, Invariant } from '../../src/core/contract/attack.js';
import { Attacker } from './attacker.js';
import type { AttackEntry } from './attack-entry.js';

/** One attack of the table. */
export class Rfc2019Attack implements Attack {
  readonly name = 'rfc-2019';

  constructor(readonly entry: AttackEntry) {}

  get attack(): string {
    return this.entry.name;
  }

  get aims(): readonly Invariant[] {
    return this.entry.aims;
  }

  run(guest: HostileGuest): Promise<void> {
    return this.entry.run(new Attacker(guest));
  }
}
