import { describe, expect, it } from 'vitest';
import { readLe32, readLe64, writeLe32, writeLe64 } from './little-endian.js';

/** In front of and behind the integer: must stay as they are. */
const GUARD = 0xa5;
const around = (bytes: number): Uint8Array => new Uint8Array(bytes + 3).fill(GUARD);

describe('single integers in little-endian', () => {
  it.each([
    [0, [0, 0, 0, 0]],
    [0x0403_0201, [1, 2, 3, 4]],
    [0x8000_0000, [0, 0, 0, 0x80]],
    [0xffff_fffe, [0xfe, 0xff, 0xff, 0xff]],
  ])('le32 %i', (value, bytes) => {
    const place = around(4);
    writeLe32(place, 1, value, 'field');
    expect([...place]).toEqual([GUARD, ...bytes, GUARD, GUARD]);
    expect(readLe32(place, 1)).toBe(value);
  });

  it.each([
    [0n, [0, 0, 0, 0, 0, 0, 0, 0]],
    [2n, [2, 0, 0, 0, 0, 0, 0, 0]],
    [0x0807_0605_0403_0201n, [1, 2, 3, 4, 5, 6, 7, 8]],
    [1n << 32n, [0, 0, 0, 0, 1, 0, 0, 0]],
    [(1n << 64n) - 2n, [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]],
  ])('le64 %i', (value, bytes) => {
    const place = around(8);
    writeLe64(place, 1, value, 'field');
    expect([...place]).toEqual([GUARD, ...bytes, GUARD, GUARD]);
    expect(readLe64(place, 1)).toBe(value);
  });

  it.each([-1, 2 ** 32, 0.5, NaN, Infinity])('does not write %d as le32', (value) => {
    const place = around(4);
    expect(() => writeLe32(place, 1, value, 'key_size')).toThrow(`key_size: ${value} is not an integer`);
    expect(place).toEqual(around(4));
  });

  it.each([-1n, 1n << 64n])('does not write %d as le64', (value) => {
    const place = around(8);
    expect(() => writeLe64(place, 1, value, 'flags')).toThrow(`flags: ${value} is no le64`);
    expect(place).toEqual(around(8));
  });
});
