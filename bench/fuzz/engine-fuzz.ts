import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { messageOf } from '../../src/core/diagnostic.js';
import type { Executor, ProgramFault } from '../../src/core/contract/executor.js';
import {
  clearSlot,
  generateCase,
  loadCase,
  openRing,
  type GeneratedCase,
} from '../../src/conformance/program-generator/index.js';
import { DifferentialExecutor, ExecutorDisagreement } from '../../plugins/executor-differential/index.js';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/index.js';
import { WasmExecutor } from '../../plugins/executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/index.js';

/** What a campaign found in one case. */
export interface Finding {
  readonly seed: number;
  /** One line; findings of the same kind have the same text but for numbers. */
  readonly summary: string;
  readonly report: string;
}

export interface FuzzStatistics {
  programs: number;
  runs: number;
  slots: number;
  /** By reason; for the kernel: programs that its verifier rejects. */
  readonly skipped: Map<string, number>;
}

export function newStatistics(): FuzzStatistics {
  return { programs: 0, runs: 0, slots: 0, skipped: new Map() };
}

/** Bytes that hold any generated case. */
const MEMORY_BYTES = 2 * 1024 * 1024;

/** Executors by the name a campaign gives them. */
const EXECUTORS: Readonly<Record<string, (runtime: BpfRuntime) => Executor>> = {
  interpreter: (runtime) => new InterpreterExecutor(runtime),
  wasm: (runtime) => new WasmExecutor(runtime, { checked: false }),
  'wasm-linked': (runtime) => new WasmExecutor(runtime, { checked: false, linkAfter: 1 }),
  'wasm-checked': (runtime) => new WasmExecutor(runtime, { checked: true }),
};

/**
 * Runs one generated case in several executors, each frame by itself and then all in a batch; what they disagree
 * on is shrunk. Everything is made anew for each case, so that its seed alone is enough to repeat it.
 */
export async function fuzzEngines(
  seed: number,
  options: { readonly frames: number; readonly statements: number; readonly executors: readonly string[] },
  statistics: FuzzStatistics,
): Promise<Finding | undefined> {
  const generated = generateCase(seed, options);
  const runtime = new BpfRuntime({ memoryBytes: MEMORY_BYTES });
  const factory = { open: async (name: string) => EXECUTORS[name]!(runtime) };
  const executor = new DifferentialExecutor(runtime, factory, { executors: options.executors });
  await executor.start();
  statistics.programs++;
  statistics.slots += slotsOf(generated);
  try {
    const ring = openRing(generated, runtime, generated.frames.length);
    const backend = new MemoryMapBackend(runtime);
    const loaded = await loadCase(generated, { runtime, backend, executor, countWork: seed % 2 === 0 });
    try {
      for (const frame of generated.frames) {
        statistics.runs++;
        const { fault } = loaded.run(ring, frame);
        // Generated programs are valid: a fault is the generator's mistake, or that of an executor's checks.
        if (fault !== undefined) return faultFinding(seed, fault);
      }
      // Once more in a batch, from where the maps now are and not at the ring's start.
      const count = generated.frames.length;
      generated.frames.forEach((frame, slot) => {
        clearSlot(ring, slot);
        ring.load(slot, frame.packet, frame.metadata);
      });
      statistics.runs += count;
      loaded.program.runBatch(ring, count - 1, count);
    } catch (error) {
      if (!(error instanceof ExecutorDisagreement)) throw error;
      return { seed, summary: error.summary, report: error.message };
    } finally {
      loaded.close();
    }
  } catch (error) {
    const report = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { seed, summary: messageOf(error).split('\n', 1)[0]!, report };
  }
  return undefined;
}

function faultFinding(seed: number, fault: ProgramFault): Finding {
  const summary = `a valid program faults at insn ${fault.insn}: ${fault.reason}`;
  return { seed, summary, report: summary };
}

export function slotsOf({ programs }: GeneratedCase): number {
  return programs.reduce((sum, { insns }) => sum + insns.length, 0);
}
