import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { CInterpreter } from './c-interpreter.js';
import { engineCases } from './engine-case.js';

const hasGcc = spawnSync('gcc', ['--version']).status === 0;

describe.skipIf(!hasGcc)('the interpreter in C', () => {
  it('makes of the first frame of each case that it can run what ours makes', async () => {
    const interpreter = CInterpreter.build()!;
    const compared: string[] = [];
    try {
      for (const test of engineCases()) {
        const first = interpreter.prepare(test, test.flows)?.first();
        if (first === undefined) continue;
        const runtime = new BpfRuntime();
        const backend = new MemoryMapBackend(runtime);
        const maps = new Map(
          [...test.maps].map(([handle, spec]) => [
            handle,
            backend.create(spec, { name: spec.name }) as BpfMap,
          ]),
        );
        const loaded = await new InterpreterExecutor(runtime).load(test.program, {
          maps,
          world: { trace() {} },
        });
        const ring = new FrameRing(runtime.space, 1);
        ring.load(0, test.frame(0));
        const { verdict } = loaded.run(ring, 0);
        expect(first, test.name).toEqual({ verdict, hash: fnv(ring.packet(0)) });
        compared.push(test.name);
      }
    } finally {
      interpreter.close();
    }
    expect(compared).toEqual(
      expect.arrayContaining(['xdp1, 64 B', 'xdp2, 64 B', 'checksum, 1500 B', '5-tuple hash, 1024 keys']),
    );
  });
});

/** FNV-1a, 32 bits. */
function fnv(bytes: Uint8Array): number {
  let hash = 0x811c9dc5;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
  return hash >>> 0;
}
