import type { MapAttributes } from '../../bpf/map-spec.js';
import type { ProgramProperties } from './verifier.js';
import type { Picoseconds } from './clock.js';
import { token } from './injection.js';

/**
 * Role `policy`: rules on what a guest asks of the host. Policies form a chain in the order of the testbed
 * file; every one of them rules and every ruling is recorded; one deny is enough to deny. A policy must not
 * throw: a throw counts as deny.
 */
export interface Policy {
  readonly name: string;
  rule(request: PolicyRequest): Ruling;
}

export type Ruling =
  | { readonly ruling: 'allow'; readonly reason: string }
  /** The reason names the thing and the limit: `4097 insns exceed the quota of 4096`. */
  | { readonly ruling: 'deny'; readonly reason: string };

export type PolicyRequest = {
  /** Number of the guest's command on its nic, from 1: what is asked of the policies for one command has the same. */
  readonly id: number;
  /** When it came, on the run's clock. */
  readonly time: Picoseconds;
  /** Name of the guest in the testbed. */
  readonly guest: string;
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
    }
  /** Bytes of a BTF section. */
  | { readonly operation: 'btf-load'; readonly bytes: number }
  /** An object is kept under a name of the guest's own. */
  | {
      readonly operation: 'object-pin';
      readonly object: 'map' | 'program' | 'link' | 'btf';
      readonly name: string;
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
