import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hashKey, hashKeyWords, hashMultipliers } from './map-layout.js';

describe('hashKey', () => {
  // Executors compute the same numbers in wasm: a change here breaks them, and every recorded run.
  it('gives the numbers it always gave', () => {
    const key = Uint8Array.of(1, 2, 3, 4, 5, 6, 7);
    // Computed by another implementation of the definition, in Python with whole numbers.
    expect([0, 1, 3, 4, 7].map((size) => hashKey(key, 0, size, 0x1234_5678))).toEqual([
      305419896, 1147729040, -134379197, 1135581669, -1866338578,
    ]);
  });

  it('follows its definition', () => {
    const { first, second } = hashMultipliers(7);
    const shift = (x: number): number => x ^ (x >>> 15);
    const step = (h: number, word: number): number =>
      shift(Math.imul(h ^ shift(Math.imul(word, second)), first));
    expect(hashKey(Uint8Array.of(1, 2, 3, 4, 0xff), 0, 5, 7)).toBe(step(step(7, 0x0403_0201), 0xff));
  });

  it('does not depend on where the key lies, and words hash as bytes do', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.integer(), fc.nat(8), (key, seed, at) => {
        const bytes = new Uint8Array(56);
        bytes.set(key, at);
        const hash = hashKey(key, 0, key.length, seed);
        expect(hashKey(bytes, at, key.length, seed)).toBe(hash);
        if (key.length % 4 === 0 && at % 4 === 0) {
          expect(hashKeyWords(new Int32Array(bytes.buffer), at / 4, key.length / 4, seed)).toBe(hash);
        }
      }),
    );
  });

  it('spreads neighbouring keys over the buckets', () => {
    const buckets = new Array<number>(256).fill(0);
    const key = new Uint8Array(4);
    for (let i = 0; i < 2560; i++) {
      new DataView(key.buffer).setUint32(0, i * 256, true);
      buckets[hashKey(key, 0, 4, 99) & 255]!++;
    }
    expect(Math.max(...buckets)).toBeLessThan(30);
  });

  it('lets no difference of two words collide for every seed', () => {
    // A collision needs the second word to undo what a difference in the first made of the hash so far. If that were
    // the same for many seeds, whoever knows it could prepare keys: so it must be another for nearly each.
    const seeds = Array.from({ length: 512 }, (_, i) => Math.imul(i + 1, 0x9e37_79b1));
    const differences: number[] = [];
    for (let i = 0; i < 32; i++) for (let j = i; j < 32; j++) differences.push((1 << i) | (1 << j));
    const afterFirstWord = (word: number, seed: number): number =>
      hashKeyWords(Int32Array.of(word), 0, 1, seed);
    let worst = 0;
    for (const difference of differences) {
      const counts = new Map<number, number>();
      for (const seed of seeds) {
        const made = afterFirstWord(0, seed) ^ afterFirstWord(difference, seed);
        const count = (counts.get(made) ?? 0) + 1;
        counts.set(made, count);
        worst = Math.max(worst, count);
      }
    }
    // Of the hash before this one, bit 31 made the same of all 512.
    expect(worst).toBeLessThan(8);
  });

  it('does not collide for keys that were prepared for multiplications that keep the highest bit', () => {
    const keys = Array.from({ length: 4096 }, (_, i) => {
      const key = new Int32Array(32);
      for (let j = 0; j < 12; j++) if (((i >> j) & 1) !== 0) key.set([0x8000_0000, 0x8001_0000], 2 * j);
      return key;
    });
    for (const seed of [0, 1, -1, 0x1234_5678, 0x8000_0000]) {
      const hashes = new Set(keys.map((key) => hashKeyWords(key, 0, 32, seed)));
      expect(hashes.size).toBeGreaterThan(4090);
      const longest = new Map<number, number>();
      for (const hash of hashes) longest.set(hash & 4095, (longest.get(hash & 4095) ?? 0) + 1);
      expect(Math.max(...longest.values())).toBeLessThan(16);
    }
  });
});
