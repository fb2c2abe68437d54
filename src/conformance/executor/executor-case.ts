import type { MapAttributes, MapTypeName } from '../../bpf/map-spec.js';
import type { FrameMetadata, FrameRedirect } from '../../bpf/runtime/frame-ring.js';
import type { HelperNetwork } from '../../bpf/runtime/helper-world.js';

/**
 * A computation: the program gets R1 = address and R2 = length of `memory` (0 and 0 without), and its R0 is
 * compared as 64 bits.
 */
export interface ComputationCase {
  readonly name: string;
  /** Where the expected result comes from. */
  readonly source: string;
  /** Assembler text. */
  readonly program: string;
  readonly memory?: readonly number[];
  readonly r0: bigint;
  /** What the memory holds afterwards, when that is part of the case. */
  readonly memoryAfter?: readonly number[];
}

/** One insn on two 64-bit operands: R1 := dst, R2 := src, the insn, R0 := R1. */
export type OperandCase = readonly [insn: string, dst: bigint, src: bigint, r1: bigint, note?: string];

export interface CaseMap extends Partial<Omit<MapAttributes, 'type' | 'inner'>> {
  readonly type: MapTypeName;
  readonly entries?: readonly (readonly [key: Uint8Array, value: Uint8Array])[];
  /** PROG_ARRAY: index → name of a program in `others`, or `main`. */
  readonly programs?: Readonly<Record<number, string>>;
  /** ARRAY_OF_MAPS, HASH_OF_MAPS: key → name of another map of the case, which is declared before. */
  readonly inner?: readonly (readonly [key: Uint8Array, mapName: string])[];
}

/** An XDP program, run on one frame. */
export interface XdpCase {
  readonly name: string;
  readonly source: string;
  readonly program: string;
  /** The programs are loaded with BPF_F_XDP_HAS_FRAGS; needed for a packet of more than one buffer. */
  readonly frags?: boolean;
  /** Further programs of the runtime, for tail calls. */
  readonly others?: Readonly<Record<string, string>>;
  readonly maps?: Readonly<Record<string, CaseMap>>;
  /** Default: 64 bytes 0, 1, 2 … 63. */
  readonly packet?: Uint8Array;
  readonly metadata?: FrameMetadata;
  /** Nanoseconds of the run's clock; default 0. */
  readonly now?: bigint;
  /** What bpf_get_prandom_u32 returns before it draws (`RunState.giveRandom`). */
  readonly random?: readonly number[];
  readonly network?: HelperNetwork;
  readonly insnLimit?: number;
  readonly verdict: number;
  /** Only what is given is compared, but for the packet, which must be unchanged by default. */
  readonly packetAfter?: Uint8Array;
  readonly metadataAfter?: Uint8Array;
  /** `map` is the map's name. */
  readonly redirect?: { readonly kind: FrameRedirect['kind']; readonly [field: string]: string | number };
  readonly mapsAfter?: Readonly<
    Record<string, readonly (readonly [key: Uint8Array, value: Uint8Array | number])[]>
  >;
  /** Records of a RINGBUF or PERF_EVENT_ARRAY. */
  readonly records?: Readonly<Record<string, readonly Uint8Array[]>>;
  readonly trace?: readonly string[];
  /**
   * What the run did, as `ProgramWork` counts it: calls by the helper's name, of every helper that the programs name;
   * by default none, and no bytes.
   */
  readonly work?: {
    readonly insns: number;
    readonly calls?: Readonly<Record<string, number>>;
    readonly bytes?: number;
  };
  /** The run ends in a fault whose reason matches; only executors that check their accesses get these. */
  readonly fault?: {
    /** Undefined where the executor may say which of several insns it stopped at. */
    readonly insn: number | undefined;
    readonly reason: RegExp;
  };
}

/** Little-endian bytes. */
export function u16(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, (value >> 8) & 0xff);
}

export function u32(value: number): Uint8Array {
  return Uint8Array.of(value & 0xff, (value >>> 8) & 0xff, (value >>> 16) & 0xff, value >>> 24);
}

export function u64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
  return bytes;
}

export function concat(...parts: readonly (Uint8Array | readonly number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Bytes `first`, `first + 1` … */
export function countingBytes(length: number, first = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => first + i);
}
