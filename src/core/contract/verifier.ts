import type { Program } from '../../bpf/program.js';
import type { LineInfo } from '../../bpf/btf/btf-ext.js';
import type { MapAttributes } from '../../bpf/map-spec.js';
import { token } from './injection.js';

/** Role `verifier`: judges a program before anything is loaded, and explains a rejection. */
export interface Verifier {
  readonly name: string;
  verify(request: VerifyRequest): Promise<Verification>;
}

export interface VerifyRequest {
  readonly program: Program;
  /** Attributes of the maps by the handle that the program's `lddw` insns carry in imm. */
  readonly maps: ReadonlyMap<number, VerifierMap>;
  /** Ask for the per-insn state log (costly). */
  readonly log?: boolean | undefined;
  /** Ask for `VerifierStatistics.visits` (costly where they have to be counted in a log, as of the kernel). */
  readonly visits?: boolean | undefined;
  /**
   * What the caller grants, explaining a rejection included. A verifier ends by itself with a rejection, `out-of-time`
   * or `out-of-memory`; where programs are hostile, the core does not rely on it (core/run/guest-verification.ts).
   */
  readonly limits?: VerificationLimits | undefined;
  /** When it fires, nobody waits for the answer any more: the verifier stops soon and may answer or throw anything. */
  readonly signal?: AbortSignal | undefined;
}

export interface VerificationLimits {
  /** Milliseconds of one verification, by `clock`. */
  readonly milliseconds?: number | undefined;
  /** Milliseconds since some time before, of what is granted: CPU time in a judge's process; undefined: wall clock. */
  readonly clock?: (() => number) | undefined;
  /** MiB of heap that one verification may hold. */
  readonly memoryMiB?: number | undefined;
}

export interface VerifierMap extends MapAttributes {
  readonly name: string;
  /** Content of a frozen map (`.rodata`), which a verifier may treat as constant. */
  readonly frozenValue?: Uint8Array | undefined;
}

export type Verification = Acceptance | Rejection;

export interface Acceptance {
  readonly accepted: true;
  readonly verifier: string;
  readonly statistics: VerifierStatistics;
  /**
   * It was shown of every access on every path that it stays within the object that it is for, and of every argument of a
   * helper that it is what the helper takes. Absent: that is not known, and an executor has to check as it runs.
   */
  readonly contained?: boolean | undefined;
  readonly properties?: ProgramProperties | undefined;
  readonly facts?: ProgramFacts | undefined;
  readonly log?: string | undefined;
  /** Where several verifiers judged: what each said. */
  readonly opinions?: readonly Verification[] | undefined;
}

/** Why a program may not run. Field by field what a person needs in order to act on it. */
export interface Rejection {
  readonly accepted: false;
  readonly verifier: string;
  /** Stable, documented code, e.g. `packet-bounds`. */
  readonly code: string;
  /** One sentence, lower-case. */
  readonly reason: string;
  /** Slot of the offending insn; undefined when the program as a whole is at fault. */
  readonly insn?: number | undefined;
  readonly disassembly?: string | undefined;
  readonly line?: LineInfo | undefined;
  /** The registers that matter, in the kernel log's notation, e.g. `R2=pkt(off=14,r=14)`. */
  readonly registers?: readonly string[] | undefined;
  /** How it came to this: where the value was made, which branches were taken; oldest first. */
  readonly path?: readonly PathStep[] | undefined;
  /** What would help. */
  readonly suggestion?: string | undefined;
  readonly statistics: VerifierStatistics;
  readonly log?: string | undefined;
  /** Where several verifiers judged: what each said. */
  readonly opinions?: readonly Verification[] | undefined;
}

export interface PathStep {
  readonly insn: number;
  readonly text: string;
  readonly line?: LineInfo | undefined;
}

export interface VerifierStatistics {
  /** Insns simulated, counting each visit. The kernel's `insn_processed` counts those as well at which a path was pruned. */
  readonly processedInsns: number;
  /** Paths that were pruned: they came to a state that was explored before. */
  readonly prunedPaths?: number | undefined;
  readonly peakStates: number;
  readonly totalStates: number;
  /** Where states multiply: insns with the most stored states, most first. */
  readonly hotspots?: readonly Hotspot[] | undefined;
  /** By slot: how often the insn was simulated, where it was asked for and could be told. */
  readonly visits?: readonly number[] | undefined;
  /** Wall-clock milliseconds; left out of anything that must be deterministic. */
  readonly milliseconds?: number | undefined;
  /** MiB of heap that were held at most, where that is known; left out as well. */
  readonly memoryMiB?: number | undefined;
}

export interface Hotspot {
  readonly insn: number;
  readonly visits: number;
  readonly states: number;
  readonly kind: 'loop' | 'branch' | 'call';
  readonly line?: LineInfo | undefined;
}

/** What a policy may set limits on, known once a program is verified. */
export interface ProgramProperties {
  readonly helpers: readonly number[];
  readonly mapTypes: readonly number[];
  readonly writesPacket: boolean;
  /** Verdicts the program can return, `XDP_REDIRECT` among them only if R0 may hold it. */
  readonly verdicts: readonly string[];
  /**
   * Upper bound of insns executed for one packet, those of callbacks as often as they may be called, and of what helpers
   * charge for their work (src/bpf/runtime/insn-budget.ts); tail calls are not followed, and
   * long hash chains (`chainCharge` there) are not expected. Infinity when nothing bounds it.
   */
  readonly worstCaseInsns: number;
  readonly stackBytes: number;
}

/** What is known at an insn on every path that reaches it; absent where paths disagree. */
export interface ProgramFacts {
  /** No insn that reads the context on one path reads something else on another: each of these is among them. */
  readonly accesses: ReadonlyMap<number, AccessFact>;
  readonly calls: ReadonlyMap<number, CallFact>;
  /** Insns that no path reaches. */
  readonly unreachable: ReadonlySet<number>;
}

/** The memory a load, store or atomic touches. Offsets are in bytes from the object's start, inclusive. */
export interface AccessFact {
  readonly region: 'context' | 'packet' | 'packet-meta' | 'stack' | 'map-value' | 'memory';
  readonly write: boolean;
  readonly size: number;
  readonly minOffset: number;
  readonly maxOffset: number;
  /** Handle of the map, for `map-value`. */
  readonly map?: number | undefined;
}

export interface CallFact {
  /** The helper's number, or -1 for a local call. */
  readonly helper: number;
  /** Handle of the map in the helper's map argument, when it is the same on every path. */
  readonly map?: number | undefined;
  /** Known constant arguments by argument number (1 … 5). */
  readonly constants: ReadonlyMap<number, bigint>;
}

export const VERIFIER = token<Verifier>('verifier');
