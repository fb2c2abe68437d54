import {
  BPF_F_INNER_MAP,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY_PROG,
  BPF_MAP_TYPE,
  type MapAttributes,
} from '../../bpf/map-spec.js';
import type { GeneratedMap } from './generated-case.js';

const T = BPF_MAP_TYPE;

const INNER_ARRAY: MapAttributes = {
  type: T.BPF_MAP_TYPE_ARRAY,
  keySize: 4,
  valueSize: 16,
  maxEntries: 2,
  flags: BPF_F_INNER_MAP,
};
const INNER_HASH: MapAttributes = {
  type: T.BPF_MAP_TYPE_HASH,
  keySize: 4,
  valueSize: 16,
  maxEntries: 4,
  flags: 0,
};

const key = (index: number): Uint8Array => Uint8Array.of(index, 0, 0, 0);

/** `hello` with its end, then numbers that are good as bounds of loops and as offsets. */
const CONSTANTS = new Uint8Array(32);
CONSTANTS.set([0x68, 0x65, 0x6c, 0x6c, 0x6f, 0], 0);
CONSTANTS.set([5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff], 16);

function maps(
  list: readonly (readonly [
    name: string,
    attributes: Partial<MapAttributes>,
    rest?: Partial<Omit<GeneratedMap, 'handle' | 'name' | 'attributes'>>,
  ])[],
): readonly GeneratedMap[] {
  return list.map(([name, attributes, rest], index) => ({
    handle: index + 1,
    name,
    attributes: {
      type: T.BPF_MAP_TYPE_HASH,
      keySize: 4,
      valueSize: 16,
      maxEntries: 4,
      flags: 0,
      ...attributes,
    },
    initial: [],
    ...rest,
  }));
}

const TWO = [0, 1].map((index) => ({ key: key(index), value: new Uint8Array(16).fill(index + 2) }));

/** Maps of every type of which a program can hold something, with the flags that decide what it may do. */
export const OBJECT_MAPS = maps([
  ['array', { type: T.BPF_MAP_TYPE_ARRAY }],
  ['hash', {}, { initial: TWO }],
  ['wide', { type: T.BPF_MAP_TYPE_ARRAY, valueSize: 64, maxEntries: 1 }],
  ['percpu', { type: T.BPF_MAP_TYPE_PERCPU_ARRAY }],
  ['lru', { type: T.BPF_MAP_TYPE_LRU_PERCPU_HASH }, { initial: TWO }],
  ['ring', { type: T.BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096 }],
  ['queue', { type: T.BPF_MAP_TYPE_QUEUE, keySize: 0 }],
  ['outbox', { type: T.BPF_MAP_TYPE_QUEUE, keySize: 0, flags: BPF_F_WRONLY_PROG }],
  ['sink', { type: T.BPF_MAP_TYPE_ARRAY, flags: BPF_F_WRONLY_PROG }],
  ['source', { flags: BPF_F_RDONLY_PROG }, { initial: TWO }],
  [
    'constants',
    { type: T.BPF_MAP_TYPE_ARRAY, valueSize: 32, maxEntries: 1, flags: BPF_F_RDONLY_PROG },
    { initial: [{ key: key(0), value: CONSTANTS }], frozen: true },
  ],
  [
    'programs',
    { type: T.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4, maxEntries: 2 },
    { programs: new Map([[0, 1]]) },
  ],
  ['events', { type: T.BPF_MAP_TYPE_PERF_EVENT_ARRAY, valueSize: 4 }],
  ['devices', { type: T.BPF_MAP_TYPE_DEVMAP, valueSize: 4 }, { initial: [{ key: key(0), value: key(1) }] }],
  ['sockets', { type: T.BPF_MAP_TYPE_XSKMAP, valueSize: 4 }],
  // Held by the maps of maps below. An array with the flag may be smaller than what a program was judged by.
  ['inner_array', { ...INNER_ARRAY, maxEntries: 1 }],
  ['inner_hash', INNER_HASH, { initial: TWO }],
  [
    'arrays',
    { type: T.BPF_MAP_TYPE_ARRAY_OF_MAPS, valueSize: 4, inner: INNER_ARRAY },
    {
      innerMaps: new Map([
        [0, 16],
        [2, 16],
      ]),
    },
  ],
  [
    'hashes',
    { type: T.BPF_MAP_TYPE_HASH_OF_MAPS, valueSize: 4, inner: INNER_HASH },
    {
      innerMaps: new Map([
        [0, 17],
        [1, 17],
      ]),
    },
  ],
]);
