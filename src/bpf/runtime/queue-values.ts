import { ENOENT } from '../errno.js';
import { BPF_MAP_TYPE } from '../map-spec.js';
import type { BpfMap } from './bpf-map.js';

const NO_KEY = new Uint8Array();

/** Of maps whose values have no keys: the system call sees only the one that comes out next. */
export function isQueueOrStack(type: number): boolean {
  return type === BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE || type === BPF_MAP_TYPE.BPF_MAP_TYPE_STACK;
}

/**
 * Takes all values out of a queue or stack, in the order in which they come; or -errno where that is not allowed: of one that
 * is frozen, or that the system call may only read or only write.
 */
export function takeQueueValues(map: BpfMap): Uint8Array[] | number {
  const values: Uint8Array[] = [];
  // A program beside this may go on putting some in.
  while (values.length < map.attributes.maxEntries) {
    const value = map.lookupAndDelete(NO_KEY);
    if (value === -ENOENT) break;
    if (typeof value === 'number') return value;
    values.push(value);
  }
  return values;
}

/** Puts values into an empty queue or stack so that they come out in this order. 0, or the last -errno of those that failed. */
export function putQueueValues(map: BpfMap, values: readonly Uint8Array[]): number {
  // A stack gives back last what was pushed first.
  const isStack = map.attributes.type === BPF_MAP_TYPE.BPF_MAP_TYPE_STACK;
  let failed = 0;
  for (const value of isStack ? values.toReversed() : values) {
    const status = map.update(NO_KEY, value, 0n);
    if (status !== 0) failed = status;
  }
  return failed;
}

/** As `takeQueueValues`, and has the values in it again. */
export function readQueueValues(map: BpfMap): Uint8Array[] | number {
  const values = takeQueueValues(map);
  if (typeof values === 'number') return values;
  const status = putQueueValues(map, values);
  return status === 0 ? values : status;
}
