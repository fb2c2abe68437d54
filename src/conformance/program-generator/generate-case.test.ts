import { describe, expect, it } from 'vitest';
import { findInvalidInsn } from '../../bpf/insn-validity.js';
import { isLddw, type Insn } from '../../bpf/insn.js';
import * as op from '../../bpf/opcodes.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { ENCODING_FORMS, type EncodingForm } from '../../bpf/valid-encodings.js';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/index.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/index.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { generateCase, loadCase, openRing, type GeneratedCase, type GeneratorOptions } from './index.js';

function* cases(count: number, options: GeneratorOptions = {}): Generator<GeneratedCase> {
  for (let seed = 1; seed <= count; seed++) yield generateCase(seed, options);
}

describe('a generated case', () => {
  it('is the same for the same seed and another for another', () => {
    expect(generateCase(7)).toEqual(generateCase(7));
    expect(generateCase(7)).not.toEqual(generateCase(8));
    expect(generateCase(7, { target: 'kernel' })).toEqual(generateCase(7, { target: 'kernel' }));
  });

  it('holds only valid insns, also where it was made unsafe', () => {
    for (const { seed, programs } of cases(300, { unsafePercent: 50 })) {
      for (const { insns } of programs) expect(findInvalidInsn(insns), `seed ${seed}`).toBeUndefined();
    }
  });

  it('says how it was made unsafe', () => {
    const changed = [...cases(100, { unsafePercent: 100 })];
    expect(changed.every(({ mutations }) => mutations.length > 0)).toBe(true);
    expect([...cases(20)].every(({ mutations }) => mutations.length === 0)).toBe(true);
  });

  it('runs to its end without a fault', async () => {
    for (const generated of cases(300)) {
      const runtime = new BpfRuntime({ memoryBytes: 2 << 20 });
      const ring = openRing(generated, runtime, 1);
      const backend = new MemoryMapBackend(runtime);
      const executor = new InterpreterExecutor(runtime);
      const loaded = await loadCase(generated, { runtime, backend, executor, insnLimit: 1_000_000 });
      for (const frame of generated.frames) {
        expect(loaded.run(ring, frame).fault, `seed ${generated.seed}`).toBeUndefined();
      }
      loaded.close();
    }
  });

  it('is what the verifier accepts', async () => {
    const verifier = new AbstractVerifier(DEFAULT_CONFIG);
    for (const { seed, programs, maps } of cases(150, { statements: 25 })) {
      const attributes = new Map(maps.map((map) => [map.handle, { ...map.attributes, name: map.name }]));
      for (const program of programs) {
        const verdict = await verifier.verify({ program, maps: attributes });
        expect(verdict.accepted ? undefined : verdict.reason, `seed ${seed}`).toBeUndefined();
      }
    }
  });
});

describe('generated programs together', () => {
  const all = [...cases(2500)];
  const insns = all.flatMap(({ programs }) => programs.flatMap((program) => program.insns));

  it('have every form of insn', () => {
    const seen = new Set(insns.map(formKey));
    const missing = ENCODING_FORMS.flatMap(formKeys).filter((key) => !seen.has(key) && !LEFT_OUT.has(key));
    expect(missing).toEqual([]);
  });

  it('call the helpers that they are meant to', () => {
    const called = new Set(
      insns.filter(({ opcode, src }) => opcode === op.OP_CALL && src === 0).map(({ imm }) => imm),
    );
    for (const helper of [
      1, 2, 3, 5, 6, 7, 8, 12, 23, 28, 44, 51, 54, 65, 87, 88, 89, 118, 125, 160, 181, 188, 189, 190,
    ]) {
      expect(called, `helper ${helper}`).toContain(helper);
    }
  });

  it('use the map types that they are meant to', () => {
    const used = new Set(all.flatMap(({ maps }) => maps.map(({ attributes }) => attributes.type)));
    const T = BPF_MAP_TYPE;
    for (const type of [
      T.BPF_MAP_TYPE_ARRAY,
      T.BPF_MAP_TYPE_PERCPU_ARRAY,
      T.BPF_MAP_TYPE_HASH,
      T.BPF_MAP_TYPE_PERCPU_HASH,
      T.BPF_MAP_TYPE_LRU_HASH,
      T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
      T.BPF_MAP_TYPE_LPM_TRIE,
      T.BPF_MAP_TYPE_PROG_ARRAY,
      T.BPF_MAP_TYPE_DEVMAP,
      T.BPF_MAP_TYPE_DEVMAP_HASH,
      T.BPF_MAP_TYPE_QUEUE,
      T.BPF_MAP_TYPE_STACK,
    ]) {
      expect(used).toContain(type);
    }
  });
});

/** What tells forms apart: an insn's opcode, and the fields that choose an operation rather than an operand. */
function formKey({ opcode, src, off, imm }: Insn): string {
  const insnClass = opcode & op.BPF_CLASS_MASK;
  const code = opcode & op.BPF_OP_MASK;
  if (insnClass === op.BPF_ALU || insnClass === op.BPF_ALU64) {
    return key(opcode, 0, off, code === op.BPF_END ? imm : 0);
  }
  const atomic = insnClass === op.BPF_STX && (opcode & op.BPF_MODE_MASK) === op.BPF_ATOMIC;
  const kind = opcode === op.OP_CALL || opcode === op.OP_LDDW ? src : 0;
  return key(opcode, kind, 0, atomic ? imm : 0);
}

function formKeys({ opcode, src, off, imm }: EncodingForm): string[] {
  const values = (range: EncodingForm['imm']): readonly number[] => (typeof range === 'string' ? [0] : range);
  return values(src).flatMap((s) => values(off).flatMap((o) => values(imm).map((i) => key(opcode, s, o, i))));
}

function key(opcode: number, src: number, off: number, imm: number): string {
  return `opcode 0x${opcode.toString(16)} src ${src} off ${off} imm ${imm}`;
}

/** What needs a kernel, or a list of maps beside the program. */
const LEFT_OUT: ReadonlySet<string> = new Set([
  key(op.OP_CALL, op.BPF_PSEUDO_KFUNC_CALL, 0, 0),
  ...[op.BPF_PSEUDO_BTF_ID, op.BPF_PSEUDO_MAP_IDX, op.BPF_PSEUDO_MAP_IDX_VALUE].map((src) =>
    key(op.OP_LDDW, src, 0, 0),
  ),
]);

it('an lddw is two slots', () => {
  const { insns } = generateCase(3).programs[0]!;
  insns.forEach((insn, slot) => {
    if (isLddw(insn)) expect(insns[slot + 1]!.opcode).toBe(0);
  });
});
