import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import { functionStarts, isFunctionReference } from '../../bpf/function-starts.js';
import { isLddw, type Insn } from '../../bpf/insn.js';
import { BPF_CLASS_MASK, BPF_JMP, BPF_JMP32 } from '../../bpf/opcodes.js';
import type { Program } from '../../bpf/program.js';
import { jumpTo, ProgramEditor, type EditedProgram } from '../../bpf/rewrite/program-editor.js';
import type { AccessFact, CallFact } from '../../core/contract/verifier.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/index.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/index.js';
import { AbstractVerifier } from '../../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../../plugins/verifier-abstract/config.js';
import { SeededRandom } from '../verifier/seeded-random.js';
import { generateCase, loadCase, openRing, type GeneratedCase } from './index.js';

/** Code that does nothing, wherever it stands. */
const NO_OPERATIONS = [
  'goto +0',
  'gotol over\nr0 = 77ll\nexit\nover:',
  'if w0 s>= w0 goto over\nr0 = 5\nexit\nover:',
  'if r1 == 5 goto out\nif r1 != 5 goto over\nout:\ngoto over\nr1 = 0\nover:',
  'goto two\none:\ngoto over\ntwo:\ngoto one\nover:',
].map((text) => assemble(text));

/** Too long a way for 16 bits. */
const DESERT: readonly Insn[] = [
  ...assemble(`gotol +${0x8000}`),
  ...Array.from({ length: 0x8000 }, () => assemble('r0 = 0')[0]!),
];

const isJumpOrCall = ({ opcode }: Insn): boolean =>
  (opcode & BPF_CLASS_MASK) === BPF_JMP || (opcode & BPF_CLASS_MASK) === BPF_JMP32;

/**
 * The program with code that does nothing at random slots, with insns replaced by themselves, and with others moved
 * to the function's end and back from there. Not `visible`: only so that a verifier finds nothing else there, not even
 * code that no path leads to, as what jumps go past may be.
 */
function editAtRandom(program: Program, random: SeededRandom, visible: boolean): EditedProgram {
  const { insns } = program;
  const editor = new ProgramEditor(program);
  const desert = visible && random.chance(8) ? random.below(insns.length) : -1;
  const ends = [...functionStarts(insns).slice(1), insns.length].map((end) => end - 1);
  for (let slot = 0; slot < insns.length; slot++) {
    const insn = insns[slot]!;
    const own = isLddw(insn) ? insns.slice(slot, slot + 2) : [insn];
    const nop = { insns: visible ? random.pick(NO_OPERATIONS) : NO_OPERATIONS[0]! };
    if (slot === desert) editor.insertBefore(slot, { insns: DESERT });
    if (random.chance(25))
      editor.insertBefore(slot, nop, { jumps: visible && random.chance(50) ? 'past' : 'through' });
    if (random.chance(5)) editor.insertBefore(slot, { insns: [] });
    if (visible && !isJumpOrCall(insn) && !isFunctionReference(insn)) {
      const end = ends.find((last) => last >= slot)!;
      const what = random.below(10);
      if (what === 0) {
        editor.replace(slot, { insns: own });
      } else if (what === 1 && end > slot + own.length) {
        const back = editor.insertBefore(slot + own.length, { insns: [] });
        const moved = editor.insertAfter(end, {
          insns: [...own, ...jumpTo(back).insns],
          targets: new Map([[own.length, back]]),
        });
        editor.replace(slot, jumpTo(moved));
      }
    }
    if (isLddw(insn)) slot++;
  }
  return editor.finish();
}

async function trace(generated: GeneratedCase): Promise<string[]> {
  const runtime = new BpfRuntime({ memoryBytes: 4 << 20 });
  const ring = openRing(generated, runtime, 1);
  const backend = new MemoryMapBackend(runtime);
  const loaded = await loadCase(generated, { runtime, backend, executor: new InterpreterExecutor(runtime) });
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  const lines = generated.frames.map((frame) => {
    const { verdict, fault } = loaded.run(ring, frame);
    return `${fault?.reason ?? verdict} ${hex(ring.packet(0))} ${hex(ring.metadata(0))}`;
  });
  for (const [handle, map] of loaded.maps) {
    let key: Uint8Array | number | null = null;
    while (typeof (key = map.nextKey(key)) !== 'number') {
      const value = map.lookup(key);
      lines.push(`${handle} ${hex(key)} ${typeof value === 'number' ? value : hex(value)}`);
    }
  }
  loaded.close();
  return lines;
}

describe('an edited program', () => {
  it('does what it did when only code that does nothing was put into it', async () => {
    let [grown, far] = [0, 0];
    for (let seed = 1; seed <= 250; seed++) {
      const generated = generateCase(seed);
      const random = new SeededRandom(seed);
      const programs = generated.programs.map((program) => editAtRandom(program, random, true).program);
      expect(await trace({ ...generated, programs }), `seed ${seed}`).toEqual(await trace(generated));
      grown += Number(programs[0]!.insns.length > generated.programs[0]!.insns.length);
      far += Number(programs.some(({ insns }) => insns.length > 0x8000));
    }
    expect(grown).toBeGreaterThan(200);
    expect(far).toBeGreaterThan(8);
  });

  it('keeps its facts: they are those that a verifier finds of the new program', async () => {
    const verifier = new AbstractVerifier(DEFAULT_CONFIG);
    let compared = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const { programs, maps } = generateCase(seed, { statements: 20 });
      const attributes = new Map(maps.map((map) => [map.handle, { ...map.attributes, name: map.name }]));
      const [program] = programs;
      const before = await verifier.verify({ program: program!, maps: attributes });
      const edited = editAtRandom(program!, new SeededRandom(seed), false);
      const after = await verifier.verify({ program: edited.program, maps: attributes });
      if (!before.accepted) throw new Error(`seed ${seed}: ${before.reason}`);
      if (!after.accepted) throw new Error(`seed ${seed}, edited: ${after.reason} at ${after.insn}`);
      const [found, kept] = [after.facts!, before.facts!];
      // Jumps that go nowhere may make a verifier take stock elsewhere, and know a little more or less of numbers.
      const places = (accesses: ReadonlyMap<number, AccessFact>): unknown[] =>
        [...accesses]
          .sort(([a], [b]) => a - b)
          .map(([slot, { region, write, size, map }]) => [slot, region, write, size, map]);
      const callees = (calls: ReadonlyMap<number, CallFact>): unknown[] =>
        [...calls].sort(([a], [b]) => a - b).map(([slot, { helper, map }]) => [slot, helper, map]);
      expect(places(edited.moved(kept.accesses)), `seed ${seed}`).toEqual(places(found.accesses));
      expect(callees(edited.moved(kept.calls)), `seed ${seed}`).toEqual(callees(found.calls));
      compared += after.facts!.accesses.size;
    }
    expect(compared).toBeGreaterThan(500);
  });
});
