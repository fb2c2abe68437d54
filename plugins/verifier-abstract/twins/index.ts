import { ADDRESS_TWINS } from './address-twins.js';
import { BOUNDARY_TWINS } from './boundary-twins.js';
import { CALL_TWINS, FLOW_TWINS } from './call-and-flow-twins.js';
import { LOCK_TWINS } from './lock-twins.js';
import { OUTPUT_TWINS } from './output-twins.js';
import { PACKET_TWINS } from './packet-twins.js';
import { POINTER_TYPE_TWINS } from './pointer-type-twins.js';
import { PRUNING_TWINS } from './pruning-twins.js';
import { PUBLISHED_TWINS } from './published-twins.js';
import { STACK_TWINS } from './stack-and-leak-twins.js';
import type { Twin } from './twin.js';
import { VALUE_TWINS } from './value-twins.js';

export { TWIN_MAPS, type Twin } from './twin.js';

/** Every unsafe pattern that has a case of ours, with its safe counterpart. */
export const TWINS: readonly Twin[] = [
  ...PACKET_TWINS,
  ...VALUE_TWINS,
  ...STACK_TWINS,
  ...OUTPUT_TWINS,
  ...CALL_TWINS,
  ...FLOW_TWINS,
  ...PRUNING_TWINS,
  ...POINTER_TYPE_TWINS,
  ...ADDRESS_TWINS,
  ...BOUNDARY_TWINS,
  ...LOCK_TWINS,
  ...PUBLISHED_TWINS,
];
