import { describe, expect, it } from 'vitest';
import { freshBytes, freshCopy, freshCopyFrom, FreshPiece, freshViewable, pieceOf } from './fresh-bytes.js';

describe.each([
  ['freshBytes', freshBytes],
  ['freshViewable', freshViewable],
  ['FreshPiece', (length: number) => new FreshPiece(length).from(0)],
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

describe('freshCopyFrom', () => {
  it.each([0, 1, 3, 4, 60, 63, 64, 255, 256, 257, 2048, 2049])(
    'copies %i bytes from any place, and no more',
    (length) => {
      const bytes = Uint8Array.from({ length: 4096 }, (_, index) => (7 * index + 1) % 251);
      const memory = { bytes, words: new Int32Array(bytes.buffer) };
      for (const at of [0, 1, 2, 3, 4, 1000, 4096 - length]) {
        const before = freshBytes(8);
        const copy = freshCopyFrom(memory, at, length);
        const after = freshCopyFrom(memory, 0, 1);
        expect(copy).toEqual(bytes.slice(at, at + length));
        copy.fill(255);
        expect(before.every((byte) => byte === 0)).toBe(true);
        expect(after[0]).toBe(1);
        expect(bytes.every((byte, index) => byte === (7 * index + 1) % 251)).toBe(true);
      }
    },
  );
});

describe('pieceOf', () => {
  it('hands on what lies behind an offset', () => {
    for (const length of [13, 72, 5000]) {
      const bytes = Uint8Array.from({ length }, (_, index) => index % 256);
      const piece = pieceOf(bytes);
      expect(piece.from(12)).toEqual(bytes.subarray(12));
      expect(piece.from(length)).toHaveLength(0);
    }
  });
});
