import { describe, expect, it } from 'vitest';
import { helperId } from '../../bpf/helper-ids.js';
import { findInvalidInsn } from '../../bpf/insn-validity.js';
import * as op from '../../bpf/opcodes.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../bpf/runtime/frame-ring.js';
import { requestOf } from '../../../bench/verifier/judges.js';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/index.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/index.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { generateObjectCase, loadCase, type GeneratedCase } from './index.js';

const CASES: readonly GeneratedCase[] = Array.from({ length: 300 }, (_, index) =>
  generateObjectCase(index + 1),
);

const called = (name: string): number =>
  CASES.filter(({ programs }) =>
    programs[0]!.insns.some(
      ({ opcode, src, imm }) =>
        opcode === op.OP_CALL && src === op.BPF_CALL_HELPER && imm === helperId(`bpf_${name}`),
    ),
  ).length;

describe('a program about what programs hold', () => {
  it('is the same for the same seed and another for another', () => {
    expect(generateObjectCase(7)).toEqual(generateObjectCase(7));
    expect(generateObjectCase(7)).not.toEqual(generateObjectCase(8));
  });

  it('holds only valid insns', () => {
    for (const { seed, programs } of CASES) {
      for (const { insns } of programs) expect(findInvalidInsn(insns), `seed ${seed}`).toBeUndefined();
    }
  });

  it('says how it was made unsafe', () => {
    const changed = CASES.slice(0, 50).map(({ seed }) => generateObjectCase(seed, { unsafePercent: 100 }));
    expect(changed.every(({ mutations }) => mutations.length > 0)).toBe(true);
    expect(CASES.every(({ mutations }) => mutations.length === 0)).toBe(true);
  });

  it.each([
    'map_lookup_elem',
    'map_lookup_percpu_elem',
    'map_update_elem',
    'ringbuf_reserve',
    'ringbuf_submit',
    'ringbuf_discard',
    'sk_lookup_tcp',
    'skc_lookup_tcp',
    'sk_release',
    'skc_to_tcp_sock',
    'for_each_map_elem',
    'loop',
    'tail_call',
    'strncmp',
    'xdp_adjust_head',
  ])('calls bpf_%s', (name) => {
    expect(called(name)).toBeGreaterThan(3);
  });

  it('is mostly accepted, rejected for many reasons, and runs to its end', async () => {
    const verifier = new AbstractVerifier({ ...DEFAULT_CONFIG, maxProcessedInsns: 50_000 });
    const reasons = new Set<string>();
    let accepted = 0;
    let records = 0;
    for (const generated of CASES) {
      const verdict = await verifier.verify(requestOf(generated.programs[0]!, generated));
      if (!verdict.accepted) {
        reasons.add(verdict.code);
        continue;
      }
      accepted++;
      const runtime = new BpfRuntime({ memoryBytes: 2 << 20 });
      const ring = new FrameRing(runtime.space, 1);
      const backend = new MemoryMapBackend(runtime);
      const executor = new InterpreterExecutor(runtime);
      const loaded = await loadCase(generated, { runtime, backend, executor, insnLimit: 1_000_000 });
      for (const frame of generated.frames) {
        expect(loaded.run(ring, frame).fault, `seed ${generated.seed}`).toBeUndefined();
      }
      const buffer = generated.maps.find(({ name }) => name === 'ring')!;
      records += loaded.maps.get(buffer.handle)!.drainRecords!().length;
      loaded.close();
    }
    expect(accepted).toBeGreaterThan(CASES.length / 2);
    expect(reasons.size).toBeGreaterThan(15);
    expect(records).toBeGreaterThan(20);
  });
});
