import { helperCalls } from '../helper-calls.js';
import type { Insn } from '../insn.js';
import type { AddressSpace } from './address-space.js';

/** Helpers with lower ids have a counter each; the kernel has 211 so far. */
export const COUNTED_HELPERS = 256;

/** Byte offsets of the counters, each an f64, little-endian: a number that a reader has at once. */
export const WORK_COUNTER = {
  insns: 0,
  bytes: 8,
  /** Of helper 0; those of the others follow. */
  calls: 16,
} as const;

const SIZE = WORK_COUNTER.calls + 8 * COUNTED_HELPERS;

/**
 * What the programs of one runtime have done: `ProgramWork` of the executor contract. The counters lie in the address
 * space, where compiled code adds to them, as an object that no program may access. What gets there all the same, with
 * an executor that leaves out checks and a verifier that was wrong, gets the wrong numbers counted, for its own party.
 */
export class WorkCounters {
  /** Address of the counters. */
  readonly address: number;
  readonly #counters: Float64Array;
  readonly #declared = new Set<number>();
  #helpers: readonly number[] = [];

  constructor(space: AddressSpace) {
    const region = space.allocate(SIZE, { kind: 'scratch', label: 'counters of work', access: 'none' });
    this.address = region.start;
    this.#counters = new Float64Array(space.memory.buffer, region.start, SIZE / 8);
  }

  get insns(): number {
    return this.#counters[WORK_COUNTER.insns / 8]!;
  }

  get bytes(): number {
    return this.#counters[WORK_COUNTER.bytes / 8]!;
  }

  calls(helper: number): number {
    return isCounted(helper) ? this.#counters[WORK_COUNTER.calls / 8 + helper]! : 0;
  }

  /** Helpers that programs may call, ascending; another array when there are more. */
  get helpers(): readonly number[] {
    return this.#helpers;
  }

  /** A program of these insns is loaded. */
  declareHelpers(insns: readonly Insn[]): void {
    const before = this.#declared.size;
    for (const { helper } of helperCalls(insns)) if (isCounted(helper)) this.#declared.add(helper);
    if (this.#declared.size > before) this.#helpers = [...this.#declared].sort((a, b) => a - b);
  }

  addInsns(count: number): void {
    this.#add(WORK_COUNTER.insns / 8, count);
  }

  addBytes(count: number): void {
    this.#add(WORK_COUNTER.bytes / 8, count);
  }

  addCall(helper: number): void {
    if (isCounted(helper)) this.#add(WORK_COUNTER.calls / 8 + helper, 1);
  }

  #add(index: number, count: number): void {
    this.#counters[index] = this.#counters[index]! + count;
  }
}

/** Whether there is a counter for calls of this helper. */
export function isCounted(helper: number): boolean {
  return helper >= 0 && helper < COUNTED_HELPERS;
}
