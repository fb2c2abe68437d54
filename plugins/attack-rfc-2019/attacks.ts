import type { AttackEntry } from './attack-entry.js';
import { COMMAND_ATTACKS } from './command-attacks.js';
import { EXHAUSTION_ATTACKS } from './exhaustion-attacks.js';
import { HANDLE_ATTACKS } from './handle-attacks.js';
import { PROGRAM_ATTACKS } from './program-attacks.js';
import { RING_ATTACKS } from './ring-attacks.js';

/** Every attack over RFC 2019's protocol, in the order of the docs. */
export const ATTACKS: readonly AttackEntry[] = [
  ...HANDLE_ATTACKS,
  ...COMMAND_ATTACKS,
  ...EXHAUSTION_ATTACKS,
  ...PROGRAM_ATTACKS,
  ...RING_ATTACKS,
];
