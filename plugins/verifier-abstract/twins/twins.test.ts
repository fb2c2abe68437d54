import { describe, expect, it } from 'vitest';
import { AbstractVerifier } from '../abstract-verifier.js';
import { DEFAULT_CONFIG } from '../config.js';
import { REJECTION_CODES } from '../rejection-codes.js';
import { TWINS } from './index.js';
import { requestOfTwin, type Twin } from './twin.js';

const verifier = new AbstractVerifier({ ...DEFAULT_CONFIG, maxProcessedInsns: 100_000 });

describe('twins', () => {
  it.each(TWINS.map((twin) => [twin.name, twin] as const))('%s', async (_name, twin) => {
    const rejected = await verifier.verify(requestOfTwin(twin, 'rejected'));
    expect(rejected.accepted ? 'accepted' : rejected.code).toBe(twin.code);
    const accepted = await verifier.verify(requestOfTwin(twin, 'accepted'));
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
      const result = await verifier.verify(requestOfTwin(twin, 'rejected'));
      if (result.accepted) continue;
      expect(result.reason, twin.name).toMatch(/^([a-z0-9]|R\d|XDP)/);
      expect(result.disassembly ?? '', twin.name).not.toBe('');
    }
  });
});
