import { describe, expect, it } from 'vitest';
import { readAssembly } from './assembly-object.js';

describe('readAssembly', () => {
  it('reads maps, a license and programs', () => {
    const object = readAssembly(`; a comment
.license Dual MIT/GPL
.map inner array key=4 value=8 entries=2
.map outer array_of_maps key=4 value=4 entries=3 inner=inner
.map config array key=4 value=2 entries=1 flags=0x80 frozen data=0102
.program first
  r1 = map[outer]
  r0 = 2
  exit
.program second
  r0 = 1
  exit
`);
    expect(object.license).toBe('Dual MIT/GPL');
    expect(
      object.maps.map(({ name, type, keySize, valueSize, maxEntries }) => [
        name,
        type,
        keySize,
        valueSize,
        maxEntries,
      ]),
    ).toEqual([
      ['inner', 2, 4, 8, 2],
      ['outer', 12, 4, 4, 3],
      ['config', 2, 4, 2, 1],
    ]);
    expect(object.maps[1]!.inner!.name).toBe('inner');
    expect(object.maps[2]).toMatchObject({
      flags: 0x80,
      frozen: true,
      initial: [{ value: Uint8Array.of(1, 2) }],
    });
    expect(object.programs.map(({ name, insns }) => [name, insns.length])).toEqual([
      ['first', 4],
      ['second', 2],
    ]);
    expect(object.programs[0]!.references).toEqual([
      { kind: 'map', insn: 0, mapName: 'outer', value: false, offset: 0 },
    ]);
  });

  it('a program says that it is for frames in several buffers', () => {
    const { programs } = readAssembly('.program a frags\nr0 = 2\nexit\n.program b\nr0 = 2\nexit\n');
    expect(programs.map(({ name, section, frags }) => [name, section, frags])).toEqual([
      ['a', 'xdp.frags', true],
      ['b', 'xdp', false],
    ]);
  });

  it('a program without a name is called main', () => {
    expect(readAssembly('r0 = 2\nexit\n').programs.map(({ name, insns }) => [name, insns.length])).toEqual([
      ['main', 2],
    ]);
  });

  it.each([
    ['.map', 1, 1, '.map needs a name and a type'],
    ['.program a frag', 1, 1, "'frag' behind a program's name: there is only frags"],
    ['r0 = 2\nexit\n  .map m arrey key=4', 3, 3, "'arrey' is not a map type"],
    ['.map m array key=x', 1, 1, "'key=x' is not one of"],
    ['.map m array_of_maps key=4 value=4 entries=1 inner=n', 1, 1, "there is no map 'n' above"],
    ['.map m array key=4 value=4 entries=1 data=00', 1, 1, 'data has 1 bytes, a value 4'],
    ['.map m hash\n.map m hash', 2, 1, "map 'm' is declared twice"],
    ['.progam x', 1, 1, "'.progam' is not a directive"],
    ['.program p\n  r0 = 2\n  frobnicate', 3, 3, ''],
  ])('%j: the error has its place', (text, line, col, message) => {
    let error: unknown;
    try {
      readAssembly(text, 'x.s');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toMatchObject({ code: 'asm-invalid', at: { file: 'x.s', line, col } });
    expect((error as Error).message).toContain(message);
  });
});
