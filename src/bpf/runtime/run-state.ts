import type { AddressSpace, Region } from './address-space.js';

/**
 * What executors and helpers share while a program runs: the argument registers of the call under way and the
 * "per-CPU" state that the kernel keeps beside a program. It lies in the address space so that compiled code
 * reads it without leaving wasm.
 *
 * ```
 *   +0    u64 r0            result of the helper call under way
 *   +8    u64 r1 … r5       its arguments (5 × 8 bytes)
 *   +48   u32 context       address of the XdpFrame slot being processed
 *   +52   u32 cpu           number of the simulated CPU
 *   +56   u64 now           nanoseconds of the run's clock (bpf_ktime_get_ns)
 *   +64   u64 prng          state of the generator behind bpf_get_prandom_u32 (see nextRandom)
 *   +72   u32 tail_program  index of the program a tail call selected, when a helper had to resolve it
 *   +76   u32 fault         set by a checked build before it traps: 1 + insn
 * ```
 * All little-endian, as BPF registers are on the hosts that xdpbed models.
 */
export const RUN_STATE = {
  r0: 0,
  r1: 8,
  context: 48,
  cpu: 52,
  now: 56,
  prng: 64,
  tailProgram: 72,
  fault: 76,
} as const;
export const RUN_STATE_SIZE = 80;

export class RunState {
  readonly region: Region;
  readonly #view: DataView;
  readonly #i32: Int32Array;
  readonly #word: number;

  constructor(readonly space: AddressSpace) {
    this.region = space.allocate(RUN_STATE_SIZE, {
      kind: 'run-state',
      label: 'the run state',
      access: 'none',
    });
    this.#view = space.view;
    this.#i32 = space.i32;
    this.#word = this.region.start >> 2;
    this.seed(0n);
  }

  get address(): number {
    return this.region.start;
  }

  /** Lower half of argument `n` (1 … 5) as a signed 32-bit number; `>>> 0` makes it an address. */
  argLow(n: number): number {
    return this.#i32[this.#word + 2 * n]!;
  }

  argHigh(n: number): number {
    return this.#i32[this.#word + 2 * n + 1]!;
  }

  arg(n: number): bigint {
    return this.#view.getBigUint64(this.region.start + 8 * n, true);
  }

  setArg(n: number, low: number, high: number): void {
    this.#i32[this.#word + 2 * n] = low;
    this.#i32[this.#word + 2 * n + 1] = high;
  }

  get resultLow(): number {
    return this.#i32[this.#word]!;
  }

  get resultHigh(): number {
    return this.#i32[this.#word + 1]!;
  }

  /** R0 := a signed number, sign-extended: 0, a negative errno, a length. */
  setResult(value: number): void {
    this.#i32[this.#word] = value;
    this.#i32[this.#word + 1] = value < 0 ? -1 : 0;
  }

  /** R0 := an address or another unsigned 32-bit number. */
  setResultUnsigned(value: number): void {
    this.#i32[this.#word] = value;
    this.#i32[this.#word + 1] = 0;
  }

  setResult64(value: bigint): void {
    this.#view.setBigUint64(this.region.start, BigInt.asUintN(64, value), true);
  }

  get context(): number {
    return this.#view.getUint32(this.region.start + RUN_STATE.context, true);
  }

  set context(address: number) {
    this.#view.setUint32(this.region.start + RUN_STATE.context, address, true);
  }

  get cpu(): number {
    return this.#view.getUint32(this.region.start + RUN_STATE.cpu, true);
  }

  set cpu(cpu: number) {
    this.#view.setUint32(this.region.start + RUN_STATE.cpu, cpu, true);
  }

  /** The run's clock in nanoseconds. Whoever drives packets sets it; nothing here reads the machine's clock. */
  get now(): bigint {
    return this.#view.getBigUint64(this.region.start + RUN_STATE.now, true);
  }

  set now(nanoseconds: bigint) {
    this.#view.setBigUint64(this.region.start + RUN_STATE.now, BigInt.asUintN(64, nanoseconds), true);
  }

  seed(seed: bigint): void {
    this.#view.setBigUint64(
      this.region.start + RUN_STATE.prng,
      BigInt.asUintN(64, seed ^ 0x9e3779b97f4a7c15n),
      true,
    );
  }

  /**
   * bpf_get_prandom_u32. A multiplicative 64-bit LCG (Knuth's MMIX constants) whose upper half is the number:
   * two wasm instructions, so every executor can inline it and all draw the same sequence from a seed.
   */
  nextRandom(): number {
    const at = this.region.start + RUN_STATE.prng;
    const next = BigInt.asUintN(64, this.#view.getBigUint64(at, true) * PRNG_MULTIPLIER + PRNG_INCREMENT);
    this.#view.setBigUint64(at, next, true);
    return Number(next >> 32n);
  }

  /** Has the next `nextRandom` return this number; those after it follow from it. */
  setNextRandom(number: number): void {
    const next = BigInt.asUintN(32, BigInt(number)) << 32n;
    const state = BigInt.asUintN(64, (next - PRNG_INCREMENT) * PRNG_INVERSE);
    this.#view.setBigUint64(this.region.start + RUN_STATE.prng, state, true);
  }
}

export const PRNG_MULTIPLIER = 6364136223846793005n;
export const PRNG_INCREMENT = 1442695040888963407n;
/** PRNG_MULTIPLIER times this is 1 modulo 2^64: the way from a state to the one before it. */
const PRNG_INVERSE = 13877824140714322085n;
