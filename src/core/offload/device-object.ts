import type { MapAttributes } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { LoadedProgram } from '../contract/executor.js';
import type { ProgramSummary } from '../contract/policy.js';
import type { ProgramProperties } from '../contract/verifier.js';
import type { Charge } from './quota-accounts.js';

/** What a guest holds on the host. Each object has an id of its own among those of its kind, from 1, never given twice. */
interface Identity {
  readonly id: number;
  /** For people; empty where the guest gave none. */
  readonly name: string;
}

/** A map that the host holds for the guest. */
export interface MapObject extends Identity {
  readonly kind: 'map';
  readonly map: BpfMap;
  readonly attributes: MapAttributes;
  /** Bytes of the host's memory. */
  readonly memoryBytes: number;
  /** The map whose like it holds, which lives as long as it does. */
  readonly inner: MapObject | undefined;
  /** The guest froze it. */
  frozen: boolean;
  /** Types of key and value, ids in that object. */
  readonly btf:
    { readonly object: BtfObject; readonly keyType: number; readonly valueType: number } | undefined;
  /** Of a PROG_ARRAY: whether the programs that use it or are in it are for frames in several buffers; all are, or none is. */
  frags: boolean | undefined;
  /** In a map of programs or maps: what stands under a key, by the key's bytes in hex. It lives as long as it stands there. */
  readonly elements: Map<string, ObjectReference>;
}

/** A program that the host holds for the guest. RFC 2019 has no command that names one. */
export interface ProgramObject extends Identity {
  readonly kind: 'program';
  readonly program: LoadedProgram;
  readonly summary: ProgramSummary;
  /** What the verifier found out. */
  readonly properties: ProgramProperties | undefined;
  /** What it costs its guest. */
  readonly charge: Charge;
  /** 8 bytes: see `programTag`. */
  readonly tag: Uint8Array;
  /** Picoseconds on the run's clock. */
  readonly loadTime: number;
  readonly verifiedInsns: number;
  /** In the order of the numbers that the insns of `code` have for them, from 1. */
  readonly maps: readonly MapObject[];
  readonly btf: BtfObject | undefined;
  /** As it was verified. */
  readonly code: Program;
  /** The records by which `btf` describes it, as the guest sent them. */
  readonly debug: { readonly functions: Uint8Array; readonly lines: Uint8Array } | undefined;
  readonly frags: boolean;
}

/** Names, types and source lines that the guest brought along. They are parsed when they are used, and only then. */
export interface BtfObject extends Identity {
  readonly kind: 'btf';
  readonly bytes: Uint8Array;
}

/** That a program is in its place; the place is left when the last name of it goes. */
export interface LinkObject extends Identity {
  readonly kind: 'link';
  /** Number of the hook point. */
  readonly hook: number;
}

export type DeviceObject = MapObject | ProgramObject | BtfObject | LinkObject;
export type ObjectOf<K extends DeviceObject['kind']> = Extract<DeviceObject, { kind: K }>;

/** An object that cannot go away before `release`. */
export interface ObjectReference<T extends DeviceObject = DeviceObject> {
  readonly object: T;
  /** The second and later calls do nothing. */
  release(): void;
}
