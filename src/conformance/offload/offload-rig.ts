import { BPF_MAP_TYPE, type MapInitialEntry, type MapSpec } from '../../bpf/map-spec.js';
import { VirtualClock } from '../../core/clock/virtual-clock.js';
import type { LoadedProgram } from '../../core/contract/executor.js';
import type { Attachment, HookPlace } from '../../core/contract/hook-place.js';
import type { Party } from '../../core/contract/party.js';
import type { Policy } from '../../core/contract/policy.js';
import { emptyVerdictCounts } from '../../core/contract/result.js';
import type { ControlClient } from '../../core/contract/transport.js';
import { ControlEndpoint, type ControlEndpointOptions } from '../../core/offload/control-endpoint.js';
import { OffloadNetdev, type OffloadNetdevOptions } from '../../core/offload/offload-netdev.js';
import { OffloadRecords } from '../../core/offload/offload-records.js';
import type { BpfReply, BpfRequest, ControlProtocol } from '../../core/offload/protocol/control-protocol.js';
import { RFC_2019 } from '../../core/offload/protocol/rfc-2019/rfc-2019.js';
import { QuotaAccounts } from '../../core/offload/quota-accounts.js';
import { concatenate } from '../../virtio/concatenate.js';
import { featureSet, VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ } from '../../virtio/index.js';

/** A place that keeps what is attached to it. */
export class RecordingPlace implements HookPlace {
  program: LoadedProgram | undefined;
  /** What was done, oldest first. */
  readonly history: ('attach' | 'replace' | 'detach')[] = [];
  /** What the place does before it does what it is asked: takes its time, or throws. */
  onAttach: (() => Promise<void>) | undefined;
  onReplace: (() => Promise<void>) | undefined;
  onDetach: (() => Promise<void>) | undefined;

  async attach(program: LoadedProgram): Promise<Attachment> {
    if (this.onAttach !== undefined) await this.onAttach();
    this.history.push('attach');
    this.program = program;
    let attached = true;
    return {
      replace: async (other) => {
        if (this.onReplace !== undefined) await this.onReplace();
        this.history.push('replace');
        this.program = other;
      },
      detach: async () => {
        if (this.onDetach !== undefined) await this.onDetach();
        if (!attached) return;
        attached = false;
        this.history.push('detach');
        this.program = undefined;
      },
      counters: async () => emptyVerdictCounts(),
    };
  }
}

export interface OffloadRigOptions {
  /** The host on behalf of the guest. */
  readonly host: Party;
  /** The guest's own kernel. */
  readonly guest: Party;
  /** Name of the guest; default `guest0`. */
  readonly name?: string | undefined;
  /** What driver and device speak; default RFC 2019's. */
  readonly protocol?: ControlProtocol | undefined;
  readonly policies?: readonly Policy[] | undefined;
  readonly accounts?: QuotaAccounts | undefined;
  readonly device?: Partial<ControlEndpointOptions> | undefined;
  readonly netdev?: Partial<OffloadNetdevOptions> | undefined;
}

/** What the rig's driver and device agree on, unless they speak another protocol than RFC 2019's. */
export const RIG_FEATURES = rigFeatures(RFC_2019);

function rigFeatures({ feature }: ControlProtocol): bigint {
  return featureSet(VIRTIO_F_VERSION_1, VIRTIO_NET_F_CTRL_VQ, feature);
}

/**
 * A guest driver and a device back to back, without a transport and without a fabric: the offload path alone,
 * for tests and for measuring. What a hostile guest would send goes in through `send` and `sendBytes`.
 */
export class OffloadRig {
  readonly accounts: QuotaAccounts;
  readonly records = new OffloadRecords();
  readonly clock = new VirtualClock();
  readonly place = new RecordingPlace();
  readonly driverPlace = new RecordingPlace();
  readonly device: ControlEndpoint;
  readonly netdev: OffloadNetdev;
  readonly protocol: ControlProtocol;

  constructor(options: OffloadRigOptions) {
    const guest = options.name ?? 'guest0';
    const protocol = options.protocol ?? RFC_2019;
    this.protocol = protocol;
    this.accounts = options.accounts ?? new QuotaAccounts();
    this.device = new ControlEndpoint({
      guest,
      nic: 'eth0',
      party: options.host,
      policies: options.policies ?? [],
      accounts: this.accounts,
      place: this.place,
      clock: this.clock,
      world: { trace: () => {} },
      events: {
        ruling: (record) => this.records.addRuling(record),
        audit: (record) => this.records.addAudit(record),
      },
      features: rigFeatures(protocol),
      protocol,
      queuePairs: 1,
      ...options.device,
    });
    this.netdev = new OffloadNetdev({
      guest,
      nic: 'eth0',
      control: directClient(this.device),
      protocol,
      party: options.guest,
      world: { trace: () => {} },
      hook: this.driverPlace,
      ...options.netdev,
    });
  }

  get audit(): OffloadRecords['audit'] {
    return this.records.audit;
  }

  /** What a guest sends that keeps to the format and to nothing else. */
  async send(request: BpfRequest): Promise<BpfReply> {
    const { protocol } = this;
    const bytes = protocol.encodeRequest(request);
    const written = await this.sendBytes(bytes, protocol.replyBytes(request));
    const answer = protocol.decodeReply(request, bytes, written);
    if (!answer.ok) throw new RangeError(answer.detail);
    return answer.reply;
  }

  /** What a guest sends that keeps to nothing. */
  async sendBytes(readable: Uint8Array, room: number): Promise<Uint8Array> {
    return this.device.handle(readable, room);
  }

  /** CREATE_MAP of an array of 8-byte values: its handle. */
  async createArray(maxEntries = 4): Promise<number> {
    const reply = await this.send({
      kind: 'create-map',
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries,
      mapFlags: 0,
    });
    if (reply.kind !== 'handle') throw new RangeError(`CREATE_MAP ended in ${reply.kind}`);
    return reply.handle;
  }
}

/** A control channel without a transport. */
export function directClient(device: ControlEndpoint): ControlClient {
  return { send: async (parts, room) => device.handle(concatenate(parts), room) };
}

export function mapSpec(
  name: string,
  attributes: Partial<Omit<MapSpec, 'name' | 'initial'>> = {},
  initial: readonly MapInitialEntry[] = [],
): MapSpec {
  return {
    name,
    type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
    keySize: 4,
    valueSize: 8,
    maxEntries: 4,
    flags: 0,
    ...attributes,
    initial,
  };
}

/** A u32, little-endian: the key of an array. */
export function u32Key(index: number): Uint8Array {
  return Uint8Array.of(index & 0xff, (index >>> 8) & 0xff, (index >>> 16) & 0xff, index >>> 24);
}
