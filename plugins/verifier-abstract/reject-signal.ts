import type { RejectionCode } from './rejection-codes.js';

/** What the place that finds a problem knows of it; explain.ts makes a Rejection of it. */
export interface Finding {
  readonly code: RejectionCode;
  /** One sentence, lower-case. */
  readonly reason: string;
  /** Slot of the offending insn; undefined when the program as a whole is at fault. */
  readonly insn?: number | undefined;
  /** The registers at fault, most important first. */
  readonly registers?: readonly number[] | undefined;
  readonly suggestion?: string | undefined;
}

/** Thrown where a problem is found and caught by the exploration; never leaves this plugin. */
export class RejectSignal extends Error {
  constructor(readonly finding: Finding) {
    super(finding.reason);
  }
}
