import { describe, expect, it } from 'vitest';
import type { MapResult } from '../core/contract/result.js';
import { formatMapContent, formatMapEntry, formatMapItem } from './map-entry.js';

describe('formatMapEntry', () => {
  const map = (type: string) =>
    ({
      guest: 'guest0',
      nic: 'eth0',
      name: 'rxcnt',
      type,
      readFrom: 'device',
      entries: [],
    }) satisfies MapResult;
  it.each([
    ['BPF_MAP_TYPE_ARRAY', { key: '11000000', value: 'e803000000000000' }, '[17]=1000'],
    ['BPF_MAP_TYPE_PERCPU_ARRAY', { key: '00010000', value: 'ff' }, '[256]=255'],
    ['BPF_MAP_TYPE_DEVMAP', { key: '01000000', value: '05000000' }, '[1]=5'],
    // An address, in network order: no number.
    ['BPF_MAP_TYPE_HASH', { key: 'c0000201', value: '01000000' }, '[{ bytes: "c0000201" }]=1'],
    ['BPF_MAP_TYPE_DEVMAP_HASH', { key: '07000000', value: '01000000' }, '[{ bytes: "07000000" }]=1'],
    [
      'BPF_MAP_TYPE_HASH',
      { key: '01', value: '525400123400' },
      '[{ bytes: "01" }]={ bytes: "525400123400" }',
    ],
    ['BPF_MAP_TYPE_ARRAY', { key: '00000000', value: 'ffffffffffffffff' }, '[0]=18446744073709551615'],
  ])('%s %o is %s', (type, entry, expected) => {
    expect(formatMapEntry({ ...map(type), entries: [entry] }, entry)).toBe(expected);
  });

  it.each([
    ['BPF_MAP_TYPE_ARRAY', 'm', { value: '{ a: 1 }' }, '[1]={ a: 1 }', '- { key: 1, value: { a: 1 } }'],
    [
      'BPF_MAP_TYPE_HASH',
      'm',
      { key: '1.0.0.0', value: 'ALLOW' },
      '[1.0.0.0]=ALLOW',
      '- { key: 1.0.0.0, value: ALLOW }',
    ],
    ['BPF_MAP_TYPE_HASH', 'm', { key: '1.0.0.0' }, '[1.0.0.0]=2', '- { key: 1.0.0.0, value: 2 }'],
    [
      'BPF_MAP_TYPE_HASH',
      'm',
      { value: 'x' },
      '[{ bytes: "01000000" }]=x',
      '- { key: { bytes: "01000000" }, value: x }',
    ],
    [
      'BPF_MAP_TYPE_LRU_PERCPU_HASH',
      'm',
      { key: '1', value: '{ 0: 2 }' },
      '[1]=cpus { 0: 2 }',
      '- { key: 1, cpus: { 0: 2 } }',
    ],
    ['BPF_MAP_TYPE_ARRAY', '.bss', { value: '{ a: 1 }' }, '{ a: 1 }', '{ a: 1 }'],
    ['BPF_MAP_TYPE_ARRAY', '.bss', {}, '[1]=2', '- { key: 1, value: 2 }'],
  ])('of %s %s in words %o is %s, and %s as an item', (type, name, words, short, item) => {
    const entry = { key: '01000000', value: '02' };
    expect(formatMapEntry({ ...map(type), name }, entry, words)).toBe(short);
    expect(formatMapItem({ ...map(type), name }, entry, words)).toBe(item);
  });
});

describe('formatMapContent', () => {
  const map: MapResult = {
    guest: 'g',
    nic: 'n',
    name: 'm',
    type: 'BPF_MAP_TYPE_RINGBUF',
    readFrom: 'device',
    entries: [],
  };
  it('tells a map of zeros from one that could not be read', () => {
    expect(formatMapContent(map, [])).toBe('all zero');
    expect(formatMapContent(map, ['[1]=2', '[3]=4'])).toBe('[1]=2 [3]=4');
    expect(formatMapContent({ ...map, unreadable: 'EOPNOTSUPP' }, [])).toBe('(not read: EOPNOTSUPP)');
    expect(formatMapContent({ ...map, unreadable: 'EIO' }, ['[1]=2'])).toBe('[1]=2 (not read: EIO)');
  });
});
