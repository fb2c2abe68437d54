import type { AuditRecord, RulingRecord } from '../contract/result.js';

/** Records of each kind that are kept of one guest. */
export const DEFAULT_RECORD_LIMIT = 1024;

/**
 * What was decided on guests' requests, for the result of a run: rulings and audit records in the order in which they
 * first came. How many are kept of each guest is limited, so that a guest that asks without end neither fills the
 * host's memory nor crowds out what is known of the others; what is not kept is counted.
 *
 * A ruling that equals the policy's last on the same operation and nic is counted, not repeated: the record has the
 * numbers of the first. Of a guest with as many records as are kept, one that equals any of these is counted there.
 */
export class OffloadRecords {
  /** Ours: the counts go up. */
  readonly #rulings: Mutable<RulingRecord>[] = [];
  readonly #audit: AuditRecord[] = [];
  readonly #guests = new Map<string, GuestRecords>();
  #droppedRulings = 0;
  #droppedAudit = 0;

  constructor(readonly limit = DEFAULT_RECORD_LIMIT) {}

  get rulings(): readonly RulingRecord[] {
    return this.#rulings;
  }

  get audit(): readonly AuditRecord[] {
    return this.#audit;
  }

  /** Records that were not kept. */
  get dropped(): { readonly rulings: number; readonly audit: number } {
    return { rulings: this.#droppedRulings, audit: this.#droppedAudit };
  }

  addRuling(record: RulingRecord): void {
    const guest = this.#guest(record.guest);
    const { nic, operation, policy } = record;
    const last = guest.last.get(nic)?.get(operation)?.get(policy);
    if (last !== undefined && isSameRuling(last, record)) {
      last.count += record.count;
      return;
    }
    const isFull = guest.rulings >= this.limit;
    const whole = `${nic}\0${operation}\0${policy}\0${record.ruling}\0${record.dryRun ?? false}\0${record.reason}`;
    const earlier = isFull ? guest.kept.get(whole) : undefined;
    if (earlier !== undefined) {
      earlier.count += record.count;
      return;
    }
    if (isFull) {
      this.#droppedRulings += record.count;
      return;
    }
    guest.rulings++;
    const kept = { ...record };
    within(within(guest.last, nic), operation).set(policy, kept);
    guest.kept.set(whole, kept);
    this.#rulings.push(kept);
  }

  addAudit(record: AuditRecord): void {
    const guest = this.#guest(record.guest);
    if (guest.audit >= this.limit) {
      this.#droppedAudit++;
      return;
    }
    guest.audit++;
    this.#audit.push(record);
  }

  #guest(name: string): GuestRecords {
    let guest = this.#guests.get(name);
    if (guest === undefined)
      this.#guests.set(name, (guest = { rulings: 0, audit: 0, last: new Map(), kept: new Map() }));
    return guest;
  }
}

function isSameRuling(one: RulingRecord, other: RulingRecord): boolean {
  return one.ruling === other.ruling && one.reason === other.reason && one.dryRun === other.dryRun;
}

function within<V>(map: Map<string, Map<string, V>>, key: string): Map<string, V> {
  let inner = map.get(key);
  if (inner === undefined) map.set(key, (inner = new Map<string, V>()));
  return inner;
}

interface GuestRecords {
  rulings: number;
  audit: number;
  /**
   * The last ruling that was kept, by nic, operation and policy: in maps of maps, because a key made of the three would be
   * made for each ruling, and hashed anew.
   */
  readonly last: Map<string, Map<string, Map<string, Mutable<RulingRecord>>>>;
  /** Of all that say the same of the same, the last that was kept. */
  readonly kept: Map<string, Mutable<RulingRecord>>;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
