import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import type { Insn } from '../../src/bpf/insn.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { verifierConformance } from '../../src/conformance/verifier/index.js';
import type { Verification, VerifierMap } from '../../src/core/contract/verifier.js';
import { STRUCTURAL_CODES, type StructuralCode } from './rejection-codes.js';
import { StructuralVerifier } from './structural-verifier.js';

verifierConformance('structural', () => new StructuralVerifier());

const slot = (opcode: number, dst = 0, src = 0, off = 0, imm = 0): Insn => ({ opcode, dst, src, off, imm });
const EXIT = slot(0x95);
const RETURN_0 = slot(0xb7);
const map = (name: string, type: number, maxEntries: number): VerifierMap => ({
  name,
  type,
  keySize: 4,
  valueSize: 8,
  maxEntries,
  flags: 0,
});
const MAPS = new Map([
  [1, map('one', BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, 1)],
  [2, map('many', BPF_MAP_TYPE.BPF_MAP_TYPE_HASH, 10)],
]);

function verify(
  insns: readonly Insn[],
  config?: ConstructorParameters<typeof StructuralVerifier>[0],
  extra: object = {},
): Promise<Verification> {
  return new StructuralVerifier(config).verify({
    program: {
      name: 'p',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: false,
      insns,
      ...extra,
    },
    maps: MAPS,
  });
}

/** A program for every code, and the slot it must be blamed on. */
const REJECTED: Readonly<Record<StructuralCode, readonly [readonly Insn[], number | undefined]>> = {
  'empty-program': [[], undefined],
  'program-too-long': [[...Array.from({ length: 100 }, () => RETURN_0), EXIT], undefined],
  'insn-invalid': [[RETURN_0, slot(0xb7, 3, 0, 9), EXIT], 1],
  'jump-range': [[RETURN_0, slot(0x05, 0, 0, 1), EXIT], 1],
  'jump-into-lddw': [[slot(0x15, 1, 0, 1), slot(0x18, 1), slot(0), RETURN_0, EXIT], 0],
  'jump-across-functions': [assemble('call f\nif r0 == 0 goto in\nexit\nf:\nr0 = 0\nin:\nexit'), 1],
  'falls-off': [[RETURN_0, EXIT, RETURN_0].slice(0, 1), 0],
  'unreachable-insn': [[RETURN_0, EXIT, RETURN_0, EXIT], 2],
  'back-edge': [assemble('r0 = 0\nagain:\nr0 += 1\nif r0 < 5 goto again\nexit'), 2],
  'helper-unknown': [[slot(0x85, 0, 0, 0, -1), RETURN_0, EXIT], 0],
  'helper-gpl-only': [[slot(0x85, 0, 0, 0, 6), RETURN_0, EXIT], 0],
  'kfunc-call': [[slot(0x85, 0, 2, 0, 1234), RETURN_0, EXIT], 0],
  'map-unknown': [[slot(0x18, 1, 1, 0, 3), slot(0), RETURN_0, EXIT], 0],
  'map-value': [[slot(0x18, 1, 2, 0, 1), slot(0, 0, 0, 0, 8), RETURN_0, EXIT], 0],
  'reference-unsupported': [[slot(0x18, 1, 3, 0, 3), slot(0), RETURN_0, EXIT], 0],
  'call-target': [[slot(0x85, 0, 1, 0, -2), RETURN_0, EXIT], 0],
  'call-depth': [
    assemble(
      Array.from({ length: 9 }, (_, i) => `f${i}:\n${i < 8 ? `call f${i + 1}\n` : ''}r0 = 0\nexit`).join(
        '\n',
      ),
    ),
    undefined,
  ],
  recursion: [assemble('call f\nexit\nf:\ncall g\nexit\ng:\ncall f\nexit'), 2],
  'too-many-functions': [
    assemble(
      `${Array.from({ length: 256 }, (_, i) => `call f${i}`).join('\n')}\nexit\n` +
        Array.from({ length: 256 }, (_, i) => `f${i}:\nr0 = 0\nexit`).join('\n'),
    ),
    255,
  ],
  'stack-bounds': [[slot(0x79, 1, 10, -4), RETURN_0, EXIT], 0],
  'division-by-zero': [[RETURN_0, slot(0x94), EXIT], 1],
  'shift-range': [[RETURN_0, slot(0x64, 0, 0, 0, 32), EXIT], 1],
};

describe('structural rejections', () => {
  for (const [code, [insns, insn]] of Object.entries(REJECTED)) {
    it(`${code}, with what a person needs`, async () => {
      const result = await verify(insns, {
        'max-insns': code === 'program-too-long' ? 100 : 1_000_000,
        loops: 'reject',
      });
      expect(result).toMatchObject({ accepted: false, code });
      if (result.accepted) return;
      expect(result.insn).toBe(insn);
      expect(result.suggestion).toBe(STRUCTURAL_CODES[code as StructuralCode].suggestion);
      if (insn !== undefined) expect(result.disassembly).toBeTypeOf('string');
    });
  }

  it('points to the source line when there is one', async () => {
    const lines = [
      { insn: 0, file: 'x.c', text: 'return', line: 3, column: 1 },
      { insn: 1, file: 'x.c', text: 'x / 0', line: 7, column: 9 },
    ];
    const result = await verify([RETURN_0, slot(0x94), EXIT], undefined, { debug: { functions: [], lines } });
    expect(result).toMatchObject({ line: { line: 7 }, reason: 'division by the constant 0' });
  });

  it('names the map that a reference is wrong about', async () => {
    const result = await verify([slot(0x18, 1, 2, 0, 2), slot(0), RETURN_0, EXIT]);
    expect(result).toMatchObject({
      reason: 'many (BPF_MAP_TYPE_HASH of 10) has no single value to point into',
    });
  });
});

describe('structural acceptance', () => {
  it('lets a loop pass when loops are allowed', async () => {
    const insns = assemble('r0 = 0\nagain:\nr0 += 1\nif r0 < 5 goto again\nexit');
    expect((await verify(insns, { 'max-insns': 10, loops: 'allow' })).accepted).toBe(true);
  });

  it('lets a pointer into the value of a one-element array pass', async () => {
    const insns = [slot(0x18, 1, 2, 0, 1), slot(0, 0, 0, 0, 7), RETURN_0, EXIT];
    expect((await verify(insns)).accepted).toBe(true);
  });

  it('judges a long program in reasonable time', async () => {
    const insns = Array.from({ length: 200_000 }, () => RETURN_0);
    insns[insns.length - 1] = EXIT;
    const started = performance.now();
    expect((await verify(insns)).accepted).toBe(true);
    expect(performance.now() - started).toBeLessThan(5000);
  });

  it('lets others have their turn between its passes over a long program', async () => {
    const insns = Array.from({ length: 4097 }, () => RETURN_0);
    insns[insns.length - 1] = EXIT;
    let turns = 0;
    let isDone = false;
    const count = (): void => {
      turns++;
      if (!isDone) setImmediate(count);
    };
    setImmediate(count);
    const accepted = (await verify(insns)).accepted;
    isDone = true;
    expect([accepted, turns]).toEqual([true, 2]);
  });

  it('writes a log when asked', async () => {
    const result = await new StructuralVerifier().verify({
      program: { name: 'p', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns: [RETURN_0, EXIT] },
      maps: MAPS,
      log: true,
    });
    expect(result.log).toContain('exit');
  });
});
