import type { AttackEntry } from './attack-entry.js';
import { COMMAND_ATTACKS } from './command-attacks.js';
import { EXHAUSTION_ATTACKS } from './exhaustion-attacks.js';
import { HANDLE_ATTACKS } from './handle-attacks.js';
import { PROGRAM_ATTACKS } from './program-attacks.js';
import { PROTOCOL_2_COMMAND_ATTACKS } from './protocol-2-command-attacks.js';
import { PROTOCOL_2_OBJECT_ATTACKS } from './protocol-2-object-attacks.js';
import { RING_ATTACKS } from './ring-attacks.js';

/** Every attack, in the order of the docs: over RFC 2019's protocol, over protocol 2, on the ring. */
export const ATTACKS: readonly AttackEntry[] = [
  ...HANDLE_ATTACKS,
  ...COMMAND_ATTACKS,
  ...EXHAUSTION_ATTACKS,
  ...PROGRAM_ATTACKS,
  ...PROTOCOL_2_OBJECT_ATTACKS,
  ...PROTOCOL_2_COMMAND_ATTACKS,
  ...RING_ATTACKS,
];
