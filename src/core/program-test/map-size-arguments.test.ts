import { describe, expect, it } from 'vitest';
import { readAssembly } from '../../bpf/assembly-object.js';
import { applyMapSizes, parseMapSizes } from './map-size-arguments.js';

const OBJECT = readAssembly(
  `.map flows hash key=4 value=8 entries=16
.map ports array key=4 value=8 entries=0
.program p
  r0 = 2
  exit
`,
  'test.s',
);

describe('--map', () => {
  it('takes the last dot for the end of the name, and the last size of a map', () => {
    expect({
      ...parseMapSizes(['a.max_entries=1', 'b.c.max_entries=4294967295', 'a.max_entries=2']),
    }).toEqual({
      a: 2,
      'b.c': 4294967295,
    });
  });

  it.each([
    ['flows', 'is not NAME.max_entries=N'],
    ['flows=7', 'is not NAME.max_entries=N'],
    ['.max_entries=7', 'is not NAME.max_entries=N'],
    ['flows.max_entries', 'is not NAME.max_entries=N'],
    ['flows.max_entry=7', "has no 'max_entry' that can be set"],
    ['flows.max_entries=', "'' is not a number"],
    ['flows.max_entries=0', "'0' is not a number from 1 to 4294967295"],
    ['flows.max_entries=-1', "'-1' is not a number"],
    ['flows.max_entries=1e3', "'1e3' is not a number"],
    ['flows.max_entries=4294967296', "'4294967296' is not a number"],
  ])('refuses %s', (text, message) => {
    expect(() => parseMapSizes([text])).toThrow(
      expect.objectContaining({
        code: 'usage',
        message: expect.stringContaining(message) as string,
      }) as Error,
    );
  });

  it('names the member and the map that may have been meant', () => {
    expect(() => parseMapSizes(['flows.max_entry=7'])).toThrow(
      expect.objectContaining({ hint: "did you mean 'max_entries'?" }) as Error,
    );
    expect(() => applyMapSizes(OBJECT, { flow: 7 })).toThrow(
      expect.objectContaining({ code: 'map-invalid', hint: "did you mean 'flows'?" }) as Error,
    );
  });
});

describe('applyMapSizes', () => {
  it('changes those maps and nothing else', () => {
    const resized = applyMapSizes(OBJECT, { ports: 9 });
    expect(resized.maps.map(({ name, maxEntries }) => [name, maxEntries])).toEqual([
      ['flows', 16],
      ['ports', 9],
    ]);
    expect(resized.maps[0]).toBe(OBJECT.maps[0]);
    expect(resized.programs).toBe(OBJECT.programs);
    expect(OBJECT.maps[1]!.maxEntries).toBe(0);
  });

  it('leaves the maps of global variables alone', () => {
    const object = { ...OBJECT, maps: [{ ...OBJECT.maps[0]!, name: '.rodata' }] };
    expect(() => applyMapSizes(object, { '.rodata': 2 })).toThrow(
      'map .rodata holds global variables and has one element',
    );
  });
});
