import { describe, expect, it } from 'vitest';
import { assemble } from '../../../src/bpf/assembler.js';
import type { Program } from '../../../src/bpf/program.js';
import { AbstractVerifier } from '../abstract-verifier.js';
import { DEFAULT_CONFIG } from '../config.js';
import { REJECTION_CODES } from '../rejection-codes.js';
import { TWINS } from './index.js';
import { type Twin, TWIN_MAPS } from './twin.js';

const HANDLES = new Map(TWIN_MAPS.map((map, index) => [map.name, index + 1]));
const MAPS = new Map(TWIN_MAPS.map((map, index) => [index + 1, map]));

function programOf(twin: Twin, text: string): Program {
  return {
    name: 'twin',
    type: 6,
    attachType: 'BPF_XDP',
    gplCompatible: twin.gpl !== false,
    insns: assemble(text, { maps: HANDLES }),
  };
}

const verifier = new AbstractVerifier({ ...DEFAULT_CONFIG, maxProcessedInsns: 100_000 });

describe('twins', () => {
  it.each(TWINS.map((twin) => [twin.name, twin] as const))('%s', async (_name, twin) => {
    const rejected = await verifier.verify({ program: programOf(twin, twin.rejected), maps: MAPS });
    expect(rejected.accepted ? 'accepted' : rejected.code).toBe(twin.code);
    const accepted = await verifier.verify({ program: programOf(twin, twin.accepted), maps: MAPS });
    if (!accepted.accepted) expect.fail(`${accepted.code} at insn ${accepted.insn}: ${accepted.reason}`);
  });

  it('has a name of its own for each, and enough of them', () => {
    expect(new Set(TWINS.map((twin) => twin.name)).size).toBe(TWINS.length);
    expect(TWINS.length).toBeGreaterThanOrEqual(60);
  });

  it('covers every code that a small program can be rejected with', () => {
    const covered = new Set(TWINS.map((twin) => twin.code));
    const missing = Object.keys(REJECTION_CODES).filter((code) => !covered.has(code as Twin['code']));
    expect(missing).toEqual([
      'program-empty',
      'program-too-long',
      'program-type',
      // Needs a limit set low: see abstract-verifier.test.ts.
      'out-of-memory',
      'out-of-time',
      // Nothing should ever give it.
      'internal-error',
    ]);
  });

  it('explains each rejection', async () => {
    for (const twin of TWINS) {
      const result = await verifier.verify({ program: programOf(twin, twin.rejected), maps: MAPS });
      if (result.accepted) continue;
      expect(result.reason, twin.name).toMatch(/^([a-z0-9]|R\d|XDP)/);
      expect(result.disassembly ?? '', twin.name).not.toBe('');
    }
  });
});
