import type { Invariant } from '../../src/core/contract/attack.js';
import type { Attacker } from './attacker.js';

/** One row of the table of attacks: what is said of it, and what is done. */
export interface AttackEntry {
  readonly name: string;
  /** What must hold, and why: one or two sentences, for the testbed's description and the docs. */
  readonly mustHold: string;
  /** What is done. */
  readonly does: string;
  /** Which of the ten defects of RFC 2019's handler it is for, or in words what else. */
  readonly defect: number | string;
  /**
   * What has the fault that it is for, where there is one: the device (the default), or the ring, which is the transport's
   * and the same whichever the device. Those fail on every device; that they bite is shown in ring-attacks.test.ts.
   */
  readonly target?: 'device' | 'ring';
  /**
   * What both guests negotiate, and the attacker speaks. Default: RFC 2019's. `none`: the attacker negotiates neither, and its
   * neighbour RFC 2019's.
   */
  readonly protocol?: 'rfc-2019' | 'bpf-offload' | 'none';
  readonly aims: readonly Invariant[];
  /** What stops it: files of this repository, from its root. */
  readonly stoppedBy: readonly string[];
  /** Tests of that, from the root. */
  readonly tests: readonly string[];
  run(attacker: Attacker): Promise<void>;
}
