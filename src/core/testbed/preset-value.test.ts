import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { readObject } from '../../bpf/elf/object-spec.js';
import type { XdpbedError } from '../diagnostic.js';
import { mapProblem, parseElement } from './map-values.js';
import { presetReference } from './preset-value.js';

const names = {
  ifindexes: new Map([['tap0', 3]]),
  macs: new Map([['g0.eth0', '52:54:00:00:00:02']]),
};
const reference = presetReference(names);
const hex = (value: unknown, size: number, type?: BtfTypeRef): string => {
  try {
    return Buffer.from(parseElement(type, size, value, { reference })).toString('hex');
  } catch (error) {
    const { path, message, hint } = mapProblem(error as XdpbedError, []);
    return [path.join('.'), message, hint].filter((part) => part).join(' | ');
  }
};

describe('map presets', () => {
  it.each([
    [258, 4, '02010000'],
    [-1, 2, 'ffff'],
    ['18446744073709551615', 8, 'ffffffffffffffff'],
    ['0x0a00', 4, '000a0000'],
    ['10.0.0.1', 4, '0a000001'],
    [{ bytes: '0a 00 00 01' }, 4, '0a000001'],
    ['52:54:00:00:00:02', 6, '525400000002'],
    ['2001:db8::2', 16, '20010db8000000000000000000000002'],
    [{ ifindex: 'tap0' }, 4, '03000000'],
    [{ ifindex: 'tap0' }, 2, '0300'],
    [{ mac: 'g0.eth0' }, 6, '525400000002'],
    [{ mac: 'g0.eth0' }, 8, '5254000000020000'],
    [256, 1, 'value: 256 does not fit in 8 bits'],
    [1.5, 4, 'value: 1.5 is not an exact integer; write it as a string'],
    [null, 4, 'value: an integer is expected, not nothing'],
    [{ mac: 'g0.eth0' }, 4, 'value: an integer is expected, not "52:54:00:00:00:02"'],
    [{ ifindex: 'tap9' }, 4, "there is no interface 'tap9' | did you mean 'tap0'?"],
    [{ a: 1 }, 4, 'value: an integer is expected, not an object'],
    [[1, 2], 4, 'value: an integer is expected, not a list'],
  ])('%j in %i bytes: %s', (value, size, expected) => {
    expect(hex(value, size)).toBe(expected);
  });

  it('what has a type goes by it, references at any depth, and a problem is at its member', () => {
    const path = new URL('../../bpf/elf/fixtures/written_values.o', import.meta.url).pathname;
    const { keySize, keyType } = readObject(readFileSync(path), path).maps[0]!;
    const read = (value: unknown): string => hex(value, keySize, keyType);
    expect(read({})).toBe('00'.repeat(keySize));
    expect(read({ source: '192.0.2.1', host_order: { ifindex: 'tap0' } })).toMatch(
      /^c0000201(00){8}03000000/,
    );
    expect(read({ mac: 'g0.eth0' })).toBe(read({ mac: { mac: 'g0.eth0' } }));
    expect(read({ mac: 'g0.eth0' })).toContain('525400000002');
    expect(read({ mac: '52:54:00:00:00:02' })).toBe(read({ mac: 'g0.eth0' }));
    expect(read({ sauce: 1 })).toMatch(
      /^sauce \| value\.sauce: there is no member sauce, .* \| did you mean 'source'\?$/,
    );
    expect(read({ words: [0, '10.0.0.300'] })).toMatch(/^words\.1 \| value\.words\[1\]: an IPv4 address/);
  });
});
