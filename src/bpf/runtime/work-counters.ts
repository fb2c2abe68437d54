import { helperCalls } from '../helper-calls.js';
import type { Insn } from '../insn.js';
import type { AddressSpace } from './address-space.js';

/** Helpers with lower ids have a counter each; the kernel has 211 so far. */
export const COUNTED_HELPERS = 256;

/** Byte offsets of the counters, each a u64, little-endian. */
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
  readonly #u32: Uint32Array;
  readonly #word: number;
  readonly #declared = new Set<number>();
  #helpers: readonly number[] = [];

  constructor(space: AddressSpace) {
    const region = space.allocate(SIZE, { kind: 'scratch', label: 'counters of work', access: 'none' });
    this.address = region.start;
    this.#word = region.start >>> 2;
    this.#u32 = new Uint32Array(space.i32.buffer, 0, space.i32.length);
  }

  get insns(): number {
    return this.#read(WORK_COUNTER.insns);
  }

  get bytes(): number {
    return this.#read(WORK_COUNTER.bytes);
  }

  calls(helper: number): number {
    return isCounted(helper) ? this.#read(WORK_COUNTER.calls + 8 * helper) : 0;
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
    this.#add(WORK_COUNTER.insns, count);
  }

  addBytes(count: number): void {
    this.#add(WORK_COUNTER.bytes, count);
  }

  addCall(helper: number): void {
    if (isCounted(helper)) this.#add(WORK_COUNTER.calls + 8 * helper, 1);
  }

  #read(offset: number): number {
    const at = this.#word + (offset >> 2);
    return this.#u32[at + 1]! * 2 ** 32 + this.#u32[at]!;
  }

  /** @param count an integer from 0 to 2^53. */
  #add(offset: number, count: number): void {
    const at = this.#word + (offset >> 2);
    const low = this.#u32[at]! + count;
    // What is stored is taken modulo 2^32.
    this.#u32[at] = low;
    if (low >= 2 ** 32) this.#u32[at + 1] = this.#u32[at + 1]! + Math.floor(low / 2 ** 32);
  }
}

/** Whether there is a counter for calls of this helper. */
export function isCounted(helper: number): boolean {
  return helper >= 0 && helper < COUNTED_HELPERS;
}
