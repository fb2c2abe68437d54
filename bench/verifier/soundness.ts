import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { xdpActionName } from '../../src/bpf/xdp.js';
import type { Acceptance, ProgramFacts } from '../../src/core/contract/verifier.js';
import { openRing, type GeneratedCase } from '../../src/conformance/program-generator/index.js';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { InterpretedProgram } from '../../plugins/executor-interpreter/interpreted-program.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/index.js';
import { loadRunnable } from './load-runnable.js';

/** What an accepted program did that it must not do. */
export interface Miss {
  readonly insn: number | undefined;
  readonly reason: string;
  /** Which of the case's frames. */
  readonly frame: number;
}

/** Bytes that hold any generated case. */
const MEMORY_BYTES = 2 * 1024 * 1024;
/** An accepted program ends; one that takes longer is not waited for. */
const INSN_LIMIT = 20_000_000;

/**
 * Runs an accepted case in the checked interpreter on each of its frames. A miss is a fault, and as well whatever
 * contradicts what the verifier said of the program: an insn that was said to be unreachable, a verdict that
 * cannot be returned, more insns than the worst case. Without an acceptance, only faults are looked for.
 */
export async function findMiss(
  generated: GeneratedCase,
  acceptance: Acceptance | undefined,
): Promise<Miss | undefined> {
  const runtime = new BpfRuntime({ memoryBytes: MEMORY_BYTES });
  const executor = new InterpreterExecutor(runtime);
  const ring = openRing(generated, runtime, 1);
  const backend = new MemoryMapBackend(runtime);
  const loaded = await loadRunnable(generated, { runtime, backend, executor, insnLimit: INSN_LIMIT });
  if (loaded === undefined) return undefined;
  // What other programs do after a tail call is not among what the verifier said of the first.
  const isAlone = generated.programs.length === 1;
  try {
    for (const [frame, { packet, metadata }] of generated.frames.entries()) {
      const { verdict, fault } = loaded.run(ring, { packet, metadata });
      if (fault !== undefined) return { insn: fault.insn, reason: fault.reason, frame };
      const properties = acceptance?.properties;
      if (!isAlone || properties === undefined) continue;
      const name = verdict <= 4 ? xdpActionName(verdict) : 'XDP_ABORTED';
      if (!properties.verdicts.includes(name)) {
        return { insn: undefined, reason: `returns ${name}, which is not among its verdicts`, frame };
      }
      const { program } = loaded;
      if (program instanceof InterpretedProgram && program.executedInsns > properties.worstCaseInsns) {
        const reason = `runs ${program.executedInsns} insns, more than its worst case of ${properties.worstCaseInsns}`;
        return { insn: undefined, reason, frame };
      }
    }
    const facts = isAlone ? acceptance?.facts : undefined;
    return facts === undefined ? undefined : findContradiction(generated, facts, ring, loaded.program);
  } finally {
    loaded.close();
  }
}

/** One more run, step by step, on the last frame: against the facts of each insn. */
function findContradiction(
  generated: GeneratedCase,
  facts: ProgramFacts,
  ring: FrameRing,
  program: unknown,
): Miss | undefined {
  if (!(program instanceof InterpretedProgram)) return undefined;
  const frame = generated.frames.length - 1;
  let miss: Miss | undefined;
  const report = (insn: number, reason: string): void => {
    miss ??= { insn, reason, frame };
  };
  const debug = program.debug({
    onInsn({ insn }, registers) {
      if (facts.unreachable.has(insn)) report(insn, 'runs an insn that was said to be unreachable');
      for (const [argument, constant] of facts.calls.get(insn)?.constants ?? []) {
        const number = registers[argument]!;
        if (number !== BigInt.asUintN(64, constant)) {
          report(insn, `calls with R${argument} = ${number}, said to be ${constant}`);
        }
      }
    },
    onAccess({ insn }, { kind, size, write, object }) {
      if (kind === 'helper') return;
      const fact = facts.accesses.get(insn);
      if (fact === undefined) return;
      if (fact.size !== size) report(insn, `accesses ${size} bytes, said to be ${fact.size}`);
      if (write && !fact.write) report(insn, 'writes, said to read');
      const isMapValue = object?.includes('value of map ') === true;
      if (isMapValue !== (fact.region === 'map-value')) {
        report(insn, `accesses ${object ?? 'nothing known'}, said to be in the ${fact.region}`);
      }
    },
  });
  const { packet, metadata } = generated.frames[frame]!;
  ring.load(0, packet, metadata);
  debug.start(ring, 0);
  for (let left = STEP_LIMIT; left > 0 && debug.state?.state === 'paused' && miss === undefined; left--)
    debug.step();
  return miss;
}

const STEP_LIMIT = 20_000;
