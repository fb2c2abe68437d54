import { describe, expect, it } from 'vitest';
import { assemble } from '../../bpf/assembler.js';
import type { LineInfo } from '../../bpf/btf/btf-ext.js';
import { BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import type { Verification } from '../../core/contract/verifier.js';
import { renderEffort } from './effort-table.js';

const at = (insn: number, line: number, text: string): LineInfo => ({
  insn,
  file: './a.bpf.c',
  text,
  line,
  column: 1,
});

function program(text: string, lines: readonly LineInfo[] = []): ProgramSpec {
  return {
    name: 'p',
    section: 'xdp',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    frags: false,
    license: 'GPL',
    insns: assemble(text),
    references: [],
    debug: { lines, functions: [] },
  };
}

const said = (verifier: string, visits?: readonly number[]): Verification => ({
  accepted: true,
  verifier,
  statistics: { processedInsns: 9, peakStates: 0, totalStates: 0, ...(visits && { visits }) },
});

const SPEC = program('r0 = 1\nr0 = 1 ll\nr0 += 1\nr0 = 2\nexit', [
  at(0, 7, 'one'),
  at(1, 8, 'two'),
  at(3, 0, ''),
  at(4, 7, 'one'),
]);

describe('effort of verifiers', () => {
  it('is summed up by source line, most first, wherever its insns are', () => {
    const text = renderEffort(
      SPEC,
      [said('abstract', [1, 10, 0, 3, 2, 2]), said('kernel', [1, 4, 0, 3, 5, 2])],
      false,
    );
    expect(text.split('\n')).toEqual([
      '',
      '  abstract     kernel difference  source line',
      '        10          4         +6  two  (a.bpf.c:8)',
      '         5          8         -3  one  (a.bpf.c:7)',
      '         3          3          0  insns that are of no source line',
      '        18         15         +3  all insns',
      '',
    ]);
  });

  it('is told of each insn where that is asked for, or there are no lines', () => {
    const visits = [said('abstract', [1, 10, 0, 3, 2, 2])];
    const rows = ['         1     0: r0 = 1', '        10     1: r0 = 0x1ll', '         2     5: exit'];
    for (const text of [
      renderEffort(SPEC, visits, true),
      renderEffort({ ...SPEC, debug: undefined }, visits, false),
    ]) {
      expect(text.split('\n')).toEqual(expect.arrayContaining(rows));
      expect(text).not.toContain('all insns');
    }
    expect(renderEffort(SPEC, visits, true)).toContain('; two @ ./a.bpf.c:8\n        10     1: r0 = 0x1ll');
  });

  it('shows the lines that took most, and says of how many', () => {
    const insns = Array.from({ length: 29 }, (_, slot) => `r0 = ${slot}`).join('\n');
    const lines = Array.from({ length: 30 }, (_, slot) => at(slot, slot + 1, `line ${slot + 1}`));
    const visits = Array.from({ length: 30 }, (_, slot) => slot + 1);
    const text = renderEffort(program(`${insns}\nexit`, lines), [said('abstract', visits)], false);
    expect(text).toContain('source line (of 30, those that took most)');
    expect(text).toMatch(/ 30 {2}line 30 .*\n[^]* 11 {2}line 11 /);
    expect(text).not.toContain('line 10 ');
    expect(text).toContain('       465  all insns');
  });

  it('names who did not count, and makes no table of nothing', () => {
    expect(renderEffort(SPEC, [said('structural')], false)).toBe('  structural: insns were not counted\n');
    const text = renderEffort(SPEC, [said('structural'), said('abstract', [1, 1, 0, 1, 1, 1])], false);
    expect(text).toMatch(/^ {2}structural: insns were not counted\n\n {2}abstract {2}source line\n/);
  });
});
