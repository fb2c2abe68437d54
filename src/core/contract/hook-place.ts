import type { LoadedProgram } from './executor.js';
import type { VerdictCounts } from './result.js';

/**
 * A place where an XDP program can be put: the receive path of a guest's driver, the host's side of a tap, a
 * hook of the running kernel. It holds one program at most.
 */
export interface HookPlace {
  /**
   * No program runs while the caller does not wait, and `Attachment.replace` has taken effect when it returns, before it
   * settles: what is done before it in the same stretch, no frame comes between. Default: programs run beside the caller.
   */
  readonly replacesAtOnce?: boolean | undefined;
  /** Puts a program where none is. Throws when it cannot be put there, and then nothing is. */
  attach(program: LoadedProgram): Promise<Attachment>;
}

/** A program in its place. */
export interface Attachment {
  /**
   * Puts another program in its stead in one step: no frame meets neither or both. On a throw the old one stays; after
   * `detach` it throws.
   */
  replace(program: LoadedProgram): Promise<void>;
  /** Takes the program away; the second and later calls do nothing. */
  detach(): Promise<void>;
  /** What the programs of this attachment returned so far, and after `detach` what they had returned. */
  counters(): Promise<VerdictCounts>;
}
