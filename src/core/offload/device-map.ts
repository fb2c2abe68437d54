import { EFAULT, EINVAL } from '../../bpf/errno.js';
import type { MapSpec } from '../../bpf/map-spec.js';
import { failure, success, SUCCESS, type GuestMap, type GuestResult } from './guest-map.js';
import type { BpfReply, BpfRequest } from './protocol/control-protocol.js';

/** A map on the device: each operation is a control command. */
export class DeviceMap implements GuestMap {
  readonly readFrom = 'device';

  constructor(
    readonly spec: MapSpec,
    /** The device's name for it. */
    readonly handle: number,
    private readonly send: (command: BpfRequest) => Promise<GuestResult<BpfReply>>,
  ) {}

  async lookup(key: Uint8Array): Promise<GuestResult<Uint8Array>> {
    const { handle } = this;
    const sent = await this.send({ kind: 'lookup-elem', handle, key, valueSize: this.spec.valueSize });
    if (!sent.ok) return sent;
    return sent.value.kind === 'value' ? success(sent.value.value) : NO_BYTES;
  }

  async update(key: Uint8Array, value: Uint8Array, flags: bigint): Promise<GuestResult<void>> {
    if (value.length !== this.spec.valueSize) {
      return failure(EINVAL, `a value of ${value.length} bytes, the map has ${this.spec.valueSize}`);
    }
    return withoutValue(await this.send({ kind: 'update-elem', handle: this.handle, key, value, flags }));
  }

  async delete(key: Uint8Array): Promise<GuestResult<void>> {
    const { valueSize } = this.spec;
    return withoutValue(await this.send({ kind: 'delete-elem', handle: this.handle, key, valueSize }));
  }

  async getFirst(): Promise<GuestResult<Uint8Array>> {
    const { keySize, valueSize } = this.spec;
    return keyOf(await this.send({ kind: 'get-first', handle: this.handle, keySize, valueSize }));
  }

  async getNext(key: Uint8Array): Promise<GuestResult<Uint8Array>> {
    const { valueSize } = this.spec;
    return keyOf(await this.send({ kind: 'get-next', handle: this.handle, key, valueSize }));
  }

  /** FREE_MAP. On the host it lives on while an attached program uses it. */
  async free(): Promise<GuestResult<void>> {
    return withoutValue(await this.send({ kind: 'free-map', handle: this.handle }));
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
