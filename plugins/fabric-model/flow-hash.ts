import { flowHash } from '../../src/packet/index.js';

/** Which queue a flow goes to: by its hash, so that it keeps to one, in both directions. */
export function flowQueue(bytes: Uint8Array, queues: number): number {
  return queues === 1 ? 0 : flowHash(bytes) % queues;
}
