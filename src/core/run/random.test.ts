import { describe, expect, it } from 'vitest';
import { randomStream } from './random.js';

const draw = (seed: bigint, name: string, count = 64): number[] => {
  const next = randomStream(seed, name);
  return Array.from({ length: count }, next);
};

/** How many places hold the same number in both. Of 64 draws from 2³², two independent streams share none. */
const alike = (a: readonly number[], b: readonly number[]): number =>
  a.filter((value, index) => value === b[index]).length;

describe('a stream of random numbers', () => {
  it('is unsigned 32-bit integers, the same for the same seed and name', () => {
    const numbers = draw(2019n, 'workload');
    expect(numbers.every((value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32)).toBe(true);
    expect(new Set(numbers).size).toBe(numbers.length);
    expect(draw(2019n, 'workload')).toEqual(numbers);
  });

  it.each([
    ['workload', 'faults'],
    ['workload', 'workload2'],
    ['g0', 'g1'],
    ['ab', 'ba'],
    ['', 'workload'],
  ])("of the names '%s' and '%s' is not the same", (a, b) => {
    for (const seed of [0n, 1n, 2019n, 2n ** 53n - 1n]) expect(alike(draw(seed, a), draw(seed, b))).toBe(0);
  });

  it.each([
    [1n, 2n],
    [0n, 1n << 32n],
    [2019n, 2n ** 53n - 1n],
  ])('of the seeds %i and %i is not the same', (a, b) => {
    expect(alike(draw(a, 'workload'), draw(b, 'workload'))).toBe(0);
  });

  it('is not shifted by what is drawn from another', () => {
    const undisturbed = draw(7n, 'workload');
    const one = randomStream(7n, 'workload');
    const other = randomStream(7n, 'faults');
    const disturbed = undisturbed.map(() => {
      other();
      other();
      return one();
    });
    expect(disturbed).toEqual(undisturbed);
  });
});
