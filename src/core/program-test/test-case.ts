import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { ProgramSpec } from '../../bpf/program.js';
import type { Problem, YamlPath } from '../testbed/yaml-source.js';
import type { ExpectSection } from './case-schema.js';
import type { MapInitialEntry, MapSpec, ObjectPart } from '../../bpf/map-spec.js';
import type { PacketInput } from './program-session.js';

/** A cases file that was read and held against its object: all that is left is to run it. */
export interface TestFile {
  readonly file: string;
  readonly objectFile: string;
  readonly cpus: number;
  readonly cases: readonly TestCase[];
  /** Files that it consists of: itself, the object, captures and snapshots. */
  readonly reads: readonly string[];
  /** Where in the file what a path of a case leads to is written. */
  locate(path: YamlPath): Problem['at'];
}

export interface TestCase {
  readonly name: string;
  readonly path: YamlPath;
  /** With the sizes of maps that the case has. */
  readonly object: ObjectSpec;
  readonly program: ProgramSpec;
  /** Elements that the verifier has to see, or that name what is loaded with the program. */
  readonly initial: ReadonlyMap<string, readonly MapInitialEntry[]>;
  /** What elements of steps name. */
  readonly also: readonly ObjectPart[];
  /** Cases with the same run on one loaded program. */
  readonly loadKey: string;
  readonly elements: ReadonlyMap<string, readonly MapInitialEntry[]>;
  readonly steps: readonly TestStep[];
  /** Of a case with steps: after the last of them. */
  readonly expect?: Expectation | undefined;
}

export interface TestStep {
  /** How messages call it; undefined for the only one. */
  readonly label?: string | undefined;
  readonly packets: readonly TestPacket[];
  readonly input: PacketInput;
  readonly repeat: number;
  /** To be set before. */
  readonly elements: ReadonlyMap<string, readonly MapInitialEntry[]>;
  readonly expect?: Expectation | undefined;
}

export interface TestPacket {
  readonly bytes: Uint8Array;
  readonly now: bigint;
  /** Bytes on the wire, where the capture has fewer. */
  readonly originalLength?: number | undefined;
  /** In its capture, counted from 1. */
  readonly number?: number | undefined;
}

export interface Expectation {
  readonly section: ExpectSection;
  readonly path: YamlPath;
  readonly maps: readonly MapExpectation[];
  readonly events: readonly EventExpectation[];
  /** Frames that have to be let through. */
  readonly capture?: ExpectedFile<readonly Uint8Array[]> | undefined;
  readonly snapshot?: ExpectedFile<string> | undefined;
}

/** A file with what is expected; `content` is undefined where it is not there yet. */
export interface ExpectedFile<T> {
  readonly file: string;
  readonly content: T | undefined;
}

export interface MapExpectation {
  readonly map: MapSpec;
  readonly path: YamlPath;
  /** These elements and no others, and all members of them. */
  readonly whole: boolean;
  readonly entries: readonly {
    readonly what: string;
    readonly path: YamlPath;
    readonly key: Uint8Array;
    readonly keyText: string;
    /** There is to be no such element. */
    readonly absent: boolean;
    readonly value?: unknown;
    readonly cpus?: unknown;
  }[];
}

export interface EventExpectation {
  readonly map: string;
  readonly path: YamlPath;
  readonly type: BtfTypeRef | undefined;
  readonly records: readonly unknown[];
}
