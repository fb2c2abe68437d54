import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { readObject } from '../elf/object-spec.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import { describeValue, formatBytes, formatValue, valueToJson } from './format-value.js';
import { parseBytes, parseValue } from './parse-value.js';

const FIXTURES = join(import.meta.dirname, '../elf/fixtures');
const object = readObject(readFileSync(join(FIXTURES, 'types.o')));
const { btf } = readObject(readFileSync(join(FIXTURES, 'written_values.o'))).maps[0]!.keyType!;
const typeOf = (kind: 'STRUCT', name: string): BtfTypeRef => ({ btf, id: btf.find(kind, name)!.id });
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
  mac: '02:00:00:00:00:01',
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
      '{ u8: 200, s64: "-9223372036854775808", u64: "18446744073709551615", flag: true, color: GREEN, ' +
        'name: eth0, mac: "02:00:00:00:00:01", pair: [{ a: 1, b: -2 }, { a: 3, b: 4 }], anonymous: 77, ' +
        'either: { wide: 5 }, three: 5, nine: 300, minus: -3, tiny: RED, address: "::", pointer: 0x0, ' +
        'single: 0.5, real: -1.25 }',
    );
  });

  it('go to JSON and back', () => {
    const bytes = parseValue(everything, VALUE);
    const json = valueToJson(everything, bytes);
    expect(json).toMatchObject({ ...VALUE, anonymous: 77 });
    expect(parseValue(everything, JSON.parse(JSON.stringify(json)))).toEqual(bytes);
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
    expect(formatValue(things.keyType!, Uint8Array.of(1, 0))).toBe('{ a: 1, b: null }');
    expect(valueToJson(things.keyType!, Uint8Array.of(1, 0))).toEqual({ a: 1, b: null });
  });

  it('show char arrays that are no strings as numbers', () => {
    const bytes = parseValue(everything, { name: [1, 2] });
    const name: BtfTypeRef = { btf: everything.btf, id: everything.btf.member(everything.id, 'name')!.type };
    expect(formatValue(everything, bytes)).toContain('name: [1, 2, 0, 0, 0, 0, 0, 0]');
    expect(formatValue(name, new TextEncoder().encode('größe\0'))).toBe('"größe"');
  });

  it('escape in text what is not printable, and are read back', () => {
    const name: BtfTypeRef = { btf: everything.btf, id: everything.btf.member(everything.id, 'name')!.type };
    for (const [text, written] of [
      ['\u009b2J', '"\\u009b2J"'],
      ['a\u202eb', '"a\\u202eb"'],
      ['a\u2028b', '"a\\u2028b"'],
      ['a\u0085b', '"a\\u0085b"'],
    ] as const) {
      const bytes = new Uint8Array(8);
      new TextEncoder().encodeInto(text, bytes);
      expect(describeValue(name, bytes)).toBe(written);
      expect(parseValue(name, parse(written))).toEqual(bytes);
    }
  });

  it('are their bytes where members would not tell all, and members for who looks', () => {
    const padded = Uint8Array.of(1, 9, 0, 0, 2, 0, 0, 0);
    expect(formatValue(typeOf('STRUCT', 'padded'), padded)).toBe('{ bytes: "01 09 00 00 02 00 00 00" }');
    expect(describeValue(typeOf('STRUCT', 'padded'), padded)).toBe('{ first: 1, second: 2 }');
  });
});

describe('addresses and network order', () => {
  const flow = typeOf('STRUCT', 'flow');
  const VALUES = {
    source: '192.0.2.1',
    destination: '198.51.100.7',
    source_port: 4000,
    destination_port: 53,
    host_order: 7,
    cookie: 1,
    legacy: '10.0.0.1',
    address: '2001:db8::1',
    raw_address: '::ffff:10.0.0.1',
    words: ['10.0.0.1', '10.0.0.2', '0.0.0.0', '0.0.0.0'],
    host_words: [1, 0, 0, 0],
    mac: '02:00:00:00:00:01',
    name: 'eth0',
    six_pairs: ['02:00:00:00:00:0a', '00:00:00:00:00:00'],
  };
  const at = (member: string, length: number): number[] => {
    const offset = flow.btf.member(flow.id, member)!.bitOffset / 8;
    return [...parseValue(flow, VALUES).subarray(offset, offset + length)];
  };

  it('lie as the network has them', () => {
    expect(at('source', 4)).toEqual([192, 0, 2, 1]);
    expect(at('source_port', 2)).toEqual([0x0f, 0xa0]);
    expect(at('destination_port', 2)).toEqual([0, 53]);
    expect(at('host_order', 4)).toEqual([7, 0, 0, 0]);
    expect(at('cookie', 8)).toEqual([0, 0, 0, 0, 0, 0, 0, 1]);
    expect(at('legacy', 4)).toEqual([10, 0, 0, 1]);
    expect(at('address', 16)).toEqual([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expect(at('raw_address', 16).slice(10)).toEqual([255, 255, 10, 0, 0, 1]);
    expect(at('mac', 6)).toEqual([2, 0, 0, 0, 0, 1]);
  });

  it('are printed so', () => {
    expect(valueToJson(flow, parseValue(flow, VALUES))).toEqual(VALUES);
    expect(formatValue(flow, parseValue(flow, VALUES))).toContain(
      '{ source: 192.0.2.1, destination: 198.51.100.7, source_port: 4000,',
    );
  });

  it('are numbers, too, which mean the address that they are', () => {
    const bytes = parseValue(flow, { source: 0x0a000001, destination: '0x0a000002', source_port: '0x35' });
    expect(valueToJson(flow, bytes)).toMatchObject({
      source: '10.0.0.1',
      destination: '10.0.0.2',
      source_port: 53,
    });
    expect(valueToJson(flow, parseValue(flow, { host_order: '10.0.0.1' }))).toMatchObject({
      host_order: 0x0100000a,
    });
    expect(valueToJson(flow, parseValue(flow, { host_words: '::1', words: '2001:db8::' }))).toMatchObject({
      host_words: [0, 0, 0, 0x01000000],
      words: ['32.1.13.184', '0.0.0.0', '0.0.0.0', '0.0.0.0'],
    });
    expect(parseValue(flow, { address: { in6_u: { u6_addr16: [0, 0, 0, 0, 0, 0, 0, 1] } } })).toEqual(
      parseValue(flow, { address: '::1' }),
    );
  });

  it.each<[unknown, RegExp, (string | number)[]]>([
    [{ source_port: 65536 }, /^value\.source_port: 65536 does not fit in 16 unsigned bits$/, ['source_port']],
    [{ source_port: -1 }, /-1 does not fit in 16 unsigned bits/, ['source_port']],
    [
      { source: '10.0.0.256' },
      /value\.source: an IPv4 address, 10\.0\.0\.1, or a number is expected, not "10\.0\.0\.256"/,
      ['source'],
    ],
    [{ source: '::1' }, /value\.source: an IPv4 address/, ['source']],
    [{ address: '2001:db8' }, /value\.address: an IPv6 address, 2001:db8::1, is expected/, ['address']],
    [{ mac: '02:00:00:00:00' }, /value\.mac: a MAC address, 02:00:00:00:00:01, is expected/, ['mac']],
    [{ mac: '0x020000000001' }, /value\.mac: a MAC address/, ['mac']],
    [{ mac: [1, 2, 3, 4, 5, 256] }, /value\.mac\[5\]: 256 does not fit in 8 unsigned bits/, ['mac', 5]],
    [{ six_pairs: [[], '02'] }, /value\.six_pairs\[1\]: a MAC address/, ['six_pairs', 1]],
    [
      { name: '0x0102', source: { bytes: '0a 00' } },
      /value\.source\.bytes: 2 bytes instead of 4/,
      ['source', 'bytes'],
    ],
    [{ source: { bytes: 10 } }, /hex in quotes is expected, \{ bytes: "00 01 02 03" \}/, ['source', 'bytes']],
    [{ bytes: 'zz' }, /value\.bytes: "zz" is not hex, \{ bytes: "00 01 02 03 …" \}/, ['bytes']],
  ])('%j is refused, with its place', (input, message, path) => {
    expect(() => parseValue(flow, input)).toThrow(message);
    expect(() => parseValue(flow, input)).toThrow(expect.objectContaining({ path, code: 'map-invalid' }));
  });

  it('are known of each reference, at any depth', () => {
    const reference = (name: string, target: string): number | string | undefined =>
      name === 'mac' && target === 'nic' ? '02:00:00:00:00:09' : name === 'ifindex' ? 9 : undefined;
    const read = (input: unknown): unknown => valueToJson(flow, parseValue(flow, input, { reference }));
    expect(read({ mac: { mac: 'nic' }, host_order: { ifindex: 'nic' }, name: 'nic' })).toMatchObject({
      mac: '02:00:00:00:00:09',
      host_order: 9,
      name: 'nic',
    });
    // A member of that name, and else the first.
    expect(read({ mac: 'nic' })).toMatchObject({ mac: '02:00:00:00:00:09' });
    expect(read({ ifindex: 'nic' })).toMatchObject({ source: '0.0.0.9', destination: '0.0.0.0' });
    expect([...parseBytes(8, { mac: 'nic' }, { reference })]).toEqual([2, 0, 0, 0, 0, 9, 0, 0]);
    expect([...parseBytes(2, { ifindex: 'nic' }, { reference })]).toEqual([9, 0]);
  });
});

describe('bytes', () => {
  it('are given for anything, and read back', () => {
    const flow = typeOf('STRUCT', 'flow');
    const size = flow.btf.sizeOf(flow.id)!;
    const all = Uint8Array.from({ length: size }, (_, index) => index + 1);
    const text = Buffer.from(all).toString('hex');
    expect(parseValue(flow, { bytes: text })).toEqual(all);
    expect(parseValue(flow, { bytes: text.replace(/../g, '$& ') })).toEqual(all);
    expect(parseValue(flow, all)).toEqual(all);
    const inner = parseValue(flow, { source: { bytes: '01 02 03 04' }, mac: { bytes: '010203040506' } });
    expect(valueToJson(flow, inner)).toMatchObject({ source: '1.2.3.4', mac: '01:02:03:04:05:06' });
  });

  it('are a member where there is one of that name', () => {
    const counters = typeOf('STRUCT', 'counters');
    expect(formatValue(counters, parseValue(counters, { bytes: 5 }))).toBe('{ packets: 0, bytes: 5 }');
    expect(() => parseValue(counters, { bytes: '00 01' })).toThrow(/value\.bytes: an integer is expected/);
  });
});

/** Every type of these objects that has values, once by name and kind. */
const everyType = [
  join(FIXTURES, 'types.o'),
  join(FIXTURES, 'written_values.o'),
  ...['balancer', 'nat', 'xdp1', 'globals', 'inspect', 'redirect_kinds', 'flow_count'].map((name) =>
    join(import.meta.dirname, `../../../testbeds/programs/${name}.o`),
  ),
].flatMap((file) => {
  const { btf } = readObject(readFileSync(file)).maps.find(
    ({ valueType }) => valueType !== undefined,
  )!.valueType!;
  return Array.from({ length: btf.typeCount }, (_, id): [string, BtfTypeRef] => [
    `${file.split('/').at(-1)} type ${id}, ${btf.describe(id)}`,
    { btf, id },
  ]).filter(([, { id }]) => (btf.sizeOf(id) ?? Infinity) <= 4096);
});

describe('what is printed is what is read', () => {
  it('there are many types', () => {
    expect(everyType.length).toBeGreaterThan(250);
  });

  it.each(everyType)('%s', (_, type) => {
    const size = type.btf.sizeOf(type.id)!;
    for (let seed = 0; seed < 12; seed++) {
      // All of it, or single bytes among zeros, or none.
      const bytes = Uint8Array.from({ length: size }, (_, index) => {
        const number = (Math.imul((seed + 1) * 31 + index * 7, 2654435761) >>> 13) & 0xff;
        return seed < 3 || (seed < 11 && number % 5 === 0) ? number : 0;
      });
      const text = formatValue(type, bytes);
      const { value, list } = parse(`value: ${text}\nlist: [${text}, { a: ${text} }]\n`) as {
        value: unknown;
        list: [unknown, { readonly a: unknown }];
      };
      for (const pasted of [value, list[0], list[1].a]) expect(parseValue(type, pasted)).toEqual(bytes);
      const json: unknown = JSON.parse(JSON.stringify(valueToJson(type, bytes)));
      expect(parseValue(type, json)).toEqual(bytes);
    }
  });

  it.each([1, 2, 3, 4, 6, 7, 8, 16, 20])('%i bytes without a type', (size) => {
    for (const fill of [0, 1, 0x7f, 0xff]) {
      const bytes = new Uint8Array(size).fill(fill);
      const { value } = parse(`value: ${formatBytes(bytes)}`) as { value: unknown };
      expect(parseBytes(size, value)).toEqual(bytes);
    }
  });
});

describe('parseValue', () => {
  it('takes integers in every spelling, addresses in network order', () => {
    expect(parseValue(everything, { u64: 7n })).toEqual(parseValue(everything, { u64: '0x7' }));
    expect(parseValue(everything, { mac: [2, 0, 0, 0, 0, 1] })).toEqual(
      parseValue(everything, { mac: VALUE.mac }),
    );
    const dotted = parseValue(everything, { anonymous: '10.0.0.1' });
    const at = everything.btf.member(everything.id, 'anonymous')!.bitOffset / 8;
    expect([...dotted.subarray(at, at + 4)]).toEqual([10, 0, 0, 1]);
  });

  it('changes variables of a data section and keeps the others', () => {
    const initial = rodata.initial[0]!;
    const base = 'value' in initial ? initial.value : expect.fail('no value');
    expect(formatValue(rodata.valueType!, base)).toBe('{ limit: 7, device: eth0 }');
    const changed = parseValue(rodata.valueType!, { device: 'wlan0' }, { base });
    expect(formatValue(rodata.valueType!, changed)).toBe('{ limit: 7, device: wlan0 }');
  });

  it.each<[unknown, RegExp]>([
    [{ u8: 256 }, /value\.u8: 256 does not fit in 8 unsigned bits/],
    [{ u8: -1 }, /value\.u8: -1 does not fit in 8 unsigned bits/],
    [{ pair: [{}, { b: 128 }] }, /value\.pair\[1\]\.b: 128 does not fit in 8 signed bits/],
    [{ minus: 16 }, /value\.minus: 16 does not fit in 5 signed bits/],
    [{ pair: [1, 2, 3] }, /value\.pair: 3 elements do not fit in 2/],
    [{ color: 'BLUE' }, /value\.color: there is no BLUE, but RED, GREEN, NEGATIVE/],
    [{ nothing: 1 }, /value\.nothing: there is no member nothing, but u8, s64/],
    [{ color: { a: 1 } }, /value\.color: an integer is expected, not an object/],
    [{ single: 1e39 }, /value\.single: 1e\+39 does not fit in 32 bits/],
    [{ single: 'x' }, /value\.single: a number is expected, not "x"/],
    [{ tiny: 99 }, /value\.tiny: 99 does not fit in 4 bits/],
    [{ name: 'a long name' }, /value\.name: a string of 11 bytes does not fit in 8/],
    [{ u64: 1.5 }, /value\.u64: 1\.5 is not an exact integer/],
    [{ u64: null }, /value\.u64: an integer is expected, not nothing/],
    [{ flag: 'maybe' }, /value\.flag: true or false is expected/],
    [[1], /value: an object by member name is expected, not a list/],
    ['zz', /value: an object by member name is expected, not "zz"/],
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
    [4, { bytes: '01 02 03 04' }, [1, 2, 3, 4]],
    [4, { bytes: 'deadbeef' }, [0xde, 0xad, 0xbe, 0xef]],
    [4, '0x5', [5, 0, 0, 0]],
    [2, -1, [0xff, 0xff]],
    [8, '18446744073709551615', [255, 255, 255, 255, 255, 255, 255, 255]],
    [6, '02:00:00:00:00:01', [2, 0, 0, 0, 0, 1]],
    [6, 258, [2, 1, 0, 0, 0, 0]],
    [16, '2001:db8::1', [0x20, 1, 0x0d, 0xb8, ...Array.from({ length: 11 }, () => 0), 1]],
  ])('%i bytes from %j', (size, input, expected) => {
    expect([...parseBytes(size, input)]).toEqual(expected);
  });

  it.each<[number, unknown, RegExp]>([
    [1, 256, /does not fit in 8 bits/],
    [16, 5, /16 bytes without a type are expected as \{ bytes: "00 01 02 03 …" \}, not 5/],
    [16, { bytes: '0011' }, /2 bytes instead of 16/],
    [2, [1, 2], /an integer is expected, not a list/],
    [4, 'what', /an integer is expected/],
    [4, '01 02 03 04', /an integer is expected/],
  ])('%i bytes from %j fail', (size, input, message) => {
    expect(() => parseBytes(size, input)).toThrow(message);
  });

  it('are printed as numbers, or in hex', () => {
    expect(formatBytes(Uint8Array.of(1, 2, 0, 0))).toBe('513');
    expect(formatBytes(Uint8Array.of(1, 2, 0xff))).toBe('{ bytes: "01 02 ff" }');
  });
});
