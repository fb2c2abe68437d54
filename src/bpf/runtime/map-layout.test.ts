import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hashKey, hashKeyWords } from './map-layout.js';

describe('hashKey', () => {
  // Executors compute the same numbers in wasm: a change here breaks them, and every recorded run.
  it('gives the numbers it always gave', () => {
    const key = Uint8Array.of(1, 2, 3, 4, 5, 6, 7);
    expect([0, 1, 3, 4, 7].map((size) => hashKey(key, 0, size, 0x1234_5678))).toEqual([
      -1605904834, 1986927883, -729651456, 1197789201, -237807094,
    ]);
    expect(hashKey(key, 0, 0, 0)).toBe(0);
  });

  it('follows its definition', () => {
    const step = (h: number, word: number): number => {
      const mixed = Math.imul(h ^ word, 0x9e3779b1);
      return mixed ^ (mixed >>> 15);
    };
    const final = (h: number): number => {
      const mixed = Math.imul(h, 0x85ebca6b);
      return mixed ^ (mixed >>> 13);
    };
    expect(hashKey(Uint8Array.of(1, 2, 3, 4, 0xff), 0, 5, 7)).toBe(final(step(step(7, 0x0403_0201), 0xff)));
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
});
