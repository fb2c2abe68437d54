import type { Executor } from './executor.js';
import type { CoverageSink } from './insn-coverage.js';
import type { MapBackend } from './map-backend.js';
import type { Verifier } from './verifier.js';
import { token, type Token } from './injection.js';

/**
 * Whoever runs programs: a guest's kernel, the host's kernel, or the host on behalf of one guest. Programs of one
 * party cannot reach another's memory.
 */
export interface Party {
  readonly name: string;
  /** How many CPUs its programs may run on: the number of values in a per-CPU map. */
  readonly cpus: number;
  readonly mapBackend: MapBackend;
  readonly executor: Executor;
  readonly verifier: Verifier;
  /** What is loaded in it has its work counted: who calls `executor.load` passes it on (`ExecutionEnvironment`). */
  readonly countWork?: boolean | undefined;
  /** Which insns run is counted there: who calls `executor.load` passes its counts on (`ExecutionEnvironment.coverage`). */
  readonly coverage?: CoverageSink | undefined;
}

/** A binding that a fabric lends to the plugins of the host's parties (`Deployment.hostBindings`). */
export interface Binding {
  readonly token: Token<unknown>;
  readonly value: unknown;
}

export interface PartyOptions {
  /** Whose kernel it is, which decides the plugins that it is made of (`RunPlugins.host`). Default `guest`. */
  readonly side?: 'host' | 'guest' | undefined;
  /** What its plugins may inject besides. */
  readonly bindings?: readonly Binding[] | undefined;
  /** Default 1; a map backend that has its own number (`MapBackend.cpus`) goes by that. */
  readonly cpus?: number | undefined;
  /**
   * Bytes that its programs and maps may have at most, where its plugins share a BpfRuntime; and its maps, where they are
   * the kernel's ({@link PARTY_MEMORY}). Default: as many as there can be.
   */
  readonly memoryBytes?: number | undefined;
  /** Have the work of its programs counted (`LoadedProgram.work`). Default: not. */
  readonly countWork?: boolean | undefined;
  /** Have it counted there which insns run; only the executor `interpreter` can. Default: not. */
  readonly coverage?: CoverageSink | undefined;
}

/** Opens parties made of the plugins that the testbed names; the core stops them with the run. */
export interface PartyFactory {
  open(name: string, options?: PartyOptions): Promise<Party>;
}

/** `PartyOptions.memoryBytes`, for plugins of the party that take memory elsewhere than in its BpfRuntime; unbound without it. */
export const PARTY_MEMORY = token<number>('party-memory');

export const PARTY_FACTORY = token<PartyFactory>('party-factory');
