import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import type { HelperWorld } from '../../bpf/runtime/helper-world.js';
import type { Clock } from '../contract/clock.js';
import type { HostAccounts } from '../contract/device.js';
import type { HookPlace } from '../contract/hook-place.js';
import type { Party } from '../contract/party.js';
import type { ChainedPolicy } from '../contract/policy.js';
import type { RulingRecord } from '../contract/result.js';
import type { DeviceCapabilities } from './protocol/capabilities.js';
import type { DeviceReport } from './protocol/object-info.js';

export interface GuestBpfLimits {
  /** Objects of all kinds, at most 4096. */
  readonly maxObjects: number;
  /** Names that objects are pinned under. */
  readonly maxPins: number;
  /**
   * Bytes that maps, their elements, programs and BTF may take together (`heldBytes` in bpf-scope.ts): a bound whatever policies
   * say.
   */
  readonly maxBytes: number;
  /** BPF_MAP_TYPE_* that are created. */
  readonly mapTypes: readonly number[];
}

/** RFC 2019, guest driver rules. */
export const RFC_2019_MAP_TYPES: readonly number[] = [
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
];

/**
 * What works on nothing but the guest's own objects. Maps of devices, CPUs and sockets lead elsewhere on the host
 * (docs/decisions/0005).
 */
export const OFFLOADABLE_MAP_TYPES: readonly number[] = [
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_HASH_OF_MAPS,
  BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_STACK,
  BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF,
];

export const DEFAULT_GUEST_BPF_LIMITS: GuestBpfLimits = {
  maxObjects: 4096,
  maxPins: 1024,
  maxBytes: 256 * 1024 * 1024,
  mapTypes: RFC_2019_MAP_TYPES,
};

export interface GuestBpfOptions {
  readonly guest: string;
  readonly nic: string;
  /** The host on behalf of this guest. Two guests never share a party. */
  readonly party: Party;
  readonly policies: readonly ChainedPolicy[];
  readonly accounts: HostAccounts;
  /** Where what is offloaded runs: in front of the guest, on all queues of the nic. */
  readonly place: HookPlace;
  readonly clock: Clock;
  /** What helpers of offloaded programs see of the world. */
  readonly world: HelperWorld;
  readonly limits?: Partial<GuestBpfLimits> | undefined;
  /** What the device is able to do, where its protocol asks for it. */
  readonly capabilities?: (() => DeviceCapabilities) | undefined;
  /** Commands that were answered, and of these those that ended in an error. */
  readonly answered?: (() => Pick<DeviceReport, 'commands' | 'errors'>) | undefined;
  readonly onRuling: (record: RulingRecord) => void;
  /** Told of what failed where nobody waits for an answer: a map that cannot be closed, a place that does not let go. */
  readonly onFailure: (command: string, error: unknown) => void;
}
