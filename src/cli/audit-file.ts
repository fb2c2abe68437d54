import { appendFileSync, closeSync, openSync } from 'node:fs';
import type { StreamEvent } from '../core/contract/event.js';
import { messageOf, XdpbedError } from '../core/diagnostic.js';
import { eventLine } from '../report/event-line.js';

/** Bytes of one guest's lines in a file: some 300,000 commands with two policies. */
export const MAX_AUDIT_BYTES = 256 << 20;

/**
 * What was decided on guests' requests, in a file of its own: the lines that reporter `ndjson` writes of rulings and
 * audit records, each written as it happens, so that one that follows the file, or reads it after a crash, misses none.
 * Unlike in the result, none is counted with another. Each guest has room of its own, so that none fills the disk, nor the file
 * for the others: of what there is no room for, the last lines give the number (`event: audit-dropped`).
 */
export class AuditFile {
  readonly #descriptor: number;
  readonly #guests = new Map<string, { bytes: number; dropped: { rulings: number; audit: number } }>();

  /**
   * Throws `file-unwritable` for a file that cannot be made; what is in one that is there is lost.
   * @param bytesPerGuest of a guest's lines at most
   */
  constructor(
    readonly path: string,
    readonly bytesPerGuest = MAX_AUDIT_BYTES,
  ) {
    try {
      this.#descriptor = openSync(path, 'w');
    } catch (cause) {
      throw unwritable(path, cause);
    }
  }

  /** Takes note of rulings and audit records, and of nothing else. Throws `file-unwritable`. */
  onEvent(event: StreamEvent): void {
    if (event.event !== 'ruling' && event.event !== 'audit') return;
    let guest = this.#guests.get(event.record.guest);
    if (guest === undefined)
      this.#guests.set(event.record.guest, (guest = { bytes: 0, dropped: { rulings: 0, audit: 0 } }));
    const { dropped } = guest;
    if (guest.bytes < this.bytesPerGuest) {
      const line = Buffer.from(`${eventLine(event)}\n`);
      guest.bytes += line.length;
      if (guest.bytes <= this.bytesPerGuest) return this.#append(line);
      // The first that is left out is the end: what came before the number is without a gap.
      guest.bytes = this.bytesPerGuest;
    }
    if (event.event === 'ruling') dropped.rulings++;
    else dropped.audit++;
  }

  /** Throws `file-unwritable` when the numbers of what was dropped cannot be written; the file is closed all the same. */
  close(): void {
    try {
      for (const [guest, { dropped }] of this.#guests) {
        if (dropped.rulings + dropped.audit === 0) continue;
        this.#append(`${eventLine({ event: 'audit-dropped', guest, ...dropped })}\n`);
      }
    } finally {
      closeSync(this.#descriptor);
    }
  }

  #append(text: string | Uint8Array): void {
    try {
      appendFileSync(this.#descriptor, text);
    } catch (cause) {
      throw unwritable(this.path, cause);
    }
  }
}

function unwritable(path: string, cause: unknown): XdpbedError {
  return new XdpbedError('file-unwritable', `cannot write ${path}: ${messageOf(cause)}`, { cause });
}
