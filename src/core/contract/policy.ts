import type { MapAttributes } from '../../bpf/map-spec.js';
import type { ProgramProperties } from './verifier.js';
import type { Picoseconds } from './clock.js';
import { token } from './injection.js';

/**
 * Role `policy`: rules on what a guest asks of the host. Policies form a chain in the order of the testbed
 * file; which of them are asked after one has denied is the chain's mode; every ruling is recorded, and one deny is
 * enough to deny. A policy must not throw: a throw counts as deny.
 */
export interface Policy {
  readonly name: string;
  rule(request: PolicyRequest): Ruling;
  /**
   * What it would allow a guest at most, for the guest to know before it asks (`get-capabilities`). A hint: each request is
   * ruled on all the same. Absent: it limits nothing of the kind.
   */
  grants?(guest: string): Grants;
  /**
   * Rules on a command when it comes, before anything is known of it but its length: on each command of the control
   * queue, those included that are malformed or not of this protocol. One that is denied is answered at once and is
   * neither decoded nor queued, nor are other policies asked to `rule` on it. Absent: none is denied.
   */
  admit?(command: ArrivedCommand): Ruling;
  /** Told of what could not be known before. Must not throw; what it throws changes nothing. */
  observe?(cost: ObservedCost): void;
  /** Wants to be told of insns: what guests offload then has its work counted, which costs time. */
  readonly countsInsns?: boolean | undefined;
}

/** What policies grant a guest at most; what is left out is not limited. */
export interface Grants {
  readonly maps?: number | undefined;
  readonly programs?: number | undefined;
  /** Bytes. */
  readonly mapMemory?: number | undefined;
  /** Insns of one program. */
  readonly insns?: number | undefined;
  /** Numbers of helpers. */
  readonly helpers?: ReadonlySet<number> | undefined;
  /** BPF_MAP_TYPE_* */
  readonly mapTypes?: ReadonlySet<number> | undefined;
}

/** A policy and its place in the chain. */
export interface ChainedPolicy extends Policy {
  /** It rules and is recorded; what it denies is not denied. */
  readonly dryRun?: boolean | undefined;
  /** When it denies, those behind it are not asked (chain mode `first-deny`). */
  readonly endsChain?: boolean | undefined;
  /** Path of its config in the testbed, e.g. `policies.1.config`. */
  readonly configPath?: string | undefined;
}

/** A command of the control queue that nobody has looked at. */
export interface ArrivedCommand {
  /** As `PolicyRequest.id`: what is asked of the policies for this command later has the same. */
  readonly id: number;
  readonly time: Picoseconds;
  readonly guest: string;
  readonly nic: string;
  /** Length of the device-readable bytes. */
  readonly bytes: number;
}

/** What the host spent on a guest. */
export type ObservedCost = {
  readonly guest: string;
  readonly nic: string;
  /** When it is told. */
  readonly time: Picoseconds;
} & (
  | {
      readonly kind: 'verification';
      /**
       * Milliseconds of the machine's CPU time that judging one program took, told when it has ended, however it ended;
       * of a verifier that judges in the run's own process (`Plugin.judgesIn`), by the clock.
       */
      readonly milliseconds: number;
    }
  | {
      readonly kind: 'insns';
      /** Insns that a run of the guest's offloaded program of this nic has executed, those of its tail calls included. */
      readonly insns: number;
    }
);

/**
 * How a chain goes on after a deny: every policy rules on every request, so that the rulings show all that stands in
 * the way (`all-report`); or those behind the first that denied are not asked (`first-deny`).
 */
export const CHAIN_MODES = ['all-report', 'first-deny'] as const;
export type ChainMode = (typeof CHAIN_MODES)[number];

export type Ruling =
  | { readonly ruling: 'allow'; readonly reason: string }
  | {
      readonly ruling: 'deny';
      /** What the guest is told, positive, where the protocol has room for it; by default EPERM or EACCES. */
      readonly errno?: number | undefined;
      /** For whoever runs the host: names the thing and the limit, `4097 insns exceed the quota of 4096`. */
      readonly reason: string;
      /**
       * What the guest is told, where the protocol has room for it: nothing that it could not know without asking, of other
       * guests least of all. Default: that this policy denied it, and no more.
       */
      readonly toGuest?: string | undefined;
      /** The same for programs: each rule that stands in the way. At most MAX_BREACHES are recorded. */
      readonly breaches?: readonly Breach[] | undefined;
    };

/** Breaches that are recorded of one ruling. */
export const MAX_BREACHES = 32;

/** A rule that a request breaks. */
export interface Breach {
  /** Stable name of the rule, e.g. `per-guest.maps`: the same whichever guest it is and wherever the limit is set. */
  readonly rule: string;
  /** What the rule allows: the most that there may be, or the words that may be used. Left out where it is long. */
  readonly limit?: number | readonly string[] | undefined;
  /** What the request wants, in the same unit; left out where nothing bounds it. Of words, those that are not allowed. */
  readonly asked?: number | readonly string[] | undefined;
  /** What was held before, where `asked` comes on top of it. */
  readonly held?: number | undefined;
  /** Where the limit is set, as keys of the policy's config: `['guests', 'alice', 'maps']`. */
  readonly at?: readonly string[] | undefined;
}

export type PolicyRequest = {
  /** Number of the guest's command on its nic, from 1, in the order in which they come: what is asked of the policies for one command has the same. */
  readonly id: number;
  /** When it came, on the run's clock. */
  readonly time: Picoseconds;
  /** Name of the guest in the testbed. */
  readonly guest: string;
  /** Name of its nic. */
  readonly nic: string;
  /** What the guest holds before this request. */
  readonly usage: HostUsage;
  /** What all guests together hold before this request. */
  readonly totalUsage: HostUsage;
} & (
  | { readonly operation: 'map-create'; readonly map: MapAttributes; readonly memoryBytes: number }
  | {
      readonly operation:
        | 'map-lookup'
        | 'map-update'
        | 'map-delete'
        | 'map-next-key'
        | 'map-free'
        | 'map-freeze'
        | 'map-read-records';
      readonly map: MapAttributes;
      /** Of a batch: elements that are asked for; undefined: one. */
      readonly elements?: number | undefined;
      /** Of an update of a PROG_ARRAY: the programs that are put there, each once, as far as the guest has them. */
      readonly programs?: readonly ProgramOfGuest[] | undefined;
    }
  /** Bytes of a BTF section. */
  | { readonly operation: 'btf-load'; readonly bytes: number }
  /** An object is kept under a name of the guest's own. */
  | {
      readonly operation: 'object-pin';
      readonly object: 'map' | 'program' | 'link' | 'btf';
      readonly name: string;
    }
  /** The guest is about to go to another host, or to come from one: what it holds there, and whether a program runs for it. */
  | {
      readonly operation: 'migrate-out' | 'migrate-in';
      readonly usageOfMove: HostUsage;
      readonly attached: boolean;
    }
  /** One more handle for an object of the guest's own. */
  | { readonly operation: 'object-open'; readonly object: 'map' | 'program' | 'link' | 'btf' }
  /** Before verification: what can be read off the insns. */
  | { readonly operation: 'program-load'; readonly program: ProgramSummary }
  /** After verification: what the verifier found out. */
  | {
      readonly operation: 'program-attach';
      readonly program: ProgramSummary;
      readonly properties: ProgramProperties | undefined;
    }
);

/** A program that the host holds for a guest. */
export interface ProgramOfGuest {
  readonly summary: ProgramSummary;
  /** What the verifier found out. */
  readonly properties: ProgramProperties | undefined;
}

export interface ProgramSummary {
  readonly insnCount: number;
  /** Helper numbers called, ascending, without duplicates. */
  readonly helpers: readonly number[];
  readonly mapTypes: readonly number[];
  readonly gplCompatible: boolean;
}

/** Host resources held on behalf of a guest. */
export interface HostUsage {
  readonly maps: number;
  /** Bytes of host memory, keys, values and bookkeeping included. */
  readonly mapMemory: number;
  /** Sum of max_entries. */
  readonly entries: number;
  readonly programs: number;
  readonly insns: number;
  /** Bytes of BTF: what was loaded, and what maps keep of it. */
  readonly btfMemory: number;
}

/** What a policy plugin binds. */
export const POLICY = token<Policy>('policy');

/** All policies of the run, in the order of the testbed file. */
export const POLICY_CHAIN = token<readonly Policy[]>('policy-chain');
