import { describe, expect, it } from 'vitest';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { BPF_PROG_TYPE_XDP, type ProgramSpec } from '../../bpf/program.js';
import { selectProgram } from './select-program.js';

function object(...programs: [name: string, section: string, type?: number][]): ObjectSpec {
  return {
    name: 'o',
    license: 'GPL',
    maps: [],
    notes: [],
    programs: programs.map(([name, section, type = BPF_PROG_TYPE_XDP]): ProgramSpec => ({
      name,
      section,
      type,
      attachType: 'BPF_XDP',
      frags: false,
      license: 'GPL',
      insns: [],
      references: [],
    })),
  };
}

const nameOf = (selection: ReturnType<typeof selectProgram>) =>
  'program' in selection ? selection.program.name : selection.problem;

describe('selectProgram', () => {
  const several = object(
    ['parse', 'xdp'],
    ['drop', 'xdp'],
    ['to_cpu', 'xdp/cpumap'],
    ['probe', 'kprobe/x', 2],
  );

  it('takes a function name, or a section that holds one program', () => {
    expect(nameOf(selectProgram(several, 'drop'))).toBe('drop');
    expect(nameOf(selectProgram(several, 'xdp/cpumap'))).toBe('to_cpu');
  });

  it('without a name takes the only XDP program', () => {
    expect(nameOf(selectProgram(object(['one', 'xdp'], ['other', 'kprobe/y', 2]), undefined))).toBe('one');
  });

  it('does not choose between several, and says which there are', () => {
    expect(selectProgram(several, undefined)).toEqual({
      problem: 'the object holds 3 XDP programs; name one',
      hint: 'parse (section xdp), drop (section xdp), to_cpu (section xdp/cpumap)',
    });
    expect(nameOf(selectProgram(several, 'xdp'))).toBe("section 'xdp' holds 2 programs; name one");
  });

  it('says how to run a program whose section does not say what it is', () => {
    expect(selectProgram(object(['first', 'prog', 0], ['other', 'kprobe/y', 2]), undefined)).toEqual({
      problem: 'the object holds no XDP program',
      hint: expect.stringMatching(/^first \(section prog\): if it is .* --type xdp/) as string,
    });
  });

  it('gives the nearest name, or all', () => {
    expect(selectProgram(several, 'dorp')).toMatchObject({ hint: "did you mean 'drop'?" });
    expect(selectProgram(object(), undefined)).toMatchObject({ hint: 'it holds no programs at all' });
  });
});
