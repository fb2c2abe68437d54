import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readObject } from '../elf/object-spec.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import { formatBytes, formatValue, valueToJson } from './format-value.js';
import { parseBytes, parseValue } from './parse-value.js';

const object = readObject(readFileSync(join(import.meta.dirname, '../elf/fixtures/types.o')));
const things = object.maps.find((map) => map.name === 'things')!;
const everything = things.valueType!;
const rodata = object.maps.find((map) => map.name === '.rodata')!;

const VALUE = {
  u8: 200,
  s64: '-9223372036854775808',
  u64: '18446744073709551615',
  flag: true,
  color: 'GREEN',
  name: 'eth0',
  mac: [2, 0, 0, 0, 0, 1],
  pair: [
    { a: 1, b: -2 },
    { a: 3, b: 4 },
  ],
  anonymous: 77,
  either: { wide: 5 },
  three: 5,
  nine: 300,
  minus: -3,
  tiny: 'RED',
  single: 0.5,
  real: -1.25,
};

describe('values of a map', () => {
  it('are printed by type', () => {
    const bytes = parseValue(everything, VALUE);
    expect(bytes).toHaveLength(120);
    expect(formatValue(everything, bytes)).toBe(
      '{ .u8 = 200, .s64 = -9223372036854775808, .u64 = 18446744073709551615, .flag = true, .color = GREEN, ' +
        '.name = "eth0", .mac = [2, 0, 0, 0, 0, 1], .pair = [{ .a = 1, .b = -2 }, { .a = 3, .b = 4 }], ' +
        '{ .anonymous = 77 }, .either = { .wide = 5 }, .three = 5, .nine = 300, .minus = -3, .tiny = RED, ' +
        '.address = { .in6_u = { .u6_addr8 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] } }, ' +
        '.pointer = 0x0, .single = 0.5, .real = -1.25 }',
    );
  });

  it('go to JSON and back', () => {
    const bytes = parseValue(everything, VALUE);
    const json = valueToJson(everything, bytes);
    expect(json).toMatchObject({ ...VALUE, anonymous: 77 });
    expect(parseValue(everything, JSON.parse(JSON.stringify(json)))).toEqual(bytes);
  });

  it('go to JSON and back whatever their bytes are', () => {
    // Padding and the bits between fields are not kept, so the round trip starts from parsed bytes.
    for (let seed = 1; seed < 200; seed++) {
      const bytes = Uint8Array.from(
        { length: 120 },
        (_, index) => (Math.imul(seed * 31 + index, 2654435761) >>> 13) & 0xff,
      );
      // NaN has many encodings.
      bytes.fill(0, 104);
      const once = parseValue(everything, withoutFlag(valueToJson(everything, bytes)));
      expect(parseValue(everything, withoutFlag(valueToJson(everything, once)))).toEqual(once);
    }
  });

  it('lie where the compiler put them', () => {
    const bytes = parseValue(everything, { pair: [{ a: 0x1234, b: -1 }], minus: -1, nine: 1 });
    const offsetOf = (name: string): number => everything.btf.member(everything.id, name)!.bitOffset;
    const pair = offsetOf('pair') / 8;
    expect([...bytes.subarray(pair, pair + 4)]).toEqual([0x34, 0x12, 0xff, 0]);
    const bits = Math.floor(offsetOf('nine') / 8);
    expect(bytes[bits]! | (bytes[bits + 1]! << 8) | (bytes[bits + 2]! << 16)).toBe((1 << 3) | (0x1f << 12));
  });

  it('are cut off where bytes are missing', () => {
    expect(formatValue(things.keyType!, Uint8Array.of(1, 0))).toBe('{ .a = 1, .b = <cut off> }');
    expect(valueToJson(things.keyType!, Uint8Array.of(1, 0))).toEqual({ a: 1, b: null });
  });

  it('show long arrays in part, and char arrays that are no strings as numbers', () => {
    const bytes = parseValue(everything, { name: [1, 2] });
    const name: BtfTypeRef = { btf: everything.btf, id: everything.btf.member(everything.id, 'name')!.type };
    expect(formatValue(name, Uint8Array.of(1, 2, 0, 0, 0, 0, 0, 0), { maxElements: 3 })).toBe(
      '[1, 2, 0, … 5 more]',
    );
    expect(formatValue(everything, bytes)).toContain('.name = [1, 2, 0, 0, 0, 0, 0, 0]');
    expect(formatValue(name, new TextEncoder().encode('größe\0'))).toBe('"größe"');
  });
});

function withoutFlag(json: unknown): unknown {
  return { ...(json as Record<string, unknown>), flag: false };
}

describe('parseValue', () => {
  it('takes integers in every spelling, addresses in network order, aggregates in hex', () => {
    expect(parseValue(everything, { u64: 7n })).toEqual(parseValue(everything, { u64: '0x7' }));
    expect(parseValue(everything, { mac: '02:00:00:00:00:01' })).toEqual(
      parseValue(everything, { mac: VALUE.mac }),
    );
    const dotted = parseValue(everything, { anonymous: '10.0.0.1' });
    const at = everything.btf.member(everything.id, 'anonymous')!.bitOffset / 8;
    expect([...dotted.subarray(at, at + 4)]).toEqual([10, 0, 0, 1]);
    expect([...parseValue(things.keyType!, '0x3412 ff00')]).toEqual([0x34, 0x12, 0xff, 0]);
  });

  it('changes variables of a data section and keeps the others', () => {
    const initial = rodata.initial[0]!;
    const base = 'value' in initial ? initial.value : expect.fail('no value');
    expect(formatValue(rodata.valueType!, base)).toBe('{ .limit = 7, .device = "eth0" }');
    const changed = parseValue(rodata.valueType!, { device: 'wlan0' }, base);
    expect(formatValue(rodata.valueType!, changed)).toBe('{ .limit = 7, .device = "wlan0" }');
  });

  it.each<[unknown, RegExp]>([
    [{ u8: 256 }, /value\.u8: 256 does not fit in 8 unsigned bits/],
    [{ u8: -1 }, /value\.u8: -1 does not fit in 8 unsigned bits/],
    [{ pair: [{}, { b: 128 }] }, /value\.pair\[1\]\.b: 128 does not fit in 8 signed bits/],
    [{ minus: 16 }, /value\.minus: 16 does not fit in 5 signed bits/],
    [{ pair: [1, 2, 3] }, /value\.pair: 3 elements do not fit in 2/],
    [{ color: 'BLUE' }, /value\.color: there is no BLUE, but RED, GREEN, NEGATIVE/],
    [{ nothing: 1 }, /value: there is no member nothing, but u8, s64/],
    [{ name: 'a long name' }, /value\.name: a string of 11 bytes does not fit in 8/],
    [{ mac: '02:00' }, /value\.mac: 2 bytes in hex instead of 6/],
    [{ u64: 1.5 }, /value\.u64: 1\.5 is not an exact integer/],
    [{ u64: null }, /value\.u64: an integer is expected, not nothing/],
    [{ flag: 'maybe' }, /value\.flag: true or false is expected/],
    [[1], /value: an object by member name is expected, not a list/],
    ['zz', /value: "zz" is not hex/],
  ])('%j fails with %s', (input, message) => {
    expect(() => parseValue(everything, input)).toThrow(message);
    expect(() => parseValue(everything, input)).toThrow(expect.objectContaining({ code: 'map-invalid' }));
  });
});

describe('values without a type', () => {
  it.each<[number, unknown, number[]]>([
    [4, 5, [5, 0, 0, 0]],
    [4, '10.0.0.1', [10, 0, 0, 1]],
    [4, '0x01020304', [4, 3, 2, 1]],
    [4, '01 02 03 04', [1, 2, 3, 4]],
    [4, 'deadbeef', [0xde, 0xad, 0xbe, 0xef]],
    [4, '0x5', [5, 0, 0, 0]],
    [2, -1, [0xff, 0xff]],
    [8, '18446744073709551615', [255, 255, 255, 255, 255, 255, 255, 255]],
    [6, '02:00:00:00:00:01', [2, 0, 0, 0, 0, 1]],
    [3, [1, 2], [1, 2, 0]],
    [16, `20010db8${'0'.repeat(22)}01`, [0x20, 1, 0x0d, 0xb8, ...Array.from({ length: 11 }, () => 0), 1]],
  ])('%i bytes from %j', (size, input, expected) => {
    expect([...parseBytes(size, input)]).toEqual(expected);
  });

  it.each<[number, unknown, RegExp]>([
    [1, 256, /does not fit in 8 bits/],
    [16, 5, /16 bytes are to be given in hex or as a list/],
    [16, '0011', /2 bytes in hex instead of 16/],
    [2, [1, 2, 3], /3 bytes do not fit in 2/],
    [4, 'what', /an integer is expected/],
  ])('%i bytes from %j fail', (size, input, message) => {
    expect(() => parseBytes(size, input)).toThrow(message);
  });

  it('are printed as numbers, or in hex', () => {
    expect(formatBytes(Uint8Array.of(1, 2, 0, 0))).toBe('513');
    expect(formatBytes(Uint8Array.of(1, 2, 0xff))).toBe('01 02 ff');
  });
});
