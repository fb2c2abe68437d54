import { describe, expect, it } from 'vitest';
import { BoundedReader, StringTable } from './bounded-reader.js';

const tableOf = (bytes: Uint8Array, fileOffset = 0): StringTable =>
  new StringTable(new BoundedReader(bytes, 'object-invalid', fileOffset));
const tableOfText = (text: string): StringTable => tableOf(new TextEncoder().encode(text));

describe('StringTable', () => {
  it('reads from any offset to the next NUL, as UTF-8', () => {
    const table = tableOfText('\0name\0größe\0');
    expect([table.at(0, 'it'), table.at(1, 'it'), table.at(3, 'it'), table.at(6, 'it')]).toEqual([
      '',
      'name',
      'me',
      'größe',
    ]);
    // The same again, now from memory.
    expect([table.at(1, 'it'), table.cut(6, 'it'), table.cut(1, 'it', 2)]).toEqual(['name', 'größe', 'na']);
    expect(table.at(1, 'it')).toBe('name');
  });

  it('refuses what is too long, cuts it where asked to, and takes what just fits', () => {
    const table = tableOfText('\0abcd\0');
    expect(table.at(1, 'it', 4)).toBe('abcd');
    expect(() => table.at(1, 'it', 3)).toThrow('it is a string of more than 3 bytes');
    expect(table.cut(1, 'it', 3)).toBe('abc');
    expect(() => table.at(1, 'it', 3)).toThrow('it is a string of more than 3 bytes');
  });

  it('refuses strings without an end, also to cut them, and those behind the table', () => {
    const table = tableOfText('\0abc');
    expect(() => table.at(1, 'it')).toThrow('it is a string without an end');
    expect(() => table.cut(1, 'it', 1)).toThrow('it is a string without an end');
    expect(() => table.at(4, 'it')).toThrow('it is string 4 of a table of 4 bytes');
    expect(tableOf(new Uint8Array(0)).at(0, 'it')).toBe('');
  });

  it('decodes of a long string only what is asked for, and that once', () => {
    const table = tableOf(new Uint8Array(100_000).fill(0x61, 1, 99_999));
    for (let i = 0; i < 1000; i++) expect(table.cut(1, 'it', 10)).toBe('aaaaaaaaaa');
    expect(table.decodedBytes).toBe(10);
  });

  it('bounds strings that overlap by the size of the table, and says where', () => {
    const bytes = new Uint8Array(200_000).fill(0xe4, 1, 199_999);
    const table = tableOf(bytes, 0x100);
    const decode = (): void => {
      for (let at = 1; at < 100_000; at++) table.cut(at, 'it');
    };
    expect(decode).toThrow(
      expect.objectContaining({
        code: 'object-invalid',
        message: expect.stringContaining('it is one of too many strings that overlap') as string,
        at: { offset: 0x100 + Math.floor((8 * 200_000 + 2 ** 20) / 1024) + 1 },
      }),
    );
  });
});
