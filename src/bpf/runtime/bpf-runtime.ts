import { AddressSpace } from './address-space.js';
import type { ResidentMap } from './bpf-map.js';
import { RingReservations } from './ring-reservations.js';
import { RunState } from './run-state.js';

export interface BpfRuntimeOptions {
  /** Size of the address space in bytes. */
  readonly memoryBytes?: number | undefined;
  /** Number of simulated CPUs: the number of values in a per-CPU map. */
  readonly cpus?: number | undefined;
  /** Seeds bpf_get_prandom_u32 and the hash of each map. */
  readonly seed?: bigint | undefined;
}

/**
 * What one party's BPF consists of: a kernel's worth of state. Each guest has one for the programs in its own
 * kernel and one on the host for what it offloads; the host has one of its own. Programs of one runtime cannot
 * reach another's memory.
 */
export class BpfRuntime {
  readonly space: AddressSpace;
  readonly state: RunState;
  readonly cpus: number;
  /** Live maps by their `address`: how helpers find the map that a program passes them. */
  readonly maps = new Map<number, ResidentMap>();
  readonly reservations: RingReservations;
  /**
   * Insns that operations of maps were worth beyond their call, and that nobody was charged for yet. A map adds to it
   * (see ResidentMap), and who made the call for a program takes it off the run's budget (`takeOwedInsns`).
   */
  owedInsns = 0;
  readonly #seed: bigint;
  #lastProgramId = 0;
  #mapSeeds = 0n;

  constructor(options: BpfRuntimeOptions = {}) {
    this.space = new AddressSpace(options.memoryBytes);
    this.state = new RunState(this.space);
    this.reservations = new RingReservations(this.state, this.maps);
    this.cpus = options.cpus ?? 1;
    this.#seed = options.seed ?? 0n;
    this.state.seed(this.#seed);
  }

  /** A number for a program that is about to be loaded, never 0 and never used twice. */
  allocateProgramId(): number {
    return ++this.#lastProgramId;
  }

  /** `owedInsns`, which are then 0. */
  takeOwedInsns(): number {
    const insns = this.owedInsns;
    this.owedInsns = 0;
    return insns;
  }

  /**
   * Discards what a run that ended in a fault had reserved: a record that stays reserved would hide all that follow
   * it from the reader.
   */
  discardReservations(): void {
    this.reservations.discard();
  }

  /**
   * The hash seed of the next map: a signed 32-bit number that depends on the run's seed and on how many maps
   * asked before, and on nothing else. It does not draw from `RunState.nextRandom`, so that creating a map
   * does not change what programs see of bpf_get_prandom_u32. (SplitMix64, Steele et al. 2014.)
   */
  mapSeed(): number {
    this.#mapSeeds += 1n;
    let z = BigInt.asUintN(64, this.#seed + this.#mapSeeds * 0x9e3779b97f4a7c15n);
    z = BigInt.asUintN(64, (z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
    z = BigInt.asUintN(64, (z ^ (z >> 27n)) * 0x94d049bb133111ebn);
    return Number(BigInt.asIntN(32, z ^ (z >> 31n)));
  }
}
