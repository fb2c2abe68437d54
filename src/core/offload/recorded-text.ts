import { printable } from '../printable.js';

/** UTF-16 code units of a reason that is recorded at most: it may repeat what a guest sent. */
export const MAX_REASON = 4096;

/** Text of a policy's, a verifier's or a guest's as it is recorded: on one line, printable, and of `most` code units at most. */
export function recordedText(text: string, most = MAX_REASON): string {
  // Cut first: what is thrown away must not cost anything.
  return printable(text.slice(0, most)).slice(0, most);
}
