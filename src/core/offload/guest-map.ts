import { ENOENT, errnoName } from '../../bpf/errno.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
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
}

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

/** A map in the guest's own kernel. */
export class KernelGuestMap implements GuestMap {
  readonly readFrom = 'guest-kernel';

  constructor(
    readonly spec: MapSpec,
    readonly map: BpfMap,
  ) {}

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
