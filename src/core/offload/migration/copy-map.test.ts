import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MemoryMapBackend } from '../../../../plugins/map-backend-memory/memory-map-backend.js';
import { EOPNOTSUPP } from '../../../bpf/errno.js';
import { BPF_F_NO_PREALLOC, BPF_MAP_TYPE, type MapAttributes } from '../../../bpf/map-spec.js';
import type { BpfMap } from '../../../bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../../bpf/runtime/bpf-runtime.js';
import { copyInPortions, copyMapContent, stepsOfCopy } from './copy-map.js';

const T = BPF_MAP_TYPE;
const ENTRIES = 12;

function create(type: number, attributes: Partial<MapAttributes> = {}, seed = 1n): BpfMap {
  const runtime = new BpfRuntime({ memoryBytes: 4 << 20, cpus: 2, seed });
  const map = new MemoryMapBackend(runtime).create(
    { type, keySize: 4, valueSize: 8, maxEntries: ENTRIES, flags: 0, ...attributes },
    { name: 'm' },
  );
  if (typeof map === 'number') throw new Error(`refused with ${map}`);
  return map;
}

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);

/** A map of another backend, which is copied element by element. */
function foreign(map: BpfMap): BpfMap {
  return Object.assign(map, { copyElements: undefined, copyRecords: undefined });
}

function content(map: BpfMap): Map<string, string> {
  const found = new Map<string, string>();
  for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) {
    found.set(String(key), String(map.lookup(key)));
  }
  return found;
}

const KINDS: Readonly<Record<string, readonly [type: number, attributes: Partial<MapAttributes>]>> = {
  HASH: [T.BPF_MAP_TYPE_HASH, {}],
  'HASH of long values': [T.BPF_MAP_TYPE_HASH, { valueSize: 5001 }],
  PERCPU_HASH: [T.BPF_MAP_TYPE_PERCPU_HASH, { valueSize: 5 }],
  LRU_HASH: [T.BPF_MAP_TYPE_LRU_HASH, {}],
  ARRAY: [T.BPF_MAP_TYPE_ARRAY, {}],
  'ARRAY of long values': [T.BPF_MAP_TYPE_ARRAY, { valueSize: 5001 }],
  PERCPU_ARRAY: [T.BPF_MAP_TYPE_PERCPU_ARRAY, { valueSize: 5 }],
  LPM_TRIE: [T.BPF_MAP_TYPE_LPM_TRIE, { keySize: 8, flags: BPF_F_NO_PREALLOC }],
  DEVMAP_HASH: [T.BPF_MAP_TYPE_DEVMAP_HASH, { valueSize: 4 }],
};

describe.each(Object.entries(KINDS))('a copy of a %s', (_, [type, attributes]) => {
  const keyOf = (n: number): Uint8Array =>
    type === T.BPF_MAP_TYPE_LPM_TRIE ? Uint8Array.of(...u32(32), ...u32(n)) : u32(n);
  const element = fc.tuple(fc.integer({ min: 0, max: ENTRIES - 1 }), fc.integer({ min: 1, max: 255 }));
  const elements = fc.array(element, { maxLength: ENTRIES });

  it.each([
    ['of the same backend', (map: BpfMap) => map],
    ['of another', foreign],
  ])('%s is like it, and nothing is written twice', (_of, made) => {
    fc.assert(
      fc.property(elements, elements, (before, after) => {
        const from = create(type, attributes);
        // Other keys collide there.
        const to = made(create(type, attributes, 2n));
        const fill = (map: BpfMap, what: typeof before): void => {
          for (const [n, byte] of what) {
            expect(map.update(keyOf(n), new Uint8Array(map.syscallValueSize).fill(byte), 0n)).toBe(0);
          }
        };
        fill(to, before);
        fill(from, after);
        const [wanted, there] = [content(from), content(to)];
        const changed = [...wanted].filter(([key, value]) => there.get(key) !== value).length;
        const bytes = changed * (from.attributes.keySize + from.syscallValueSize);
        expect(copyMapContent(from, to)).toEqual({ elements: changed, bytes });
        expect(content(to)).toEqual(wanted);
        expect(copyMapContent(from, to)).toEqual({ elements: 0, bytes: 0 });
        expect(content(from)).toEqual(wanted);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a copy', () => {
  it('is left to who knows the elements of a map that is another', () => {
    const hash = create(T.BPF_MAP_TYPE_HASH);
    const array = create(T.BPF_MAP_TYPE_ARRAY);
    expect(hash.copyElements!(array)).toBe(-EOPNOTSUPP);
    expect(array.copyElements!(hash)).toBe(-EOPNOTSUPP);
    expect(hash.copyElements!(create(T.BPF_MAP_TYPE_HASH, { valueSize: 16 }))).toBe(-EOPNOTSUPP);
    expect(array.copyElements!(create(T.BPF_MAP_TYPE_ARRAY, { maxEntries: 3 }))).toBe(-EOPNOTSUPP);
  });

  it('element by element stops after every 256', () => {
    const from = create(T.BPF_MAP_TYPE_HASH, { maxEntries: 2048 });
    const to = foreign(create(T.BPF_MAP_TYPE_HASH, { maxEntries: 2048 }));
    for (let n = 0; n < 2048; n++) from.update(u32(n), new Uint8Array(8), 0n);
    let stops = 0;
    for (const copying = copyInPortions(from, to); copying.next().done !== true;) stops++;
    expect(stops).toBeGreaterThanOrEqual(8);
    expect(content(to).size).toBe(2048);
  });

  it('takes a step for each entry and more for long ones, and deep ones', () => {
    const steps = (type: number, attributes: Partial<MapAttributes>): number =>
      stepsOfCopy(create(type, attributes));
    expect(steps(T.BPF_MAP_TYPE_HASH, { maxEntries: 100 })).toBe(100);
    expect(steps(T.BPF_MAP_TYPE_ARRAY, { valueSize: 65, maxEntries: 100 })).toBe(300);
    expect(steps(T.BPF_MAP_TYPE_ARRAY, { valueSize: 4096, maxEntries: 100 })).toBe(700);
    expect(steps(T.BPF_MAP_TYPE_LPM_TRIE, { keySize: 20, flags: BPF_F_NO_PREALLOC })).toBe(160 * ENTRIES);
    expect(steps(T.BPF_MAP_TYPE_RINGBUF, { keySize: 0, valueSize: 0, maxEntries: 1 << 16 })).toBe(16);
  });
});
