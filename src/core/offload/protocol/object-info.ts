import type { VerdictCounts } from '../../contract/result.js';
import type { HostUsage } from '../../contract/policy.js';

/** What a device holds for a guest, by the numbers that protocols use. */
export const OBJECT_KINDS = ['map', 'program', 'link', 'btf'] as const;
export type ObjectKind = (typeof OBJECT_KINDS)[number];

/**
 * Where a link can be: one place for each nic, on the way to the guest, that serves all of its queues. Numbers of a
 * protocol's own, so that there is room for more.
 */
export const HOOK_POINT = { RX: 0 } as const;

interface Identity {
  /** From 1, of objects of a kind on this device; never given twice. */
  readonly id: number;
  /** For people; may be empty. */
  readonly name: string;
}

export interface MapInfo extends Identity {
  readonly kind: 'map';
  /** BPF_MAP_TYPE_* */
  readonly type: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; as the guest passes one, of all CPUs together where there is one for each. */
  readonly valueSize: number;
  readonly maxEntries: number;
  /** BPF_F_* of map creation. */
  readonly flags: number;
  readonly frozen: boolean;
  /** Bytes of the host's memory, as quotas count it. */
  readonly memoryBytes: number;
  /** Id of the BTF object; 0: none. */
  readonly btf: number;
  readonly keyType: number;
  readonly valueType: number;
}

export interface ProgramInfo extends Identity {
  readonly kind: 'program';
  /** 8 bytes: what names a program by its insns (kernel/bpf/core.c bpf_prog_calc_tag). */
  readonly tag: Uint8Array;
  readonly insnCount: number;
  readonly gplCompatible: boolean;
  /** Nanoseconds of the device's clock. */
  readonly loadTime: bigint;
  /** Insns that the verifier went through. */
  readonly verifiedInsns: number;
  /** Id of the BTF object of its debug information; 0: none. */
  readonly btf: number;
  /** Ids, ascending. */
  readonly maps: readonly number[];
}

export interface LinkInfo extends Identity {
  readonly kind: 'link';
  /** Id of the program that is attached; 0 after detaching. */
  readonly program: number;
  /** {@link HOOK_POINT} */
  readonly hook: number;
  /** What programs of this link returned so far. */
  readonly verdicts: VerdictCounts;
}

export interface BtfInfo extends Identity {
  readonly kind: 'btf';
  /** Bytes of the section. */
  readonly size: number;
}

export type ObjectInfo = MapInfo | ProgramInfo | LinkInfo | BtfInfo;

/** What a device did for its guest and what it holds for it. */
export interface DeviceReport {
  /** Commands answered, this one not included. */
  readonly commands: number;
  /** Of these, those that ended in an error. */
  readonly errors: number;
  /** What offloaded programs returned, of all links together. */
  readonly verdicts: VerdictCounts;
  /** What the guest holds of the host, over all of its nics. */
  readonly usage: HostUsage;
}
