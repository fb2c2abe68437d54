import { appendFileSync, closeSync, openSync } from 'node:fs';
import type { StreamEvent } from '../core/contract/event.js';
import { messageOf, XdpbedError } from '../core/diagnostic.js';
import { eventLine } from '../report/event-line.js';

/**
 * What was decided on guests' requests, in a file of its own: the lines that reporter `ndjson` writes of rulings and
 * audit records, each written as it happens, so that one that follows the file, or reads it after a crash, misses none.
 * Unlike in the result, none is counted with another or dropped.
 */
export class AuditFile {
  readonly #descriptor: number;

  /** Throws `file-unwritable` for a file that cannot be made; what is in one that is there is lost. */
  constructor(readonly path: string) {
    try {
      this.#descriptor = openSync(path, 'w');
    } catch (cause) {
      throw unwritable(path, cause);
    }
  }

  /** Takes note of rulings and audit records, and of nothing else. Throws `file-unwritable`. */
  onEvent(event: StreamEvent): void {
    if (event.event !== 'ruling' && event.event !== 'audit') return;
    try {
      appendFileSync(this.#descriptor, `${eventLine(event)}\n`);
    } catch (cause) {
      throw unwritable(this.path, cause);
    }
  }

  close(): void {
    closeSync(this.#descriptor);
  }
}

function unwritable(path: string, cause: unknown): XdpbedError {
  return new XdpbedError('file-unwritable', `cannot write ${path}: ${messageOf(cause)}`, { cause });
}
