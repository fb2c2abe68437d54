import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import type { BpfRuntime, BpfRuntimeOptions } from '../../bpf/runtime/bpf-runtime.js';
import type { RunEvent } from './event.js';
import type { Executor } from './executor.js';
import type { MapBackend } from './map-backend.js';
import type { RunPlan } from './plan.js';
import type { Policy } from './policy.js';
import type { RunResult } from './result.js';
import type { Transport } from './transport.js';
import type { Verifier } from './verifier.js';
import type { Workload } from './workload.js';
import { token } from './injection.js';

/** Role `fabric`: builds guests, devices and links for one run, drives traffic through them, removes them. */
export interface Fabric {
  readonly name: string;
  /** Builds everything the plan names and attaches programs. Whatever it made is gone when it throws. */
  deploy(run: RunPlan, context: FabricContext): Promise<Deployment>;
}

export interface Deployment {
  /** Sends the workload's frames until each has ended somewhere, then reads the counters and maps. */
  drive(workload: Workload): Promise<RunResult>;
  /** Removes everything; may be called at any time and more than once. */
  down(): Promise<void>;
}

/** What the core gives a fabric. */
export interface FabricContext {
  /** A stream of unsigned 32-bit numbers from the run's seed; the same name gives the same stream. */
  random(stream: string): () => number;
  /** Folder of the testbed file, for a workload's relative paths. */
  readonly folder: string;
  readonly signal: AbortSignal;
  /** The testbed's policy chain, in order. */
  readonly policies: readonly Policy[];
  /** Opens a party: a BPF runtime with a map backend, an executor and a verifier of its own. */
  openParty(name: string, options?: BpfRuntimeOptions): Promise<Party>;
  openTransport(name: string): Promise<Transport>;
  /** Reads an object of the plan; the same object is read once. */
  readObject(path: string): Promise<ObjectSpec>;
  emit(event: RunEvent): void;
}

/** Whoever runs programs: a guest's kernel, the host's kernel, or the host on behalf of one guest. */
export interface Party {
  readonly name: string;
  readonly runtime: BpfRuntime;
  readonly mapBackend: MapBackend;
  readonly executor: Executor;
  readonly verifier: Verifier;
}

export const FABRIC = token<Fabric>('fabric');
