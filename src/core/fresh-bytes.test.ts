import { describe, expect, it } from 'vitest';
import { freshBytes, freshCopy, freshViewable } from './fresh-bytes.js';

describe.each([
  ['freshBytes', freshBytes],
  ['freshViewable', freshViewable],
])('%s', (_name, fresh) => {
  it('gives zeros of exactly the length, and no byte twice', () => {
    const lengths = [0, 1, 7, 8, 60, 64, 65, 1514, 2048, 2049, 70_000];
    const pieces: Uint8Array[] = [];
    for (let round = 0; round < 40; round++) {
      for (const length of lengths) {
        const piece = fresh(length);
        expect(piece.length).toBe(length);
        expect(piece.every((byte) => byte === 0)).toBe(true);
        piece.fill((pieces.length % 255) + 1);
        pieces.push(piece);
      }
    }
    for (const [index, piece] of pieces.entries()) {
      expect(piece.every((byte) => byte === (index % 255) + 1)).toBe(true);
    }
  });
});

describe('freshCopy', () => {
  it('copies what then changes apart from the copy', () => {
    const bytes = Uint8Array.from({ length: 100 }, (_, index) => index);
    const copy = freshCopy(bytes);
    expect(copy).toEqual(bytes);
    bytes.fill(0);
    expect(copy[99]).toBe(99);
  });
});
