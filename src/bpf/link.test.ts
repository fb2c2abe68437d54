import { describe, expect, it } from 'vitest';
import { assemble } from './assembler.js';
import { formatInsn } from './disassembler.js';
import { linkProgram } from './link.js';
import type { ProgramSpec } from './program.js';

const spec = (fields: Partial<ProgramSpec> = {}): ProgramSpec => ({
  name: 'main',
  section: 'xdp',
  type: 6,
  attachType: 'BPF_XDP',
  frags: false,
  license: 'GPL',
  insns: assemble('r1 = 0ll\n r2 = 0ll\n exit'),
  references: [
    { kind: 'map', insn: 0, mapName: 'flows', value: false, offset: 0 },
    { kind: 'map', insn: 2, mapName: '.rodata', value: true, offset: 12 },
  ],
  ...fields,
});
const handles = new Map([
  ['flows', 4],
  ['.rodata', 9],
]);

describe('linkProgram', () => {
  it('puts handles and offsets into lddw, and leaves the spec alone', () => {
    const before = spec();
    const program = linkProgram(before, handles);
    expect(formatInsn(program.insns, 0)).toBe('r1 = map[fd:4]');
    expect(formatInsn(program.insns, 2)).toBe('r2 = map[fd:9][0]+12');
    expect(program).toMatchObject({ name: 'main', type: 6, attachType: 'BPF_XDP', gplCompatible: true });
    expect(before).toEqual(spec());
    expect(linkProgram(spec({ license: 'Proprietary' }), handles).gplCompatible).toBe(false);
  });

  it.each<[string, Partial<ProgramSpec>, string]>([
    [
      'map-invalid',
      { references: [{ kind: 'map', insn: 0, mapName: 'other', value: false, offset: 0 }] },
      'other',
    ],
    ['object-unsupported', { unsupported: 'program main: insn 3 needs more' }, 'insn 3 needs more'],
    ['object-unsupported', { type: 2, section: 'kprobe/x' }, 'section kprobe/x is of type kprobe'],
    ['object-unsupported', { type: 0, section: 'prog' }, 'of type unknown'],
    [
      'insn-invalid',
      { references: [{ kind: 'map', insn: 4, mapName: 'flows', value: false, offset: 0 }] },
      'lddw',
    ],
  ])('fails with %s for %j', (code, fields, message) => {
    expect(() => linkProgram(spec(fields), handles)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(message) as string }),
    );
  });

  it('says what to do about a program of unknown type', () => {
    expect(() => linkProgram(spec({ type: 0, section: 'prog' }), handles)).toThrow(
      expect.objectContaining({ hint: expect.stringContaining('--type xdp') as string }),
    );
  });
});
