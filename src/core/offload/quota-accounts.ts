import type { Charge, HostAccounts } from '../contract/device.js';
import type { HostUsage } from '../contract/policy.js';

export type { Charge } from '../contract/device.js';

/** What nobody holds. */
export const NO_USAGE: HostUsage = { maps: 0, mapMemory: 0, entries: 0, programs: 0, insns: 0, btfMemory: 0 };

/**
 * Who holds how much of the host: for each guest, over all of its nics, and for all guests together. Shared by
 * all devices of a host, because a limit on the total means nothing to a device that sees one guest only.
 *
 * A charge is written before the thing is made and taken off when it is gone, so that two guests whose requests
 * are under way at the same time cannot both be granted the last of something.
 */
export class QuotaAccounts implements HostAccounts {
  readonly #byGuest = new Map<string, HostUsage>();
  #total: HostUsage = NO_USAGE;

  /** What a guest holds, less `except` when a request must not be counted against itself. */
  usageOf(guest: string, except?: Charge): HostUsage {
    const usage = this.#byGuest.get(guest) ?? NO_USAGE;
    return except === undefined ? usage : combine(usage, except.amount, -1);
  }

  /** What all guests hold together, less `except`. */
  totalUsage(except?: Charge): HostUsage {
    return except === undefined ? this.#total : combine(this.#total, except.amount, -1);
  }

  /** Guests that hold anything. */
  get guests(): readonly string[] {
    return [...this.#byGuest.keys()];
  }

  charge(guest: string, amount: Partial<HostUsage>): Charge {
    const whole: HostUsage = { ...NO_USAGE, ...amount };
    this.#add(guest, whole, 1);
    let released = false;
    return {
      guest,
      amount: whole,
      release: () => {
        if (released) return;
        released = true;
        this.#add(guest, whole, -1);
      },
    };
  }

  #add(guest: string, amount: HostUsage, sign: 1 | -1): void {
    this.#total = combine(this.#total, amount, sign);
    const usage = combine(this.#byGuest.get(guest) ?? NO_USAGE, amount, sign);
    if (isNothing(usage)) this.#byGuest.delete(guest);
    else this.#byGuest.set(guest, usage);
  }
}

function combine(a: HostUsage, b: HostUsage, sign: 1 | -1): HostUsage {
  return {
    maps: a.maps + sign * b.maps,
    mapMemory: a.mapMemory + sign * b.mapMemory,
    entries: a.entries + sign * b.entries,
    programs: a.programs + sign * b.programs,
    insns: a.insns + sign * b.insns,
    btfMemory: a.btfMemory + sign * b.btfMemory,
  };
}

function isNothing(usage: HostUsage): boolean {
  return Object.values(usage).every((amount) => amount === 0);
}
