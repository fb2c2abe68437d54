import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readObject } from '../elf/object-spec.js';
import { BTF_KINDS, type BtfKind } from './btf-type.js';
import { Btf } from './btf.js';
import { BtfExt } from './btf-ext.js';

/** Writes BTF sections that no compiler here writes: ENUM64, circles, nonsense. */
class BtfWriter {
  readonly #types: number[][] = [];
  #strings = '\0';

  /** Offset of a string. */
  string(text: string): number {
    if (text === '') return 0;
    const at = this.#strings.length;
    this.#strings += `${text}\0`;
    return at;
  }

  /** Appends a type and returns its id; `words` follow its 12 bytes. */
  add(kind: BtfKind, name: string, sizeOrType: number, words: number[] = [], vlen = 0, flag = false): number {
    const info = (BTF_KINDS.indexOf(kind) << 24) | vlen | (flag ? 0x80000000 : 0);
    this.#types.push([this.string(name), info >>> 0, sizeOrType, ...words]);
    return this.#types.length;
  }

  bytes(): Uint8Array {
    const words = this.#types.flat();
    const strings = new TextEncoder().encode(this.#strings);
    const bytes = new Uint8Array(24 + words.length * 4 + strings.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, 0xeb9f, true);
    view.setUint8(2, 1);
    view.setUint32(4, 24, true);
    view.setUint32(12, words.length * 4, true);
    view.setUint32(16, words.length * 4, true);
    view.setUint32(20, strings.length, true);
    words.forEach((word, index) => view.setUint32(24 + 4 * index, word >>> 0, true));
    bytes.set(strings, 24 + words.length * 4);
    return bytes;
  }

  build(): Btf {
    return new Btf(this.bytes());
  }
}

const INT_U32 = 32;
const SIGNED = 1 << 24;

describe('Btf', () => {
  it('reads every kind', () => {
    const writer = new BtfWriter();
    const u32 = writer.add('INT', 'u32', 4, [INT_U32]);
    const pointer = writer.add('PTR', '', u32);
    const array = writer.add('ARRAY', '', 0, [u32, u32, 5]);
    const members = [writer.string('a'), u32, 0, writer.string('b'), array, 32];
    const struct = writer.add('STRUCT', 'pair', 24, members, 2);
    const union = writer.add('UNION', 'either', 4, [writer.string('x'), u32, 0], 1);
    writer.add('ENUM', 'e', 4, [writer.string('E'), 7], 1);
    const fwd = writer.add('FWD', 'hidden', 0, [], 0, true);
    const typedef = writer.add('TYPEDEF', '__u32', u32);
    const constant = writer.add('CONST', '', typedef);
    const restricted = writer.add('RESTRICT', '', pointer);
    const proto = writer.add('FUNC_PROTO', '', u32, [writer.string('ctx'), pointer], 1);
    const func = writer.add('FUNC', 'main', proto, [], 1);
    const variable = writer.add('VAR', 'counter', u32, [1]);
    const section = writer.add('DATASEC', '.data', 4, [variable, 0, 4], 1);
    const float = writer.add('FLOAT', 'double', 8);
    writer.add('DECL_TAG', 'tag', struct, [0xffffffff]);
    const tagged = writer.add('TYPE_TAG', 'user', u32);
    const wide = writer.add(
      'ENUM64',
      'w',
      8,
      [writer.string('BIG'), 1, 2, writer.string('MINUS'), 0xffffffff, 0xffffffff],
      2,
      true,
    );
    const btf = writer.build();

    expect(btf.typeCount).toBe(19);
    expect(btf.type(func)).toEqual({ kind: 'FUNC', name: 'main', type: proto, linkage: 'global' });
    expect(btf.type(wide)).toMatchObject({
      values: [
        { name: 'BIG', value: 0x200000001n },
        { name: 'MINUS', value: -1n },
      ],
    });
    expect(btf.type(fwd)).toMatchObject({ of: 'union' });
    expect(btf.resolve(constant)).toBe(u32);
    expect(btf.resolve(tagged)).toBe(u32);
    expect(btf.find('STRUCT', 'pair')?.id).toBe(struct);
    expect(btf.find('UNION', 'pair')).toBeUndefined();
    const sizes = [u32, pointer, array, struct, union, fwd, constant, func, variable, section, float, wide];
    expect(sizes.map((id) => btf.sizeOf(id))).toEqual([4, 8, 20, 24, 4, undefined, 4, undefined, 4, 4, 8, 8]);
    expect(btf.describe(restricted)).toBe('restrict u32 *');
    expect(btf.describe(proto)).toBe('u32 (u32 *)');
    expect(btf.describe(array)).toBe('u32[5]');
    expect(btf.member(struct, 'b')).toMatchObject({ type: array, bitOffset: 32 });
    expect(btf.member(struct, 'c')).toBeUndefined();
  });

  it('ends circles: typedefs, arrays and anonymous structs of themselves', () => {
    const writer = new BtfWriter();
    const first = writer.add('TYPEDEF', 'a', 2);
    writer.add('TYPEDEF', 'b', 1);
    const array = writer.add('ARRAY', '', 0, [3, 3, 0xffffffff]);
    const struct = writer.add('STRUCT', 's', 4, [0, 4, 0, 0, 4, 0], 2);
    const proto = writer.add('FUNC_PROTO', '', 5, [0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5], 6);
    const btf = writer.build();
    expect(btf.resolve(first)).toBe(0);
    expect(btf.sizeOf(first)).toBeUndefined();
    expect(btf.sizeOf(array)).toBeUndefined();
    expect(btf.member(struct, 'x')).toBeUndefined();
    expect(btf.describe(proto).length).toBeLessThan(100_000);
    expect(btf.type(99)).toEqual({ kind: 'VOID', name: '' });
  });

  it('takes a size that no value can have for none', () => {
    const writer = new BtfWriter();
    const u32 = writer.add('INT', 'u32', 4, [INT_U32]);
    const inner = writer.add('ARRAY', '', 0, [u32, u32, 0x10000000]);
    expect(writer.build().sizeOf(inner)).toBe(0x40000000);
    const outer = writer.add('ARRAY', '', 0, [inner, u32, 0xffffffff]);
    expect(writer.build().sizeOf(outer)).toBeUndefined();
  });

  it.each<[string, (writer: BtfWriter) => void, RegExp]>([
    ['a kind from the future', (w) => w.add('INT', 'x', 4, [], 0) && undefined, /type 1 \(INT\) is cut off/],
    ['an integer of 0 bytes', (w) => void w.add('INT', 'x', 0, [32]), /integer of 0 bytes/],
    ['bits past the integer', (w) => void w.add('INT', 'x', 1, [32]), /bits 0 … 32 of 1 bytes/],
    ['an enum of 3 bytes', (w) => void w.add('ENUM', 'x', 3), /enum of 3 bytes/],
    ['too many members', (w) => void w.add('STRUCT', 'x', 4, [0, 0, 0], 9), /type 1 \(STRUCT\) is cut off/],
    ['an unknown linkage', (w) => void w.add('FUNC', 'x', 0, [], 7), /unknown linkage 7/],
  ])('rejects %s, naming the offset', (_, add, message) => {
    const writer = new BtfWriter();
    add(writer);
    expect(() => writer.build()).toThrow(
      expect.objectContaining({ code: 'btf-invalid', message: expect.stringMatching(message) as string }),
    );
  });

  it('rejects headers that point outside', () => {
    const writer = new BtfWriter();
    writer.add('INT', 'u32', 4, [SIGNED | INT_U32]);
    const good = writer.bytes();
    const patch = (offset: number, value: number): Uint8Array => {
      const copy = good.slice();
      new DataView(copy.buffer).setUint32(offset, value, true);
      return copy;
    };
    expect(() => new Btf(patch(0, 0))).toThrow(/magic number 0x0/);
    expect(() => new Btf(patch(4, 8))).toThrow(/header of 8 bytes/);
    expect(() => new Btf(patch(12, 0xfffffff0))).toThrow(/BTF types needs/);
    expect(() => new Btf(patch(16, 0x1000), 0x500)).toThrow(
      expect.objectContaining({ at: { offset: 0x500 + good.length } }),
    );
    expect(() => new Btf(good.subarray(0, 10))).toThrow(/past the end/);
  });

  it('survives any bytes after a good header', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (body) => {
        const bytes = new Uint8Array(24 + body.length);
        const view = new DataView(bytes.buffer);
        view.setUint16(0, 0xeb9f, true);
        view.setUint8(2, 1);
        view.setUint32(4, 24, true);
        const strings = Math.min(16, body.length);
        view.setUint32(12, body.length - strings, true);
        view.setUint32(16, body.length - strings, true);
        view.setUint32(20, strings, true);
        bytes.set(body, 24);
        try {
          const btf = new Btf(bytes);
          for (let id = 0; id < btf.typeCount; id++) btf.describe(id);
        } catch (error) {
          expect(error).toMatchObject({ code: 'btf-invalid' });
        }
      }),
      { numRuns: 500, seed: 3 },
    );
  });
});

describe('BtfExt', () => {
  const btf = new BtfWriter().build();
  const section = (words: number[]): Uint8Array => {
    const bytes = new Uint8Array(words.length * 4);
    const view = new DataView(bytes.buffer);
    words.forEach((word, index) => view.setUint32(4 * index, word, true));
    return bytes;
  };

  it('takes an old header, and empty tables', () => {
    const ext = new BtfExt(section([0x0001eb9f, 24, 0, 0, 0, 0]), btf);
    expect([ext.functions.size, ext.lines.size, ext.coreRelocations.size]).toEqual([0, 0, 0]);
  });

  it.each<[string, number[], RegExp]>([
    ['another magic number', [0x00011234, 24, 0, 0, 0, 0], /magic number 0x1234/],
    ['a table past the end', [0x0001eb9f, 24, 0, 400, 0, 0], /func_info needs 400 bytes/],
    ['records that are too small', [0x0001eb9f, 24, 0, 4, 0, 0, 4], /records of 4 bytes/],
    ['more records than fit', [0x0001eb9f, 24, 0, 12, 0, 0, 8, 0, 0xffffffff], /4294967295 records/],
    ['an insn between slots', [0x0001eb9f, 24, 0, 0, 0, 28, 16, 0, 1, 12, 0, 0, 0], /insn_off 12/],
  ])('rejects %s', (_, words, message) => {
    expect(() => new BtfExt(section(words), btf)).toThrow(
      expect.objectContaining({ code: 'btf-invalid', message: expect.stringMatching(message) as string }),
    );
  });
});

it('variables of an unlinked object are where the symbol table says', () => {
  const bytes = readFileSync(join(import.meta.dirname, '../elf/fixtures/types.o'));
  const { btf } = readObject(bytes);
  const rodata = btf!.find('DATASEC', '.rodata')!.type;
  expect(rodata.size).toBe(20);
  expect(rodata.variables.map((variable) => [btf!.type(variable.type).name, variable.offset])).toEqual([
    ['limit', 0],
    ['device', 4],
  ]);
});
