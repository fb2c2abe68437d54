import type { MapAttributes } from '../../bpf/map-spec.js';
import type { Program } from '../../bpf/program.js';
import type { FrameMetadata } from '../../bpf/runtime/frame-ring.js';

/** A map of a generated case. Programs refer to it by its handle. */
export interface GeneratedMap {
  readonly handle: number;
  readonly name: string;
  readonly attributes: MapAttributes;
  /** Elements as the system call takes them; values of per-CPU maps are for one CPU. */
  readonly initial: readonly { readonly key: Uint8Array; readonly value: Uint8Array }[];
  /** PROG_ARRAY: index in `programs` by index in the map. */
  readonly programs?: ReadonlyMap<number, number> | undefined;
  /** Maps of maps: handle of the inner map by index or key in the map. */
  readonly innerMaps?: ReadonlyMap<number, number> | undefined;
  /** The first element's value never changes, so that a verifier may take it for a constant. */
  readonly frozen?: boolean | undefined;
}

export interface GeneratedFrame {
  readonly packet: Uint8Array;
  readonly metadata: FrameMetadata;
}

/** Programs, maps and frames, all of them made from one seed. */
export interface GeneratedCase {
  readonly seed: number;
  /** The first is the one to run; the others are reached by tail calls. */
  readonly programs: readonly Program[];
  readonly maps: readonly GeneratedMap[];
  readonly frames: readonly GeneratedFrame[];
  /** What was changed in the first program to make it unsafe, in words; empty for a safe one. */
  readonly mutations: readonly string[];
}

/** Whom the programs are for. */
export interface GeneratorOptions {
  /**
   * `engines` (default): executors of this package, among which everything agrees. `kernel`: results that differ
   * from a real kernel by design are not looked at: the clock, random numbers, fields of the context that
   * BPF_PROG_TEST_RUN does not set, eviction from a full LRU map, and pointers to hash elements that were
   * updated or deleted.
   */
  readonly target?: 'engines' | 'kernel' | undefined;
  /** Statements of the main program at most; a statement is one to twenty insns. Default 40. */
  readonly statements?: number | undefined;
  /** Chance in percent that the first program is made unsafe by a few small changes. Default 0. */
  readonly unsafePercent?: number | undefined;
  /** Frames to run it on. Default 3. */
  readonly frames?: number | undefined;
}
