import { EFAULT, EINVAL } from '../../bpf/errno.js';
import { BPF_MAP_TYPE, type MapSpec } from '../../bpf/map-spec.js';
import { syscallValueSize } from '../../bpf/per-cpu-value.js';
import type { MapRecord } from '../../bpf/runtime/bpf-map.js';
import type { DeviceClient } from './device-client.js';
import {
  failure,
  success,
  SUCCESS,
  type GuestMap,
  type GuestMapBatch,
  type GuestResult,
} from './guest-map.js';
import type { BpfReply } from './protocol/control-protocol.js';

const T = BPF_MAP_TYPE;
/** Types whose elements come in batches. */
const BATCHED: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_LPM_TRIE,
]);
/** Bytes of records that are asked for at once. */
const RECORD_BYTES = 64 * 1024;
/** Bytes of elements in one batch. */
const BATCH_BYTES = 256 * 1024;

/** A map on the device: each operation is a control command. */
export class DeviceMap implements GuestMap {
  readonly readFrom = 'device';
  /** Bytes, of all CPUs together. */
  readonly valueSize: number;
  readonly lookupBatch: GuestMap['lookupBatch'];
  readonly readRecords: GuestMap['readRecords'];

  constructor(
    readonly spec: MapSpec,
    /** The device's name for it. */
    readonly handle: number,
    private readonly device: DeviceClient,
    /** Values in a per-CPU map. */
    cpus = 1,
    /** Elements of a batch at most. */
    private readonly maxBatch = 1,
  ) {
    this.valueSize = syscallValueSize(spec, cpus);
    const { requests } = device.protocol;
    if (requests.has('lookup-batch') && BATCHED.has(spec.type)) {
      this.lookupBatch = (cursor, count) => this.#lookupBatch(cursor, count);
    }
    if (requests.has('read-records') && spec.type === T.BPF_MAP_TYPE_RINGBUF) {
      this.readRecords = () => this.#readRecords();
    }
  }

  async lookup(key: Uint8Array): Promise<GuestResult<Uint8Array>> {
    const { handle, valueSize } = this;
    const sent = await this.device.request({ kind: 'lookup-elem', handle, key, valueSize });
    if (!sent.ok) return sent;
    return sent.value.kind === 'value' ? success(sent.value.value) : NO_BYTES;
  }

  async update(key: Uint8Array, value: Uint8Array, flags: bigint): Promise<GuestResult<void>> {
    if (value.length !== this.valueSize) {
      return failure(EINVAL, `a value of ${value.length} bytes, the map has ${this.valueSize}`);
    }
    return withoutValue(
      await this.device.request({ kind: 'update-elem', handle: this.handle, key, value, flags }),
    );
  }

  async delete(key: Uint8Array): Promise<GuestResult<void>> {
    const { handle, valueSize } = this;
    return withoutValue(await this.device.request({ kind: 'delete-elem', handle, key, valueSize }));
  }

  async getFirst(): Promise<GuestResult<Uint8Array>> {
    const { handle, valueSize, spec } = this;
    return keyOf(await this.device.request({ kind: 'get-first', handle, keySize: spec.keySize, valueSize }));
  }

  async getNext(key: Uint8Array): Promise<GuestResult<Uint8Array>> {
    const { handle, valueSize } = this;
    return keyOf(await this.device.request({ kind: 'get-next', handle, key, valueSize }));
  }

  /** No more updates from this side. */
  async freeze(): Promise<GuestResult<void>> {
    return withoutValue(await this.device.request({ kind: 'freeze-map', handle: this.handle }));
  }

  /** Gives up the handle. On the host the map lives on while something else keeps it: an attached program, a pin. */
  async free(): Promise<GuestResult<void>> {
    const { handle } = this;
    const kind = this.device.protocol.requests.has('close') ? 'close' : 'free-map';
    return withoutValue(await this.device.request({ kind, handle }));
  }

  async #lookupBatch(cursor: Uint8Array | undefined, count: number): Promise<GuestResult<GuestMapBatch>> {
    const { handle, valueSize } = this;
    const { keySize } = this.spec;
    const fit = Math.max(1, Math.floor(BATCH_BYTES / (keySize + valueSize)));
    const sent = await this.device.request({
      kind: 'lookup-batch',
      handle,
      keySize,
      valueSize,
      count: Math.min(count, this.maxBatch, fit),
      cursor,
      remove: false,
    });
    if (!sent.ok) return sent;
    if (sent.value.kind !== 'elements') return NO_BYTES;
    const { count: found, keys, values, next } = sent.value;
    const entries = Array.from({ length: found }, (_, index) => ({
      key: keys.subarray(index * keySize, (index + 1) * keySize),
      value: values.subarray(index * valueSize, (index + 1) * valueSize),
    }));
    return success({ entries, next });
  }

  async #readRecords(): Promise<GuestResult<readonly MapRecord[]>> {
    const sent = await this.device.request({
      kind: 'read-records',
      handle: this.handle,
      bytes: RECORD_BYTES,
    });
    if (!sent.ok) return sent;
    return sent.value.kind === 'records' ? success(sent.value.records) : NO_BYTES;
  }
}

const NO_BYTES = failure(EFAULT, 'the device answered without what was asked for');

function keyOf(sent: GuestResult<BpfReply>): GuestResult<Uint8Array> {
  if (!sent.ok) return sent;
  return sent.value.kind === 'key' ? success(sent.value.key) : NO_BYTES;
}

function withoutValue(sent: GuestResult<BpfReply>): GuestResult<void> {
  return sent.ok ? SUCCESS : sent;
}
