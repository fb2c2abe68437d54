import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { StructuralVerifier } from '../../../plugins/verifier-structural/structural-verifier.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import type { Party } from '../contract/party.js';
import type { Verifier } from '../contract/verifier.js';

/** A party whose memory a test looks into. */
export interface TestingParty extends Party {
  readonly runtime: BpfRuntime;
}

export interface TestingPartyOptions {
  /** Default 1. */
  readonly cpus?: number;
  /** MiB of the engine's memory. Default 4. */
  readonly mebibytes?: number;
  /** Default: `structural`. */
  readonly verifier?: Verifier;
}

/** A party with the engine's own plugins: executor `interpreter`, map backend `memory`. */
export function testingParty(
  name: string,
  { cpus = 1, mebibytes = 4, verifier = new StructuralVerifier() }: TestingPartyOptions = {},
): TestingParty {
  const runtime = new BpfRuntime({ memoryBytes: mebibytes * 1024 * 1024, cpus });
  return {
    name,
    runtime,
    cpus,
    mapBackend: new MemoryMapBackend(runtime),
    executor: new InterpreterExecutor(runtime),
    verifier,
  };
}
