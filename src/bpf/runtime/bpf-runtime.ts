import { AddressSpace } from './address-space.js';
import type { ResidentMap } from './bpf-map.js';
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
  #lastProgramId = 0;

  constructor(options: BpfRuntimeOptions = {}) {
    this.space = new AddressSpace(options.memoryBytes);
    this.state = new RunState(this.space);
    this.cpus = options.cpus ?? 1;
    this.state.seed(options.seed ?? 0n);
  }

  /** A number for a program that is about to be loaded, never 0 and never used twice. */
  allocateProgramId(): number {
    return ++this.#lastProgramId;
  }
}
