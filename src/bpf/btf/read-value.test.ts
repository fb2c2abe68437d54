import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readObject } from '../elf/object-spec.js';
import type { BtfTypeRef } from './btf-type-ref.js';
import { parseValue } from './parse-value.js';
import { readUntyped, readValue } from './read-value.js';

const FIXTURES = join(import.meta.dirname, '../elf/fixtures');
const written = readObject(readFileSync(join(FIXTURES, 'written_values.o')));
const types = readObject(readFileSync(join(FIXTURES, 'types.o')));
const mapOf = (object: typeof written, name: string) => object.maps.find((map) => map.name === name)!;
const flow = mapOf(written, 'flows').keyType!;
const odd = mapOf(written, 'flows').valueType!;
const everything = mapOf(types, 'things').valueType!;

describe('values of JavaScript by BTF', () => {
  it('have addresses as text and numbers in host order, from where struct flow has them', () => {
    const bytes = new Uint8Array(flow.btf.sizeOf(flow.id)!);
    bytes.set([10, 0, 0, 1], 0); // source
    bytes.set([192, 0, 2, 255], 4); // destination
    bytes.set([0x1f, 0x90], 8); // source_port: 8080
    bytes.set([0x00, 0x35], 10); // destination_port: 53
    bytes.set([0x78, 0x56, 0x34, 0x92], 12); // host_order: little-endian, bit 31 set
    bytes.set([0, 0, 0, 0, 0, 0, 1, 2], 16); // cookie
    bytes.set([198, 51, 100, 7], 24); // legacy
    bytes.set([0x20, 0x01, 0x0d, 0xb8], 28); // address
    bytes[59] = 1; // raw_address
    bytes.set([127, 0, 0, 1], 60); // words
    bytes[76] = 5; // host_words
    bytes.set([2, 0, 0, 0, 0, 9], 92); // mac
    bytes.set([0x65, 0x74, 0x68, 0x30], 98); // name
    bytes.set([2, 0, 0, 0, 0, 0xaa], 110); // six_pairs[1]
    expect(readValue(flow, bytes)).toEqual({
      source: '10.0.0.1',
      destination: '192.0.2.255',
      source_port: 8080,
      destination_port: 53,
      host_order: 0x92345678,
      cookie: 258n,
      legacy: '198.51.100.7',
      address: '2001:db8::',
      raw_address: '::1',
      words: ['127.0.0.1', '0.0.0.0', '0.0.0.0', '0.0.0.0'],
      host_words: [5, 0, 0, 0],
      mac: '02:00:00:00:00:09',
      name: 'eth0',
      six_pairs: ['00:00:00:00:00:00', '02:00:00:00:00:aa'],
    });
  });

  it('have what is wider than 32 bits as bigint, however small, and everything else as number', () => {
    const bytes = parseValue(everything, {
      u8: 200,
      s64: -1,
      u64: '18446744073709551615',
      flag: true,
      color: 'GREEN',
      name: 'eth0',
      pair: [{ a: 1, b: -2 }],
      anonymous: 77,
      either: { word: 7 },
      three: 5,
      nine: 300,
      minus: -3,
      tiny: 'RED',
      address: '2001:db8::1',
      pointer: 16,
      single: 0.5,
      real: -1.25,
    });
    expect(readValue(everything, bytes)).toEqual({
      u8: 200,
      s64: -1n,
      u64: 0xffff_ffff_ffff_ffffn,
      flag: true,
      color: 'GREEN',
      name: 'eth0',
      mac: '00:00:00:00:00:00',
      pair: [
        { a: 1, b: -2 },
        { a: 0, b: 0 },
      ],
      anonymous: 77,
      either: { wide: 7n },
      three: 5,
      nine: 300,
      minus: -3,
      tiny: 'RED',
      address: '2001:db8::1',
      pointer: 16n,
      single: 0.5,
      real: -1.25,
    });
  });

  it('name enumerators where they have a name, and are numbers where they have none', () => {
    const { btf } = odd;
    const action: BtfTypeRef = { btf, id: btf.find('ENUM', 'action')!.id };
    expect(readValue(action, Uint8Array.of(0, 0, 0, 0x80))).toBe('LOG');
    expect(readValue(action, Uint8Array.of(5, 0, 0, 0))).toBe(5);
  });

  it('are lists of numbers where text would leave out what is behind a NUL', () => {
    const { btf } = odd;
    const label: BtfTypeRef = { btf, id: btf.member(flow.id, 'name')!.type };
    expect(readValue(label, Uint8Array.of(0x61, 0, 0, 0, 0, 0))).toBe('a');
    expect(readValue(label, Uint8Array.of(0x61, 0, 0x62, 0, 0, 0))).toEqual([0x61, 0, 0x62, 0, 0, 0]);
  });

  it('are written back to the same members', () => {
    for (const type of [flow, odd, everything]) {
      const size = type.btf.sizeOf(type.id)!;
      fc.assert(
        fc.property(fc.uint8Array({ minLength: size, maxLength: size }), (bytes) => {
          clearBool(type, bytes);
          const value = readValue(type, bytes);
          expect(readValue(type, parseValue(type, value))).toEqual(value);
        }),
        { numRuns: 200 },
      );
    }
  });

  it('need all of their bytes, and look at none behind', () => {
    const counters: BtfTypeRef = { btf: odd.btf, id: odd.btf.find('STRUCT', 'counters')!.id };
    expect(readValue(counters, new Uint8Array(20).fill(1, 16))).toEqual({ packets: 0n, bytes: 0n });
    expect(() => readValue(counters, new Uint8Array(15))).toThrow(
      '15 bytes are too few for struct counters, which has 16',
    );
  });

  it('are numbers of a program where there is no type', () => {
    expect(readUntyped(Uint8Array.of(1, 2))).toBe(0x201);
    expect(readUntyped(Uint8Array.of(0xff, 0xff, 0xff, 0xff))).toBe(0xffff_ffff);
    expect(readUntyped(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0))).toBe(1n);
    expect(readUntyped(Uint8Array.of(1, 2, 3))).toEqual(Uint8Array.of(1, 2, 3));
  });
});

/** A bool that is neither 0 nor 1 is read as a number, which nobody can write. */
function clearBool(type: BtfTypeRef, bytes: Uint8Array): void {
  const flag = type.btf.member(type.id, 'flag');
  if (flag !== undefined) bytes[flag.bitOffset / 8]! &= 1;
}
