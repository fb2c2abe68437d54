import type { AuditRecord, RulingRecord } from '../contract/result.js';

/** Records of each kind that are kept of one guest. */
export const DEFAULT_RECORD_LIMIT = 1024;

/**
 * What was decided on guests' requests, for the result of a run: rulings and audit records in the order in which they
 * first came. How many are kept of each guest is limited, so that a guest that asks without end neither fills the
 * host's memory nor crowds out what is known of the others; what is not kept is counted.
 *
 * A ruling that equals the policy's last on the same operation and guest is counted, not repeated.
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
    let byPolicy = guest.last.get(record.operation);
    if (byPolicy === undefined)
      guest.last.set(record.operation, (byPolicy = new Map<string, Mutable<RulingRecord>>()));
    const last = byPolicy.get(record.policy);
    if (last !== undefined && last.ruling === record.ruling && last.reason === record.reason) {
      last.count += record.count;
      return;
    }
    if (guest.rulings >= this.limit) {
      this.#droppedRulings += record.count;
      return;
    }
    guest.rulings++;
    const kept = { ...record };
    byPolicy.set(record.policy, kept);
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
    if (guest === undefined) this.#guests.set(name, (guest = { rulings: 0, audit: 0, last: new Map() }));
    return guest;
  }
}

interface GuestRecords {
  rulings: number;
  audit: number;
  /** The last ruling that was kept, by operation and policy. */
  readonly last: Map<string, Map<string, Mutable<RulingRecord>>>;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
