import type { Attack, HostileGuest, Invariant } from '../../src/core/contract/attack.js';
import { BPF_OFFLOAD } from '../../src/core/offload/protocol/bpf-offload/bpf-offload.js';
import { RFC_2019 } from '../../src/core/offload/protocol/rfc-2019/rfc-2019.js';
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
    const protocol = this.entry.protocol === 'bpf-offload' ? BPF_OFFLOAD : RFC_2019;
    return this.entry.run(new Attacker(guest, protocol));
  }
}
