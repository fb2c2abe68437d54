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
 *   +72   u32 given_left    how many numbers bpf_get_prandom_u32 returns before it draws from the generator
 *   +76   u32 given[64]     these, the last one first
 *   +332  u32 tail_program  index of the program a tail call selected, when a helper had to resolve it
 *   +336  u32 fault         set by a checked build before it traps: 1 + insn
 *   +340  u32 reserved_map  `address` of the ring buffer that has the record at reserved_record
 *   +344  u32 reserved_record  a record that the run has reserved, 0 for none (RingReservations)
 *   +348  u32 other_reservations  how many more there are, which the host keeps
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
  givenLeft: 72,
  given: 76,
  tailProgram: 332,
  fault: 336,
  reservedMap: 340,
  reservedRecord: 344,
  otherReservations: 348,
} as const;
export const RUN_STATE_SIZE = 352;
/** Random numbers that can be given at once. */
export const MAX_GIVEN_RANDOM = 64;

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
   * bpf_get_prandom_u32: the next number that was given, if there is one, else one of a multiplicative 64-bit LCG (Knuth's
   * MMIX constants) whose upper half is the number: two wasm instructions, so every executor can inline it and all draw
   * the same sequence from a seed. `givenLeft` tells compiled code when it has to ask here.
   */
  nextRandom(): number {
    const { start } = this.region;
    const left = this.#view.getUint32(start + RUN_STATE.givenLeft, true);
    const next =
      left > 0
        ? BigInt(this.#view.getUint32(start + RUN_STATE.given + 4 * (left - 1), true)) << 32n
        : BigInt.asUintN(
            64,
            this.#view.getBigUint64(start + RUN_STATE.prng, true) * PRNG_MULTIPLIER + PRNG_INCREMENT,
          );
    if (left > 0) this.#view.setUint32(start + RUN_STATE.givenLeft, left - 1, true);
    this.#view.setBigUint64(start + RUN_STATE.prng, next, true);
    return Number(next >> 32n);
  }

  /**
   * Has the next `nextRandom`s return these numbers, in place of what is left of those that were given before; what follows
   * then follows from the last of them. Throws RangeError for more than MAX_GIVEN_RANDOM.
   */
  giveRandom(numbers: readonly number[]): void {
    if (numbers.length > MAX_GIVEN_RANDOM)
      throw new RangeError(`${numbers.length} random numbers are given, of ${MAX_GIVEN_RANDOM} at most`);
    const { start } = this.region;
    this.#view.setUint32(start + RUN_STATE.givenLeft, numbers.length, true);
    numbers.toReversed().forEach((number, index) => {
      this.#view.setUint32(start + RUN_STATE.given + 4 * index, number, true);
    });
  }
}

export const PRNG_MULTIPLIER = 6364136223846793005n;
export const PRNG_INCREMENT = 1442695040888963407n;
