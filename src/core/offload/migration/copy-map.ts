import { ENOENT, ENOSPC, ENOTSUPP, EOPNOTSUPP } from '../../../bpf/errno.js';
import { BPF_MAP_TYPE } from '../../../bpf/map-spec.js';
import type { BpfMap, CopiedElements, MapBatch } from '../../../bpf/runtime/bpf-map.js';
import { isQueueOrStack, putQueueValues, takeQueueValues } from '../../../bpf/runtime/queue-values.js';

const T = BPF_MAP_TYPE;
/** Elements that are copied between two places where others may have their turn. */
const ELEMENTS_AT_ONCE = 256;
/** Bytes of elements that are as much work as an element, and of records, which are copied as they are. */
const BYTES_PER_STEP = 1024;
/** A longer value takes a buffer beside the heap each time that it is read, which is as much work as two elements. */
const SHORT_VALUE = 64;
const RECORD_BYTES_PER_STEP = 4096;

/** What was written to make one map like another. */
export interface CopiedContent extends CopiedElements {
  /** Of keys and values, or of records. */
  readonly bytes: number;
}

/**
 * The most steps that it takes to go through a map and its copy, of 0.2 to 1.4 µs each: by the entries that it may have, and
 * how long they are. Going through a trie takes as long as its keys are deep, for each of them.
 */
export function stepsOfCopy({ attributes, syscallValueSize }: BpfMap): number {
  const { type, keySize, maxEntries } = attributes;
  if (type === T.BPF_MAP_TYPE_RINGBUF) return Math.ceil(maxEntries / RECORD_BYTES_PER_STEP);
  const each =
    (syscallValueSize > SHORT_VALUE ? 3 : 1) + Math.floor((keySize + syscallValueSize) / BYTES_PER_STEP);
  return maxEntries * (type === T.BPF_MAP_TYPE_LPM_TRIE ? Math.max(each, 8 * keySize) : each);
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
  const copying = copyInPortions(from, to);
  for (;;) {
    const { done, value } = copying.next();
    if (done === true) return value;
  }
}

/**
 * As `copyMapContent`, and stops after each portion: who goes on later may find that what was copied has changed since, and
 * -E2BIG where elements that were copied made room for others in the original.
 */
export function* copyInPortions(from: BpfMap, to: BpfMap): Generator<void, CopiedContent | number> {
  const { type } = from.attributes;
  // Nothing may come between what is taken out and what is put back.
  if (isQueueOrStack(type)) return copyQueue(from, to);
  if (type === T.BPF_MAP_TYPE_RINGBUF) return copyRecords(from, to);
  const copied = to.copyElements?.(from) ?? -EOPNOTSUPP;
  if (copied !== -EOPNOTSUPP) return copied;
  const isArray = type === T.BPF_MAP_TYPE_ARRAY || type === T.BPF_MAP_TYPE_PERCPU_ARRAY;
  if (!isArray) {
    const status = yield* dropOthers(from, to);
    if (status !== 0) return status;
  }
  let elements = 0;
  let bytes = 0;
  for (const portion of portionsOf(from)) {
    if (typeof portion === 'number') return portion;
    for (const { key, value } of portion) {
      const there = to.lookup(key);
      if (there instanceof Uint8Array && Buffer.compare(there, value) === 0) continue;
      const status = to.update(key, value, 0n);
      if (status !== 0) return status;
      elements++;
      bytes += key.length + value.length;
    }
    yield;
  }
  return { elements, bytes };
}

/** Elements of the copy whose keys the original does not have any more. */
function* dropOthers(from: BpfMap, to: BpfMap): Generator<void, number> {
  const others: Uint8Array[] = [];
  for (const portion of portionsOf(to)) {
    if (typeof portion === 'number') return portion;
    for (const { key } of portion) {
      const there = from.lookup(key);
      if (there === -ENOENT) others.push(key);
      else if (typeof there === 'number') return there;
    }
    yield;
  }
  // Not before: the way from key to key may begin anew where one is gone.
  for (const key of others) {
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

/** What is in a map, some at a time; a negative errno, and no more, when it cannot be read. */
function* portionsOf(map: BpfMap): Generator<MapBatch['entries'] | number> {
  const { maxEntries } = map.attributes;
  let cursor: Uint8Array | null = null;
  let count = ELEMENTS_AT_ONCE;
  for (let left = maxEntries; left > 0;) {
    const batch = lookupBatch(map, cursor, count);
    if (batch === -ENOSPC && count < maxEntries) {
      // More elements than that belong together.
      count *= 2;
      continue;
    }
    if (typeof batch === 'number') {
      if (batch !== -ENOENT) yield batch;
      return;
    }
    yield batch.entries;
    cursor = batch.next;
    if (cursor === null) return;
    left -= Math.max(1, batch.entries.length);
  }
}

function lookupBatch(map: BpfMap, cursor: Uint8Array | null, count: number): MapBatch | number {
  const batch = map.lookupBatch(cursor, count);
  return batch === -ENOTSUPP || batch === -EOPNOTSUPP ? byKey(map, cursor, count) : batch;
}

/** Of maps that know no batches; the cursor is the last key. */
function byKey(map: BpfMap, cursor: Uint8Array | null, count: number): MapBatch | number {
  const entries: { key: Uint8Array; value: Uint8Array }[] = [];
  let key = map.nextKey(cursor);
  let last = cursor;
  for (let step = 0; typeof key !== 'number' && step < count; step++) {
    const value = map.lookup(key);
    // It may be gone where programs run beside this, or an index with nothing in it; anything else is no copy.
    if (typeof value !== 'number') entries.push({ key, value });
    else if (value !== -ENOENT) return value;
    last = key;
    key = map.nextKey(key);
  }
  if (typeof key !== 'number') return { entries, next: last };
  return key === -ENOENT ? { entries, next: null } : key;
}
