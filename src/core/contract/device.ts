import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import type { Clock } from './clock.js';
import type { HookPlace } from './hook-place.js';
import { token } from './injection.js';
import type { Party } from './party.js';
import type { ChainedPolicy, HostUsage } from './policy.js';
import type { AuditRecord, OffloadedMap, OffloadedProgram, RulingRecord } from './result.js';
import type { UnguardedChain } from './transport.js';

/**
 * Role `device`: the host's end of the guests' control queues. It takes what a guest sends, does it or refuses it, and
 * answers. One instance serves all nics of a run, as one process serves all guests of a host.
 */
export interface Device {
  readonly name: string;
  /**
   * It reads its commands out of the guest's memory itself, as often as it likes, and writes there
   * (`NicDevice.handle`, third argument). Only a device that is meant to be weak has a reason to. Needs a transport whose
   * guests' memory is in this process (`ControlServer.serveUnguarded`). Default: no.
   */
  readonly unguarded?: boolean | undefined;
  /**
   * How its thread goes through the guests' control queues, where commands take time: one command of each guest that has
   * some, by `turns`, or all that a guest has and makes available meanwhile before the next guest's (`queue`), as QEMU's
   * virtio_net_handle_ctrl does. Default: by turns.
   */
  readonly service?: 'turns' | 'queue' | undefined;
  /** The device of one guest nic, plugged in. */
  open(options: NicDeviceOptions): NicDevice | Promise<NicDevice>;
}

export interface NicDeviceOptions {
  /** Name of the guest. */
  readonly guest: string;
  /** Name of the nic in that guest. */
  readonly nic: string;
  /** The host on behalf of this nic: what the guest offloads lives and runs in it. Two nics never share one. */
  readonly party: Party;
  /** Guards of the host, in the order of the testbed. */
  readonly policies: readonly ChainedPolicy[];
  /** What guests hold of the host, of all devices together. */
  readonly accounts: HostAccounts;
  /** Where what is offloaded runs: in front of the guest, on all queues of the nic. */
  readonly place: HookPlace;
  readonly clock: Clock;
  /** What helpers of offloaded programs see of the world. */
  readonly world: HelperWorld;
  readonly events: DeviceEvents;
  /** Negotiated feature bits: they decide which commands exist. */
  readonly features: bigint;
  /** Queue pairs: the most that the guest may ask to use. */
  readonly queuePairs: number;
}

/** Where a device reports what it decided. */
export interface DeviceEvents {
  ruling(record: RulingRecord): void;
  audit(record: AuditRecord): void;
}

/** The device of one guest nic. */
export interface NicDevice {
  /**
   * What the driver finds in configuration space behind the fields of virtio, at VIRTIO_NET_CONFIG_BPF_OFFSET, if anything
   * (docs/spec/bpf-offload.md, "Device configuration"). Read once, before the driver comes up.
   */
  readonly configuration?: Uint8Array | undefined;
  /**
   * Carries out one command of the control queue; never throws or rejects. Commands of one nic come in order; what is
   * answered at once saves a turn of the event loop.
   *
   * @param request the device-readable bytes, already copied out of the guest's reach
   * @param room device-writable bytes of the chain
   * @param chain the same command where it lies in the guest's memory; only for a device that is `unguarded`
   * @returns what goes into the device-writable part, the ack last: at most `room` bytes
   */
  handle(request: Uint8Array, room: number, chain?: UnguardedChain): Uint8Array | Promise<Uint8Array>;
  /**
   * Device reset by the guest (virtio 1.3, 2.4): a program and maps of the guest's are to be gone when it settles, and
   * what is under way has no effect any more.
   */
  reset(): Promise<void>;
  /** The nic goes away. As reset, and every later command ends in an error ack. May be called more than once. */
  unplug(): Promise<void>;
  /** Settles once no command is under way: what an abandoned command had taken has then been given back. */
  idle(): Promise<void>;
  /** The guest broke a rule of the transport. */
  transportBroken(reason: string): void;
  /**
   * Gets all that the guest has on this host ready on another, while it goes on here; commands wait until the move is over.
   * Absent in a device whose guests cannot be moved.
   */
  prepareMove?(
    to: Pick<NicDeviceOptions, 'party' | 'policies' | 'accounts'>,
  ): Promise<DeviceMove | MoveRefusal>;
  /** What the host holds for the guest now; absent in a device that does not tell. */
  readonly held?: HeldObjects | undefined;
  /** What the host finds when it looks, and not what the device told a guest. */
  inspect(): DeviceInspection;
}

/** Why a guest stays where it is; nothing of it is on the other host. */
export interface MoveRefusal {
  readonly ok: false;
  readonly reason: string;
}

/** A nic's part of a guest that is ready to go. Either `abort`, or `commit` and then `finish` is called, once. */
export interface DeviceMove {
  /**
   * Copies what has changed, in the stretch in which `commit` is to be called; without it `commit` does so itself. False: it
   * cannot go, as `finish` says; nothing has been switched, so that what else belongs to the guest can stay as well.
   */
  copy(): boolean;
  /** The switch, in one stretch: no frame comes between. */
  commit(): void;
  /**
   * What came of it. After `commit` a refusal is the fault of the host's place for programs alone, and the nic is where it was; what
   * the guest does, a reset too, does not have it stay: its other nics have gone.
   */
  finish(): Promise<MoveReport | MoveRefusal>;
  abort(): Promise<void>;
}

/** What was moved. */
export interface MoveReport {
  readonly maps: number;
  readonly programs: number;
  /** Of keys, values and records, copied while the guest's programs ran on the host that it leaves. */
  readonly bytesBefore: number;
  /** Of what had changed since, copied while no frame met a program. */
  readonly bytesAtSwitch: number;
}

/** What the host holds for the guest of one nic, as the host tells it. */
export interface HeldObjects {
  /** What runs in front of the guest. */
  readonly program: Omit<OffloadedProgram, 'name' | 'verdicts'> | undefined;
  /** All maps, those included that only a program keeps alive, in the order in which they were made. */
  readonly maps: readonly OffloadedMap[];
}

/** What the host finds of one nic's device. */
export interface DeviceInspection {
  /** Maps and programs that the host holds for the guest, those included that the guest can no longer name. */
  readonly held: Pick<HostUsage, 'maps' | 'programs' | 'mapMemory'> & {
    /** Bytes of BTF. Default: none, as where the protocol has none. */
    readonly btfMemory?: number | undefined;
    /** Handles and names of pins, each of which takes its place in a table. Default: as many as there are maps and programs. */
    readonly names?: number | undefined;
  };
  /** Bytes that commands of the guest had the device allocate at the same time, maps not included; the most so far. */
  readonly peakCommandBytes: number;
  /**
   * What the device's process has that is not this guest's, by name, and what state it is in: `open`, say, or a
   * digest of its content. Compared before and after. Empty where nothing of the kind can be named at all.
   */
  readonly belongings: ReadonlyMap<string, string>;
  /** Bytes that the device has written to a log of its own, of what this guest did. */
  readonly logBytes: number;
  /** Accesses to memory beyond what the device had allocated for the command, in words; the first few. */
  readonly strayAccesses: readonly string[];
}

/** One thing that the host holds on behalf of a guest. */
export interface Charge {
  readonly guest: string;
  readonly amount: HostUsage;
  /** Takes the charge off the account; the second and later calls do nothing. */
  release(): void;
}

/** Who holds how much of the host; one for all devices of it. */
export interface HostAccounts {
  /** What a guest holds, less `except` when a request must not be counted against itself. */
  usageOf(guest: string, except?: Charge): HostUsage;
  /** What all guests hold together, less `except`. */
  totalUsage(except?: Charge): HostUsage;
  /** Written before the thing is made and released when it is gone. */
  charge(guest: string, amount: Partial<HostUsage>): Charge;
}

/** What a device plugin binds. */
export const DEVICE = token<Device>('device');
