import { ENOENT, EOPNOTSUPP } from '../../../bpf/errno.js';
import { BPF_MAP_TYPE } from '../../../bpf/map-spec.js';
import type { BpfMap } from '../../../bpf/runtime/bpf-map.js';
import { isQueueOrStack, putQueueValues, takeQueueValues } from '../../../bpf/runtime/queue-values.js';

const T = BPF_MAP_TYPE;

/** What was written to make one map like another. */
export interface CopiedContent {
  readonly elements: number;
  /** Of keys and values, or of records. */
  readonly bytes: number;
}

/**
 * Makes the content of one map that of another, in one go, so that nothing comes between. Elements that are there already
 * are left alone, so that what was copied before costs a comparison. What a map keeps beside its elements does not come
 * along: in which order an LRU map would give them up.
 *
 * Returns a negative errno when an element cannot be read or written (maps of BPF_F_RDONLY, BPF_F_WRONLY; queues that are
 * frozen), or a backend cannot copy records. Maps of maps and of programs are not copied here.
 */
export function copyMapContent(from: BpfMap, to: BpfMap): CopiedContent | number {
  const { type } = from.attributes;
  if (isQueueOrStack(type)) return copyQueue(from, to);
  if (type === T.BPF_MAP_TYPE_RINGBUF) return copyRecords(from, to);
  const isArray = type === T.BPF_MAP_TYPE_ARRAY || type === T.BPF_MAP_TYPE_PERCPU_ARRAY;
  if (!isArray) {
    const status = dropOthers(from, to);
    if (status !== 0) return status;
  }
  const first = from.nextKey(null);
  if (typeof first === 'number' && first !== -ENOENT) return first;
  let elements = 0;
  let bytes = 0;
  for (const key of keysOf(from)) {
    const value = from.lookup(key);
    // It may be gone where programs run beside this; anything else, a map that may not be read say, is no copy.
    if (value === -ENOENT) continue;
    if (typeof value === 'number') return value;
    const there = to.lookup(key);
    if (there instanceof Uint8Array && equal(there, value)) continue;
    const status = to.update(key, value, 0n);
    if (status !== 0) return status;
    elements++;
    bytes += key.length + value.length;
  }
  return { elements, bytes };
}

/** Elements of the copy whose keys the original does not have any more. */
function dropOthers(from: BpfMap, to: BpfMap): number {
  for (const key of [...keysOf(to)]) {
    const there = from.lookup(key);
    if (there instanceof Uint8Array) continue;
    if (there !== -ENOENT) return there;
    const status = to.delete(key);
    if (status !== 0) return status;
  }
  return 0;
}

/** There are no keys to go by: all are taken out, and put into both. */
function copyQueue(from: BpfMap, to: BpfMap): CopiedContent | number {
  const old = takeQueueValues(to);
  if (typeof old === 'number') return old;
  const values = takeQueueValues(from);
  if (typeof values === 'number') return values;
  putQueueValues(from, values);
  const status = putQueueValues(to, values);
  const bytes = values.reduce((sum, { length }) => sum + length, 0);
  return status === 0 ? { elements: values.length, bytes } : status;
}

/** With what nobody has read, and how much was lost: programs go on in the copy as if it were the original. */
function copyRecords(from: BpfMap, to: BpfMap): CopiedContent | number {
  const bytes = to.copyRecords?.(from) ?? -EOPNOTSUPP;
  return bytes < 0 ? bytes : { elements: 0, bytes };
}

function* keysOf(map: BpfMap): Generator<Uint8Array> {
  let key = map.nextKey(null);
  for (let step = 0; typeof key !== 'number' && step < map.attributes.maxEntries; step++) {
    yield key;
    key = map.nextKey(key);
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
