import { describe, expect, it } from 'vitest';
import { xdpActionName } from '../../src/bpf/xdp.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { generateCase, loadCase, openRing } from '../../src/conformance/program-generator/index.js';
import type { VerifierMap } from '../../src/core/contract/verifier.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { WasmExecutor } from '../executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { AbstractVerifier } from './abstract-verifier.js';
import { DEFAULT_CONFIG } from './config.js';

/** Programs to try; a campaign takes minutes: SOUNDNESS_PROGRAMS=50000. */
const PROGRAMS = Number(process.env['SOUNDNESS_PROGRAMS'] ?? 150);

const runtime = new BpfRuntime();
const backend = new MemoryMapBackend(runtime);
const executors = [new InterpreterExecutor(runtime), new WasmExecutor(runtime, { checked: false })];
// What is too complex says nothing of soundness, and takes most of the time.
const verifier = new AbstractVerifier({ ...DEFAULT_CONFIG, maxProcessedInsns: 50_000 });

/** Verifies a case and, if it passes, runs it in one of the executors; tells whether it passed. */
async function tryCase(seed: number, unsafePercent: number): Promise<string> {
  const generated = generateCase(seed, { unsafePercent, frames: 4 });
  const maps = new Map<number, VerifierMap>(
    generated.maps.map((map) => [map.handle, { ...map.attributes, name: map.name }]),
  );
  let verdicts: readonly string[] = [];
  let insnLimit = 50_000_000;
  for (const program of generated.programs) {
    const result = await verifier.verify({ program, maps });
    if (!result.accepted) return result.code;
    if (program === generated.programs[0]) verdicts = result.properties!.verdicts;
    // A run that takes more than the worst case ends in a fault, as one offloaded by a guest would.
    const { worstCaseInsns } = result.properties!;
    if (generated.programs.length === 1 && worstCaseInsns !== Infinity) insnLimit = worstCaseInsns;
  }
  const loaded = await loadCase(generated, { runtime, backend, executor: executors[seed % 2]!, insnLimit });
  const ring = openRing(generated, runtime, 1);
  try {
    for (const frame of generated.frames) {
      const { fault, verdict } = loaded.run(ring, frame);
      if (fault !== undefined) {
        expect.fail(
          `seed ${seed} was accepted, but faults at insn ${fault.insn}: ${fault.reason} (${generated.mutations.join('; ')})`,
        );
      }
      // A tail call leaves to a program with verdicts of its own.
      if (generated.programs.length === 1) expect(verdicts, `seed ${seed}`).toContain(xdpActionName(verdict));
    }
  } finally {
    loaded.close();
    ring.close();
  }
  return 'accepted';
}

describe('soundness', () => {
  it('accepts programs that are safe by construction, and they do not fault', async () => {
    for (let seed = 0; seed < PROGRAMS; seed++) {
      const outcome = await tryCase(seed, 0);
      if (outcome !== 'accepted' && outcome !== 'too-many-insns') {
        expect.fail(`seed ${seed} is safe, but rejected: ${outcome}`);
      }
    }
  });

  it('what it accepts of programs that were made unsafe does not fault', async () => {
    let accepted = 0;
    for (let seed = 1_000_000; seed < 1_000_000 + PROGRAMS; seed++) {
      if ((await tryCase(seed, 100)) === 'accepted') accepted++;
    }
    expect(accepted).toBeGreaterThan(PROGRAMS / 10);
    expect(accepted).toBeLessThan(PROGRAMS / 2);
  });
});
