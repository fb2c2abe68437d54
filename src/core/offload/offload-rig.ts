import { BPF_MAP_TYPE, type MapInitialEntry, type MapSpec } from '../../bpf/map-spec.js';
import {
  decodeEbpfResponse,
  ebpfResponseBytes,
  encodeEbpfCommand,
  type EbpfCommand,
  type EbpfResult,
} from '../../virtio/index.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { Party } from '../contract/fabric.js';
import type { Policy } from '../contract/policy.js';
import type { AuditRecord } from '../contract/result.js';
import type { DriverPort } from '../contract/transport.js';
import { OffloadNetdev, type OffloadNetdevOptions } from './guest-driver.js';
import { HostLedger } from './host-ledger.js';
import { RulingLog } from './policy-chain.js';
import { QemuDevice, type OffloadHook, type QemuDeviceOptions } from './qemu-device.js';

/** A hook that keeps what is attached to it. */
export class RecordingHook implements OffloadHook {
  program: LoadedProgram | undefined;
  /** Every call, oldest first. */
  readonly history: ('attach' | 'detach')[] = [];

  attach(program: LoadedProgram): void {
    this.history.push('attach');
    this.program = program;
  }

  detach(): void {
    this.history.push('detach');
    this.program = undefined;
  }
}

export interface OffloadRigOptions {
  /** The host on behalf of the guest. */
  readonly host: Party;
  /** The guest's own kernel. */
  readonly guest: Party;
  /** Name of the guest; default `guest0`. */
  readonly name?: string | undefined;
  readonly policies?: readonly Policy[] | undefined;
  readonly ledger?: HostLedger | undefined;
  readonly queuePairs?: number | undefined;
  readonly device?: Partial<QemuDeviceOptions> | undefined;
  readonly netdev?: Partial<OffloadNetdevOptions> | undefined;
}

/**
 * A guest driver and a device back to back, without a transport and without a fabric: the offload path alone,
 * for tests and for measuring. What a hostile guest would send goes in through `send` and `sendBytes`.
 */
export class OffloadRig {
  readonly ledger: HostLedger;
  readonly rulings = new RulingLog();
  readonly audit: AuditRecord[] = [];
  readonly hooks: readonly RecordingHook[];
  readonly driverHook = new RecordingHook();
  readonly device: QemuDevice;
  readonly netdev: OffloadNetdev;

  constructor(options: OffloadRigOptions) {
    const guest = options.name ?? 'guest0';
    this.ledger = options.ledger ?? new HostLedger();
    this.hooks = Array.from({ length: options.queuePairs ?? 1 }, () => new RecordingHook());
    this.device = new QemuDevice({
      guest,
      nic: 'eth0',
      party: options.host,
      policies: options.policies ?? [],
      ledger: this.ledger,
      hooks: this.hooks,
      events: {
        ruling: (record) => this.rulings.add(record),
        audit: (record) => void this.audit.push(record),
      },
      host: { trace: () => {} },
      ...options.device,
    });
    this.netdev = new OffloadNetdev({
      guest,
      nic: 'eth0',
      port: directPort(this.device),
      party: options.guest,
      host: { trace: () => {} },
      hook: this.driverHook,
      ...options.netdev,
    });
  }

  /** What a guest sends that keeps to the format and to nothing else. */
  async send(command: EbpfCommand): Promise<EbpfResult> {
    const written = await this.sendBytes(encodeEbpfCommand(command), ebpfResponseBytes(command));
    const response = decodeEbpfResponse(command, written);
    if (!response.ok) throw new RangeError(response.detail);
    return response.result;
  }

  /** What a guest sends that keeps to nothing. */
  sendBytes(readable: Uint8Array, writableLength: number): Promise<Uint8Array> {
    return this.device.handleControl(readable, writableLength);
  }

  /** CREATE_MAP of an array of 8-byte values: its handle. */
  async createArray(maxEntries = 4): Promise<number> {
    const result = await this.send({
      kind: 'create-map',
      mapType: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
      keySize: 4,
      valueSize: 8,
      maxEntries,
      mapFlags: 0,
    });
    if (result.kind !== 'handle') throw new RangeError(`CREATE_MAP ended in ${result.kind}`);
    return result.handle;
  }
}

/** Control commands without a virtqueue; there is no way for frames. */
export function directPort(device: QemuDevice): DriverPort {
  return {
    control: (readable, writableLength) => {
      const bytes = Uint8Array.from(readable.flatMap((part) => [...part]));
      return device.handleControl(bytes, writableLength);
    },
    refill: () => {},
    receive: () => [],
    send: () => false,
    kick: () => {},
  };
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
