import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { readObject } from '../../bpf/elf/object-spec.js';
import { encodePreset } from './preset-value.js';

const names = {
  ifindexes: new Map([['tap0', 3]]),
  macs: new Map([['g0.eth0', '52:54:00:00:00:02']]),
};
const hex = (value: unknown, size: number, type?: Parameters<typeof encodePreset>[3]) => {
  const encoded = encodePreset(value as never, size, names, type);
  return 'bytes' in encoded ? Buffer.from(encoded.bytes).toString('hex') : encoded.problem;
};

describe('map presets', () => {
  it.each([
    [258, 4, '02010000'],
    [-1, 2, 'ffff'],
    ['18446744073709551615', 8, 'ffffffffffffffff'],
    ['0x0a00', 4, '0a000000'],
    ['52:54:00:00:00:02', 8, '5254000000020000'],
    [[1, 2], 4, '01000200'],
    [{ ifindex: 'tap0' }, 4, '03000000'],
    [{ mac: 'g0.eth0' }, 6, '525400000002'],
    [256, 1, '256 does not fit in 1 bytes'],
    [1.5, 4, '1 is not a whole number'],
    [null, 4, 'nothing stands here'],
    [{ ifindex: 'tap9' }, 4, "there is no interface 'tap9'"],
    [{ a: 1 }, 4, 'expected a number, bytes, a list, { ifindex: … } or { mac: … }'],
  ])('%j in %i bytes: %s', (value, size, expected) => {
    expect(hex(value, size)).toBe(expected);
  });

  it('an object is read by the BTF type', () => {
    const path = new URL('../../../testbeds/programs/flow_count.o', import.meta.url).pathname;
    const map = readObject(readFileSync(path), path).maps.find(
      ({ keyType, keySize }) => keyType !== undefined && keySize > 8,
    )!;
    expect(hex({}, map.keySize, map.keyType)).toBe('00'.repeat(map.keySize));
    expect(hex({ nonsense: 1 }, map.keySize, map.keyType)).toContain('nonsense');
  });
});
