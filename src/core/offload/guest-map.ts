import { ENOENT, errnoName } from '../../bpf/errno.js';
import { BPF_MAP_TYPE, type MapSpec } from '../../bpf/map-spec.js';
import type { BpfMap, MapRecord } from '../../bpf/runtime/bpf-map.js';
import type { ProgramRejection } from './load-program.js';

/** What a guest's system call or netlink request comes back with. A refusal is expected, so it is a value. */
export type GuestResult<T> = { readonly ok: true; readonly value: T } | GuestFailure;

export interface GuestFailure {
  readonly ok: false;
  /** Positive, e.g. EINVAL. */
  readonly errno: number;
  /** As extack would say it. */
  readonly message: string;
  /** When the guest's own verifier said no. */
  readonly rejection?: ProgramRejection | undefined;
}

export const SUCCESS: GuestResult<void> = { ok: true, value: undefined };

export function success<T>(value: T): GuestResult<T> {
  return { ok: true, value };
}

export function failure(errno: number, message: string): GuestFailure {
  return { ok: false, errno, message };
}

export interface GuestMapEntry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Elements from a cursor on. */
export interface GuestMapBatch {
  readonly entries: readonly GuestMapEntry[];
  /** Where to go on; undefined: that were all. */
  readonly next: Uint8Array | undefined;
}

/** A map as the guest's user space sees it, wherever it lies. */
export interface GuestMap {
  readonly spec: MapSpec;
  /** Where operations go: to the guest's kernel, or over the control virtqueue to the device. */
  readonly readFrom: 'guest-kernel' | 'device';
  lookup(key: Uint8Array): Promise<GuestResult<Uint8Array>>;
  update(key: Uint8Array, value: Uint8Array, flags: bigint): Promise<GuestResult<void>>;
  delete(key: Uint8Array): Promise<GuestResult<void>>;
  getFirst(): Promise<GuestResult<Uint8Array>>;
  getNext(key: Uint8Array): Promise<GuestResult<Uint8Array>>;
  /** Absent where elements are read one by one. */
  readonly lookupBatch?:
    ((cursor: Uint8Array | undefined, count: number) => Promise<GuestResult<GuestMapBatch>>) | undefined;
  /** What programs wrote since the last call; absent where the map is none for records. */
  readonly readRecords?: (() => Promise<GuestResult<readonly MapRecord[]>>) | undefined;
}

/** Elements that are asked for at once. */
const BATCH = 1024;

/**
 * All elements of a map, in its own order. A map that changes meanwhile may show an element twice or not at
 * all, as in the kernel; the walk ends after as many keys as the map can hold, whatever the other side answers.
 */
export async function readGuestMap(
  map: GuestMap,
  /** Called for each key; what it returns is awaited. A long walk gives way to others, or ends by a throw. */
  between?: () => Promise<void> | undefined,
  /** Keys to read at most. */
  limit = map.spec.maxEntries,
): Promise<GuestResult<GuestMapEntry[]>> {
  if (map.lookupBatch !== undefined) return readBatches(map, map.lookupBatch, between, limit);
  const entries: GuestMapEntry[] = [];
  let key = await map.getFirst();
  for (let step = 0; key.ok && step < Math.min(limit, map.spec.maxEntries); step++) {
    const value = await map.lookup(key.value);
    if (value.ok) entries.push({ key: key.value, value: value.value });
    else if (value.errno !== ENOENT) return value;
    const pause = between?.();
    if (pause !== undefined) await pause;
    key = await map.getNext(key.value);
  }
  return key.ok || key.errno === ENOENT ? success(entries) : key;
}

async function readBatches(
  map: GuestMap,
  lookupBatch: NonNullable<GuestMap['lookupBatch']>,
  between: (() => Promise<void> | undefined) | undefined,
  limit: number,
): Promise<GuestResult<GuestMapEntry[]>> {
  const most = Math.min(limit, map.spec.maxEntries);
  const entries: GuestMapEntry[] = [];
  let cursor: Uint8Array | undefined;
  // Each batch but the last has an element at least, or the other side would go on for ever.
  while (entries.length < most) {
    const batch = await lookupBatch(cursor, Math.min(BATCH, most - entries.length));
    if (!batch.ok) return batch.errno === ENOENT ? success(entries) : batch;
    entries.push(...batch.value.entries);
    cursor = batch.value.next;
    if (cursor === undefined || batch.value.entries.length === 0) break;
    const pause = between?.();
    if (pause !== undefined) await pause;
  }
  return success(entries);
}

/** A map in the guest's own kernel. */
export class KernelGuestMap implements GuestMap {
  readonly readFrom = 'guest-kernel';
  readonly readRecords: GuestMap['readRecords'];

  constructor(
    readonly spec: MapSpec,
    readonly map: BpfMap,
  ) {
    const { type } = spec;
    const isForRecords =
      type === BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF || type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY;
    if (isForRecords && map.drainRecords !== undefined) {
      this.readRecords = async () => success(map.drainRecords!());
    }
  }

  async lookup(key: Uint8Array): Promise<GuestResult<Uint8Array>> {
    return bytesOrErrno(this.map.lookup(key));
  }

  async update(key: Uint8Array, value: Uint8Array, flags: bigint): Promise<GuestResult<void>> {
    return status(this.map.update(key, value, flags));
  }

  async delete(key: Uint8Array): Promise<GuestResult<void>> {
    return status(this.map.delete(key));
  }

  async getFirst(): Promise<GuestResult<Uint8Array>> {
    return bytesOrErrno(this.map.nextKey(null));
  }

  async getNext(key: Uint8Array): Promise<GuestResult<Uint8Array>> {
    return bytesOrErrno(this.map.nextKey(key));
  }
}

function bytesOrErrno(answer: Uint8Array | number): GuestResult<Uint8Array> {
  return typeof answer === 'number' ? failure(-answer, errnoName(answer)) : success(answer);
}

function status(answer: number): GuestResult<void> {
  return answer === 0 ? SUCCESS : failure(-answer, errnoName(answer));
}
