import { describe, expect, it } from 'vitest';
import { readAssembly } from '../assembly-object.js';
import { requiredMaps } from './object-closure.js';

describe('the maps that a program needs', () => {
  it('are found in a time that grows with their number, not its square', () => {
    const text = '.map only array key=4 value=4 entries=1\n.program p\nr1 = map[only]\nr0 = 2\nexit\n';
    const { maps, programs } = readAssembly(text, 'one.s');
    const looks = (count: number): number => {
      let names = 0;
      const many = Array.from({ length: count }, (_, index) =>
        Object.defineProperty({ ...maps[0]! }, 'name', {
          get() {
            names++;
            return `m${index}`;
          },
        }),
      );
      const reference = programs[0]!.references[0]!;
      const references = many.map(
        (_, index) => ({ ...reference, kind: 'map', mapName: `m${index}` }) as const,
      );
      const program = { ...programs[0]!, references } as (typeof programs)[number];
      expect(requiredMaps({ maps: many, programs }, program)).toHaveLength(count);
      return names;
    };
    expect(looks(400)).toBeLessThan(3 * looks(200));
  });
});
