import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  E2BIG,
  EBADF,
  EEXIST,
  EINVAL,
  ENODEV,
  ENOENT,
  ENOSPC,
  ENOTSUPP,
  EOPNOTSUPP,
  EPERM,
} from '../../bpf/errno.js';
import {
  BPF_ANY,
  BPF_EXIST,
  BPF_F_INNER_MAP,
  BPF_F_LOCK,
  BPF_F_MMAPABLE,
  BPF_F_NO_COMMON_LRU,
  BPF_F_NO_PREALLOC,
  BPF_F_NUMA_NODE,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY,
  BPF_F_WRONLY_PROG,
  BPF_MAP_TYPE,
  BPF_NOEXIST,
  mapTypeName,
  type MapAttributes,
  type MapTypeName,
} from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { MapBackend } from '../../core/contract/map-backend.js';

/** A backend to be judged, made anew for each test. */
export interface MapBackendUnderTest {
  readonly backend: MapBackend;
  /** Number of values in a per-CPU element. */
  readonly cpus: number;
  dispose?(): void;
}

export interface MapConformanceOptions {
  /** Map types the backend serves, by kernel number; default: all of BPF_MAP_TYPE that XDP programs use. */
  readonly types?: ReadonlySet<number>;
}

const T = BPF_MAP_TYPE;

/** Map types that the suites know. */
export const CONFORMANCE_MAP_TYPES: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_HASH,
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PROG_ARRAY,
  T.BPF_MAP_TYPE_PERF_EVENT_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_HASH,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_LRU_HASH,
  T.BPF_MAP_TYPE_LRU_PERCPU_HASH,
  T.BPF_MAP_TYPE_LPM_TRIE,
  T.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  T.BPF_MAP_TYPE_HASH_OF_MAPS,
  T.BPF_MAP_TYPE_DEVMAP,
  T.BPF_MAP_TYPE_CPUMAP,
  T.BPF_MAP_TYPE_XSKMAP,
  T.BPF_MAP_TYPE_QUEUE,
  T.BPF_MAP_TYPE_STACK,
  T.BPF_MAP_TYPE_DEVMAP_HASH,
  T.BPF_MAP_TYPE_RINGBUF,
]);

const HASHES: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_HASH',
  'BPF_MAP_TYPE_PERCPU_HASH',
  'BPF_MAP_TYPE_LRU_HASH',
  'BPF_MAP_TYPE_LRU_PERCPU_HASH',
];
const ARRAYS: readonly MapTypeName[] = ['BPF_MAP_TYPE_ARRAY', 'BPF_MAP_TYPE_PERCPU_ARRAY'];
const QUEUES: readonly MapTypeName[] = ['BPF_MAP_TYPE_QUEUE', 'BPF_MAP_TYPE_STACK'];
const REDIRECT_ARRAYS: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_DEVMAP',
  'BPF_MAP_TYPE_CPUMAP',
  'BPF_MAP_TYPE_XSKMAP',
];
const FD_ARRAYS: readonly MapTypeName[] = [
  'BPF_MAP_TYPE_PROG_ARRAY',
  'BPF_MAP_TYPE_PERF_EVENT_ARRAY',
  'BPF_MAP_TYPE_ARRAY_OF_MAPS',
];

const KMALLOC_MAX_SIZE = 4 * 1024 * 1024;
const PCPU_MIN_UNIT_SIZE = 32 * 1024;
const BPF_F_ZERO_SEED = 1 << 6;
const BPF_F_PRESERVE_ELEMS = 1 << 11;
/** An fd that nobody has open. */
const BAD_FD = 0xffff_ffff;
const NO_KEY = new Uint8Array();

/** Attributes with which every type can be created, to be changed from. */
export function plainAttributes(typeName: MapTypeName, changes: Partial<MapAttributes> = {}): MapAttributes {
  const type = T[typeName];
  const base = { type, keySize: 4, valueSize: 4, maxEntries: 4, flags: 0 };
  const inner = { ...base, type: T.BPF_MAP_TYPE_ARRAY };
  switch (typeName) {
    case 'BPF_MAP_TYPE_LPM_TRIE':
      return { ...base, keySize: 8, flags: BPF_F_NO_PREALLOC, ...changes };
    case 'BPF_MAP_TYPE_QUEUE':
    case 'BPF_MAP_TYPE_STACK':
      return { ...base, keySize: 0, ...changes };
    case 'BPF_MAP_TYPE_RINGBUF':
      return { ...base, keySize: 0, valueSize: 0, maxEntries: 4096, ...changes };
    case 'BPF_MAP_TYPE_ARRAY_OF_MAPS':
    case 'BPF_MAP_TYPE_HASH_OF_MAPS':
      return { ...base, inner, ...changes };
    default:
      return { ...base, ...changes };
  }
}

export function u32(...words: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(words).buffer);
}

/** A key of LPM_TRIE over IPv4: `lpmKey(24, 10, 0, 0, 0)`. */
export function lpmKey(prefixLength: number, ...data: number[]): Uint8Array {
  return Uint8Array.of(...u32(prefixLength), ...data);
}

/** Every key of a map in the order of get_next_key. */
export function allKeys(map: BpfMap): Uint8Array[] {
  const keys: Uint8Array[] = [];
  for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) keys.push(key);
  return keys;
}

function sorted(keys: readonly Uint8Array[]): string[] {
  return keys.map((key) => Buffer.from(key).toString('hex')).sort();
}

/**
 * What bpf(2) promises of each map type: results and -errno. Every expectation was checked on Linux 6.18
 * (x86-64, root), so that a backend on a real kernel passes the same suite.
 */
export function mapBackendConformance(
  name: string,
  makeBackend: () => MapBackendUnderTest,
  options: MapConformanceOptions = {},
): void {
  const types = options.types ?? CONFORMANCE_MAP_TYPES;

  describe(`map backend ${name}: bpf(2)`, () => {
    let subject: MapBackendUnderTest;
    let maps: BpfMap[] = [];

    beforeEach(() => {
      subject = makeBackend();
      maps = [];
    });
    afterEach(() => {
      for (const map of maps) map.close();
      subject.dispose?.();
    });

    /** The template of a map-in-map, as a loader would create it. */
    function templateOf(attributes: MapAttributes): BpfMap | undefined {
      const inner = attributes.inner;
      if (inner === undefined) return undefined;
      const made = subject.backend.create(inner, { name: 'template', innerTemplate: templateOf(inner) });
      if (typeof made === 'number') return undefined;
      maps.push(made);
      return made;
    }

    function create(attributes: MapAttributes): BpfMap | number {
      const made = subject.backend.create(attributes, { name: 'm', innerTemplate: templateOf(attributes) });
      if (typeof made !== 'number') maps.push(made);
      return made;
    }

    function createPlain(typeName: MapTypeName, changes: Partial<MapAttributes> = {}): BpfMap {
      const map = create(plainAttributes(typeName, changes));
      if (typeof map === 'number') throw new Error(`${typeName} was refused with ${map}`);
      return map;
    }

    /** 0 when a map of these attributes can be created, else -errno. */
    function creation(attributes: MapAttributes): number {
      const map = create(attributes);
      return typeof map === 'number' ? map : 0;
    }

    function value(map: BpfMap, fill: number): Uint8Array {
      return new Uint8Array(map.syscallValueSize).fill(fill);
    }

    const describeTypes = (names: readonly MapTypeName[], body: (typeName: MapTypeName) => void): void => {
      for (const typeName of names) describe.runIf(types.has(T[typeName]))(typeName, () => body(typeName));
    };
    const everyType = [...CONFORMANCE_MAP_TYPES].map((type) => mapTypeName(type) as MapTypeName);

    it('refuses an unknown type', () => {
      expect(creation({ type: 99, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 })).toBe(-EINVAL);
    });

    describe('creation', () => {
      describeTypes(everyType, (typeName) => {
        const plain = (changes: Partial<MapAttributes>): number =>
          creation(plainAttributes(typeName, changes));
        const { flags: baseFlags } = plainAttributes(typeName);

        it('takes plain attributes', () => expect(plain({})).toBe(0));

        it('refuses max_entries 0', () => expect(plain({ maxEntries: 0 })).toBe(-EINVAL));

        it('refuses access flags that contradict each other', () => {
          expect(plain({ flags: baseFlags | BPF_F_RDONLY | BPF_F_WRONLY })).toBe(-EINVAL);
          expect(plain({ flags: baseFlags | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG })).toBe(-EINVAL);
        });

        it('takes exactly the flags that the kernel takes', () => {
          const allowed = ALLOWED_FLAGS[typeName] ?? 0;
          for (let bit = 0; bit < 32; bit++) {
            const flag = (1 << bit) >>> 0;
            if ((flag & baseFlags) !== 0) continue;
            const lruPrealloc = typeName.includes('LRU') && flag === BPF_F_NO_PREALLOC;
            const expected = (flag & allowed) !== 0 ? 0 : lruPrealloc ? -ENOTSUPP : -EINVAL;
            expect([bit, plain({ flags: (baseFlags | flag) >>> 0 })]).toEqual([bit, expected]);
          }
        });

        it('takes exactly the key sizes that the kernel takes', () => {
          const anyKey = typeName.endsWith('HASH') || typeName === 'BPF_MAP_TYPE_HASH_OF_MAPS';
          for (const keySize of [0, 1, 4, 5, 8, 12]) {
            let ok = keySize === 4;
            if (anyKey && typeName !== 'BPF_MAP_TYPE_DEVMAP_HASH') ok = keySize > 0;
            if (typeName === 'BPF_MAP_TYPE_LPM_TRIE') ok = keySize >= 5;
            if (QUEUES.includes(typeName) || typeName === 'BPF_MAP_TYPE_RINGBUF') ok = keySize === 0;
            expect([keySize, plain({ keySize })]).toEqual([keySize, ok ? 0 : -EINVAL]);
          }
        });

        it('takes exactly the value sizes that the kernel takes', () => {
          for (const valueSize of [0, 1, 4, 8, 12]) {
            let ok = valueSize > 0;
            if (FD_ARRAYS.includes(typeName) || typeName === 'BPF_MAP_TYPE_HASH_OF_MAPS')
              ok = valueSize === 4;
            if (typeName === 'BPF_MAP_TYPE_XSKMAP') ok = valueSize === 4;
            if (/DEVMAP|CPUMAP/.test(typeName)) ok = valueSize === 4 || valueSize === 8;
            if (typeName === 'BPF_MAP_TYPE_RINGBUF') ok = valueSize === 0;
            expect([valueSize, plain({ valueSize })]).toEqual([valueSize, ok ? 0 : -EINVAL]);
          }
        });
      });

      describeTypes(HASHES, (typeName) => {
        const perCpu = typeName.includes('PERCPU');
        const plain = (changes: Partial<MapAttributes>): number =>
          creation(plainAttributes(typeName, { maxEntries: 1, ...changes }));

        it('limits key and value to one allocation', () => {
          const largest = perCpu ? PCPU_MIN_UNIT_SIZE : KMALLOC_MAX_SIZE - 48 - 4 - 1;
          expect(plain({ valueSize: largest })).toBe(0);
          expect(plain({ valueSize: largest + 1 })).toBe(-E2BIG);
          expect(plain({ keySize: 0xffff_ffff, valueSize: 0xffff_ffff })).toBe(-E2BIG);
        });

        it('limits max_entries', () => expect(plain({ maxEntries: 0xffff_ffff })).toBe(-E2BIG));
      });

      describeTypes(['BPF_MAP_TYPE_ARRAY'], (typeName) => {
        it('limits the value to INT_MAX', () => {
          expect(creation(plainAttributes(typeName, { valueSize: 0x8000_0000 }))).toBe(-E2BIG);
        });
      });

      describeTypes(['BPF_MAP_TYPE_PERCPU_ARRAY'], (typeName) => {
        it('limits the value to a per-CPU allocation', () => {
          expect(creation(plainAttributes(typeName, { valueSize: PCPU_MIN_UNIT_SIZE }))).toBe(0);
          expect(creation(plainAttributes(typeName, { valueSize: PCPU_MIN_UNIT_SIZE + 1 }))).toBe(-E2BIG);
        });
      });

      describeTypes(['BPF_MAP_TYPE_LPM_TRIE'], (typeName) => {
        const plain = (changes: Partial<MapAttributes>): number =>
          creation(plainAttributes(typeName, { maxEntries: 1, ...changes }));

        it('wants BPF_F_NO_PREALLOC', () => expect(plain({ flags: 0 })).toBe(-EINVAL));

        it('limits key and value', () => {
          expect(plain({ keySize: 4 + 256 })).toBe(0);
          expect(plain({ keySize: 4 + 257 })).toBe(-EINVAL);
          expect(plain({ valueSize: KMALLOC_MAX_SIZE - 280 })).toBe(0);
          expect(plain({ valueSize: KMALLOC_MAX_SIZE - 279 })).toBe(-EINVAL);
        });
      });

      describeTypes(QUEUES, (typeName) => {
        it('limits the value to one allocation', () => {
          const plain = (valueSize: number): number =>
            creation(plainAttributes(typeName, { valueSize, maxEntries: 1 }));
          expect(plain(KMALLOC_MAX_SIZE)).toBe(0);
          expect(plain(KMALLOC_MAX_SIZE + 1)).toBe(-E2BIG);
        });
      });

      describeTypes(['BPF_MAP_TYPE_RINGBUF'], (typeName) => {
        it('wants a size that is a power of two and whole pages', () => {
          const sizes = [1, 2048, 4096, 8192, 12_288, 1 << 20].map((maxEntries) =>
            creation(plainAttributes(typeName, { maxEntries })),
          );
          expect(sizes).toEqual([-EINVAL, -EINVAL, 0, 0, -EINVAL, 0]);
        });
      });

      describeTypes(['BPF_MAP_TYPE_CPUMAP'], (typeName) => {
        it('limits max_entries to NR_CPUS', () => {
          expect(creation(plainAttributes(typeName, { maxEntries: 1 << 20 }))).toBe(-E2BIG);
        });
      });

      describeTypes(['BPF_MAP_TYPE_ARRAY_OF_MAPS', 'BPF_MAP_TYPE_HASH_OF_MAPS'], (typeName) => {
        it('wants a template', () => {
          // The kernel takes inner_map_fd 0 for an fd: EINVAL for one that is no map, EBADF for one that is closed.
          expect([-EINVAL, -EBADF]).toContain(creation(plainAttributes(typeName, { inner: undefined })));
        });

        it('takes every type as inner map but PROG_ARRAY and a second level', () => {
          for (const inner of everyType.filter((other) => types.has(T[other]))) {
            const expected = inner.endsWith('OF_MAPS')
              ? -EINVAL
              : inner === 'BPF_MAP_TYPE_PROG_ARRAY'
                ? -ENOTSUPP
                : 0;
            const result = creation(plainAttributes(typeName, { inner: plainAttributes(inner) }));
            expect([inner, result]).toEqual([inner, expected]);
          }
        });
      });
    });

    describe('every type', () => {
      describeTypes(everyType, (typeName) => {
        const keyed = (map: BpfMap): Uint8Array => new Uint8Array(map.attributes.keySize);

        it('knows no look-up flags without a spin lock', () => {
          const map = createPlain(typeName);
          for (const flags of [1n, BigInt(BPF_F_LOCK), 1n << 32n]) {
            expect(map.lookup(keyed(map), flags)).toBe(-EINVAL);
          }
        });

        it('refuses keys and values of the wrong size', () => {
          const map = createPlain(typeName);
          const long = new Uint8Array(map.attributes.keySize + 1);
          expect(map.lookup(long)).toBe(-EINVAL);
          expect(map.update(long, value(map, 1), 0n)).toBe(-EINVAL);
          expect(map.delete(long)).toBe(-EINVAL);
          expect(map.nextKey(long)).toBe(-EINVAL);
          expect(map.update(keyed(map), new Uint8Array(map.syscallValueSize + 1), 0n)).toBe(-EINVAL);
        });

        it('lets nobody write once it is frozen, and freezes once', () => {
          const map = createPlain(typeName);
          expect(map.freeze()).toBe(0);
          expect(map.freeze()).toBe(-EPERM);
          expect(map.update(keyed(map), value(map, 1), 0n)).toBe(-EPERM);
          expect(map.delete(keyed(map))).toBe(-EPERM);
          expect(map.lookupAndDelete(keyed(map))).toBe(-EPERM);
        });
      });

      const withAccessFlags = everyType.filter(
        (typeName) => ((ALLOWED_FLAGS[typeName] ?? 0) & BPF_F_RDONLY) !== 0,
      );
      describeTypes(withAccessFlags, (typeName) => {
        const keyed = (map: BpfMap): Uint8Array => new Uint8Array(map.attributes.keySize);
        const withFlag = (flag: number): BpfMap =>
          createPlain(typeName, { flags: plainAttributes(typeName).flags | flag });

        it('refuses writes under BPF_F_RDONLY', () => {
          const map = withFlag(BPF_F_RDONLY);
          expect(map.update(keyed(map), value(map, 1), 9n)).toBe(-EPERM);
          expect(map.delete(keyed(map))).toBe(-EPERM);
          expect(map.lookupAndDelete(keyed(map))).toBe(-EPERM);
          expect(map.freeze()).toBe(-EPERM);
          expect(map.lookup(keyed(map))).not.toBe(-EPERM);
        });

        it('refuses reads under BPF_F_WRONLY', () => {
          const map = withFlag(BPF_F_WRONLY);
          expect(map.lookup(keyed(map))).toBe(-EPERM);
          expect(map.nextKey(null)).toBe(-EPERM);
          expect(map.lookupAndDelete(keyed(map))).toBe(-EPERM);
          expect(map.lookupBatch(null, 3)).toBe(-EPERM);
          expect(map.update(keyed(map), value(map, 1), 0n)).not.toBe(-EPERM);
        });
      });

      describeTypes(
        everyType.filter((typeName) => !HASHES.includes(typeName) && !QUEUES.includes(typeName)),
        (typeName) => {
          it('cannot look up and delete', () => {
            const map = createPlain(typeName);
            expect(map.lookupAndDelete(keyed(map))).toBe(-ENOTSUPP);
          });
          const keyed = (map: BpfMap): Uint8Array => new Uint8Array(map.attributes.keySize);
        },
      );

      describeTypes(
        everyType.filter((typeName) =>
          /PROG_ARRAY|PERF|DEVMAP|CPUMAP|XSKMAP|QUEUE|STACK|RINGBUF/.test(typeName),
        ),
        (typeName) => {
          it('has no batch', () => {
            expect(createPlain(typeName).lookupBatch(null, 10)).toBe(-ENOTSUPP);
          });
        },
      );
    });

    describeTypes(ARRAYS, (typeName) => {
      it('starts with every element, all zero', () => {
        const map = createPlain(typeName);
        expect(map.lookup(u32(0))).toEqual(value(map, 0));
        expect(map.lookup(u32(3))).toEqual(value(map, 0));
        expect(map.lookup(u32(4))).toBe(-ENOENT);
        expect(map.lookup(u32(0xffff_ffff))).toBe(-ENOENT);
      });

      it('updates what is there, and nothing else', () => {
        const map = createPlain(typeName);
        expect(map.update(u32(3), value(map, 7), BigInt(BPF_ANY))).toBe(0);
        expect(map.lookup(u32(3))).toEqual(value(map, 7));
        expect(map.lookup(u32(2))).toEqual(value(map, 0));
        expect(map.update(u32(3), value(map, 8), BigInt(BPF_EXIST))).toBe(0);
        expect(map.lookup(u32(3))).toEqual(value(map, 8));
        expect(map.update(u32(3), value(map, 9), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(map.update(u32(4), value(map, 9), BigInt(BPF_NOEXIST))).toBe(-E2BIG);
        expect(map.update(u32(4), value(map, 9), BigInt(BPF_ANY))).toBe(-E2BIG);
        for (const flags of [3n, 4n, 5n, 8n, 1n << 32n]) {
          expect(map.update(u32(0), value(map, 9), flags)).toBe(-EINVAL);
          expect(map.update(u32(4), value(map, 9), flags)).toBe(-EINVAL);
        }
      });

      it('deletes nothing', () => {
        const map = createPlain(typeName);
        expect(map.delete(u32(0))).toBe(-EINVAL);
        expect(map.delete(u32(4))).toBe(-EINVAL);
      });

      it('goes through the indexes in order', () => {
        const map = createPlain(typeName);
        expect(map.nextKey(null)).toEqual(u32(0));
        expect(map.nextKey(u32(0))).toEqual(u32(1));
        expect(map.nextKey(u32(3))).toBe(-ENOENT);
        expect(map.nextKey(u32(99))).toEqual(u32(0));
      });

      it('reads in batches', () => {
        const map = createPlain(typeName);
        map.update(u32(2), value(map, 5), 0n);
        const first = map.lookupBatch(null, 3);
        if (typeof first === 'number') throw new Error(`batch failed with ${first}`);
        expect(first.entries.map((entry) => entry.key)).toEqual([u32(0), u32(1), u32(2)]);
        expect(first.entries[2]!.value).toEqual(value(map, 5));
        const second = map.lookupBatch(first.next, 3);
        if (typeof second === 'number') throw new Error(`batch failed with ${second}`);
        expect(second).toEqual({ entries: [{ key: u32(3), value: value(map, 0) }], next: null });
      });
    });

    describeTypes(['BPF_MAP_TYPE_PERCPU_ARRAY', 'BPF_MAP_TYPE_PERCPU_HASH'], (typeName) => {
      it('has a value for each CPU, each rounded up to 8 bytes', () => {
        const map = createPlain(typeName, { valueSize: 12 });
        expect(map.syscallValueSize).toBe(16 * subject.cpus);
        const bytes = Uint8Array.from({ length: map.syscallValueSize }, (_, i) => 1 + (i % 16 < 12 ? i : 0));
        expect(map.update(u32(1), bytes, 0n)).toBe(0);
        const read = map.lookup(u32(1));
        if (typeof read === 'number') throw new Error(`look-up failed with ${read}`);
        for (let cpu = 0; cpu < subject.cpus; cpu++) {
          expect(read.slice(16 * cpu, 16 * cpu + 12)).toEqual(bytes.slice(16 * cpu, 16 * cpu + 12));
        }
      });
    });

    describeTypes(HASHES, (typeName) => {
      const isLru = typeName.includes('LRU');

      it('starts empty', () => {
        const map = createPlain(typeName);
        expect(map.lookup(u32(1))).toBe(-ENOENT);
        expect(map.delete(u32(1))).toBe(-ENOENT);
        expect(map.lookupAndDelete(u32(1))).toBe(-ENOENT);
        expect(map.nextKey(null)).toBe(-ENOENT);
        expect(map.nextKey(u32(1))).toBe(-ENOENT);
        expect(map.update(u32(1), value(map, 1), BigInt(BPF_EXIST))).toBe(-ENOENT);
      });

      it('inserts, replaces and deletes as flags say', () => {
        const map = createPlain(typeName);
        expect(map.update(u32(1), value(map, 1), BigInt(BPF_NOEXIST))).toBe(0);
        expect(map.update(u32(1), value(map, 2), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(map.lookup(u32(1))).toEqual(value(map, 1));
        expect(map.update(u32(1), value(map, 3), BigInt(BPF_EXIST))).toBe(0);
        expect(map.update(u32(2), value(map, 4), BigInt(BPF_ANY))).toBe(0);
        expect(map.lookup(u32(1))).toEqual(value(map, 3));
        expect(map.lookupAndDelete(u32(1))).toEqual(value(map, 3));
        expect(map.lookup(u32(1))).toBe(-ENOENT);
        expect(map.delete(u32(2))).toBe(0);
        expect(map.delete(u32(2))).toBe(-ENOENT);
        for (const flags of [3n, 4n, 5n, 8n, 1n << 32n]) {
          expect(map.update(u32(1), value(map, 9), flags)).toBe(-EINVAL);
        }
      });

      it.skipIf(isLru)('is full at max_entries', () => {
        const map = createPlain(typeName, { maxEntries: 5 });
        for (let i = 0; i < 5; i++) expect(map.update(u32(i), value(map, i), 0n)).toBe(0);
        expect(map.update(u32(9), value(map, 9), 0n)).toBe(-E2BIG);
        expect(map.update(u32(9), value(map, 9), BigInt(BPF_NOEXIST))).toBe(-E2BIG);
        expect(map.update(u32(9), value(map, 9), BigInt(BPF_EXIST))).toBe(-ENOENT);
        expect(map.update(u32(4), value(map, 7), 0n)).toBe(0);
        expect(map.delete(u32(0))).toBe(0);
        expect(map.update(u32(9), value(map, 9), 0n)).toBe(0);
        expect(sorted(allKeys(map))).toEqual(sorted([u32(1), u32(2), u32(3), u32(4), u32(9)]));
      });

      it.runIf(isLru)('makes room by evicting', () => {
        const map = createPlain(typeName, { maxEntries: 256 });
        for (let i = 0; i < 1000; i++) expect(map.update(u32(i), value(map, i & 0xff), 0n)).toBe(0);
        const keys = allKeys(map);
        expect(keys.length).toBeLessThanOrEqual(256);
        expect(keys.length).toBeGreaterThan(0);
        expect(map.lookup(u32(999))).toEqual(value(map, 999 & 0xff));
      });

      it('goes through each key once, and starts over from a key that is gone', () => {
        const map = createPlain(typeName, { maxEntries: 512 });
        const keys = Array.from({ length: 100 }, (_, i) => u32(i * 7919));
        for (const key of keys) map.update(key, value(map, 1), 0n);
        const walked = allKeys(map);
        expect(sorted(walked)).toEqual(sorted(keys));
        map.delete(walked[50]!);
        expect(map.nextKey(walked[50]!)).toEqual(walked[0]);
      });

      it('reads in batches, each element once', () => {
        const map = createPlain(typeName, { maxEntries: 512 });
        const keys = Array.from({ length: 100 }, (_, i) => u32(i * 7919));
        for (const key of keys) map.update(key, value(map, key[0]!), 0n);
        const seen: Uint8Array[] = [];
        let cursor: Uint8Array | null = null;
        do {
          const batch = map.lookupBatch(cursor, 32);
          if (typeof batch === 'number') throw new Error(`batch failed with ${batch}`);
          for (const entry of batch.entries) expect(entry.value).toEqual(value(map, entry.key[0]!));
          seen.push(...batch.entries.map((entry) => entry.key));
          cursor = batch.next;
        } while (cursor !== null);
        expect(sorted(seen)).toEqual(sorted(keys));
      });

      it('has an empty batch when it is empty', () => {
        expect(createPlain(typeName).lookupBatch(null, 4)).toEqual({ entries: [], next: null });
      });

      it('tells keys of odd sizes apart by their last byte', () => {
        for (const keySize of [1, 3, 5, 13]) {
          const map = createPlain(typeName, { keySize });
          const key = new Uint8Array(keySize).fill(1);
          const other = key.slice();
          other[keySize - 1] = 2;
          expect(map.update(key, value(map, 1), 0n)).toBe(0);
          expect(map.lookup(other)).toBe(-ENOENT);
          expect(map.update(other, value(map, 2), 0n)).toBe(0);
          expect(map.lookup(key)).toEqual(value(map, 1));
        }
      });
    });

    describeTypes(['BPF_MAP_TYPE_LPM_TRIE'], (typeName) => {
      it('finds the longest prefix', () => {
        const map = createPlain(typeName, { maxEntries: 8 });
        const add = (fill: number, ...key: [number, ...number[]]): number =>
          map.update(lpmKey(...key), value(map, fill), 0n);
        expect(add(8, 8, 10, 0, 0, 0)).toBe(0);
        expect(add(24, 24, 10, 1, 2, 0)).toBe(0);
        expect(add(16, 16, 10, 1, 0, 0)).toBe(0);
        expect(add(32, 32, 10, 1, 2, 3)).toBe(0);
        expect(map.lookup(lpmKey(32, 10, 1, 2, 3))).toEqual(value(map, 32));
        expect(map.lookup(lpmKey(32, 10, 1, 2, 4))).toEqual(value(map, 24));
        expect(map.lookup(lpmKey(32, 10, 1, 3, 4))).toEqual(value(map, 16));
        expect(map.lookup(lpmKey(32, 10, 9, 9, 9))).toEqual(value(map, 8));
        expect(map.lookup(lpmKey(32, 11, 0, 0, 0))).toBe(-ENOENT);
        // A look-up matches no prefix that is longer than its own.
        expect(map.lookup(lpmKey(20, 10, 1, 2, 3))).toEqual(value(map, 16));
        expect(map.lookup(lpmKey(7, 10, 0, 0, 0))).toBe(-ENOENT);
        expect(add(1, 0, 0, 0, 0, 0)).toBe(0);
        expect(map.lookup(lpmKey(32, 200, 0, 0, 0))).toEqual(value(map, 1));
      });

      it('answers with the kernel’s errnos', () => {
        const map = createPlain(typeName, { maxEntries: 2 });
        const [slash24, slash0, slash16] = [
          lpmKey(24, 10, 0, 0, 0),
          lpmKey(0, 0, 0, 0, 0),
          lpmKey(16, 10, 0, 0, 0),
        ];
        const long = lpmKey(33, 1, 2, 3, 4);
        expect(map.update(slash24, value(map, 1), BigInt(BPF_EXIST))).toBe(-ENOENT);
        expect(map.update(slash24, value(map, 1), BigInt(BPF_NOEXIST))).toBe(0);
        expect(map.update(slash24, value(map, 1), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(map.update(slash0, value(map, 1), 0n)).toBe(0);
        expect(map.update(slash16, value(map, 1), 0n)).toBe(-ENOSPC);
        expect(map.update(slash16, value(map, 1), BigInt(BPF_NOEXIST))).toBe(-ENOSPC);
        expect(map.update(slash16, value(map, 1), BigInt(BPF_EXIST))).toBe(-ENOENT);
        expect(map.update(slash24, value(map, 2), BigInt(BPF_EXIST))).toBe(0);
        expect(map.update(long, value(map, 1), 0n)).toBe(-EINVAL);
        expect(map.lookup(long)).toBe(-ENOENT);
        expect(map.delete(long)).toBe(-EINVAL);
        expect(map.delete(slash16)).toBe(-ENOENT);
        for (const flags of [3n, 4n, 5n]) expect(map.update(slash24, value(map, 1), flags)).toBe(-EINVAL);
        expect(map.delete(slash24)).toBe(0);
        expect(map.delete(slash24)).toBe(-ENOENT);
      });

      it('goes from the most specific prefix to the least', () => {
        const map = createPlain(typeName, { maxEntries: 8 });
        const keys = [
          lpmKey(32, 10, 0, 0, 1),
          lpmKey(24, 10, 0, 0, 0),
          lpmKey(16, 10, 0, 0, 0),
          lpmKey(16, 192, 168, 0, 0),
          lpmKey(0, 0, 0, 0, 0),
        ];
        for (const key of [keys[4]!, keys[2]!, keys[0]!, keys[3]!, keys[1]!])
          map.update(key, value(map, 1), 0n);
        expect(allKeys(map)).toEqual(keys);
        expect(map.nextKey(lpmKey(20, 10, 0, 0, 0))).toEqual(keys[0]);
        const batch = map.lookupBatch(null, 100);
        if (typeof batch === 'number') throw new Error(`batch failed with ${batch}`);
        expect(batch.entries.map((entry) => entry.key)).toEqual(keys);
      });
    });

    describeTypes(QUEUES, (typeName) => {
      const isStack = typeName === 'BPF_MAP_TYPE_STACK';
      const drain = (map: BpfMap): number[] => {
        const out: number[] = [];
        for (
          let got = map.lookupAndDelete(NO_KEY);
          typeof got !== 'number';
          got = map.lookupAndDelete(NO_KEY)
        ) {
          out.push(got[0]!);
        }
        return out;
      };

      it('peeks and pops in its order', () => {
        const map = createPlain(typeName);
        expect(map.lookup(NO_KEY)).toBe(-ENOENT);
        expect(map.lookupAndDelete(NO_KEY)).toBe(-ENOENT);
        for (const fill of [1, 2, 3]) expect(map.update(NO_KEY, value(map, fill), 0n)).toBe(0);
        expect(map.lookup(NO_KEY)).toEqual(value(map, isStack ? 3 : 1));
        expect(drain(map)).toEqual(isStack ? [3, 2, 1] : [1, 2, 3]);
        expect(map.delete(NO_KEY)).toBe(-EINVAL);
        expect(map.nextKey(null)).toBe(-EINVAL);
      });

      it('drops its oldest element for BPF_EXIST when it is full', () => {
        const map = createPlain(typeName, { maxEntries: 3 });
        for (const fill of [1, 2, 3]) expect(map.update(NO_KEY, value(map, fill), 0n)).toBe(0);
        expect(map.update(NO_KEY, value(map, 4), 0n)).toBe(-E2BIG);
        expect(map.update(NO_KEY, value(map, 4), BigInt(BPF_EXIST))).toBe(0);
        expect(map.update(NO_KEY, value(map, 5), BigInt(BPF_EXIST))).toBe(0);
        for (const flags of [1n, 3n, 4n]) expect(map.update(NO_KEY, value(map, 6), flags)).toBe(-EINVAL);
        expect(drain(map)).toEqual(isStack ? [5, 4, 3] : [3, 4, 5]);
      });
    });

    describeTypes(['BPF_MAP_TYPE_RINGBUF'], (typeName) => {
      it('has no elements', () => {
        const map = createPlain(typeName);
        expect(map.lookup(NO_KEY)).toBe(-ENOTSUPP);
        expect(map.update(NO_KEY, NO_KEY, 0n)).toBe(-ENOTSUPP);
        expect(map.delete(NO_KEY)).toBe(-ENOTSUPP);
        expect(map.nextKey(null)).toBe(-ENOTSUPP);
      });
    });

    describeTypes(FD_ARRAYS, (typeName) => {
      it('answers with the kernel’s errnos', () => {
        const map = createPlain(typeName);
        const noSuch = typeName === 'BPF_MAP_TYPE_PERF_EVENT_ARRAY' ? -ENOTSUPP : -ENOENT;
        expect(map.lookup(u32(0))).toBe(noSuch);
        expect(map.lookup(u32(99))).toBe(noSuch);
        expect(map.update(u32(0), u32(BAD_FD), 0n)).toBe(-EBADF);
        expect(map.update(u32(4), u32(BAD_FD), 0n)).toBe(-E2BIG);
        for (const flags of [1n, 2n, 3n, 4n]) expect(map.update(u32(0), u32(BAD_FD), flags)).toBe(-EINVAL);
        expect(map.delete(u32(0))).toBe(-ENOENT);
        expect(map.delete(u32(4))).toBe(-E2BIG);
        expect(allKeys(map)).toEqual([u32(0), u32(1), u32(2), u32(3)]);
      });
    });

    describeTypes(['BPF_MAP_TYPE_HASH_OF_MAPS'], (typeName) => {
      it('answers with the kernel’s errnos', () => {
        const map = createPlain(typeName);
        expect(map.lookup(u32(0))).toBe(-ENOENT);
        expect(map.delete(u32(0))).toBe(-ENOENT);
        expect(map.nextKey(null)).toBe(-ENOENT);
        expect(map.update(u32(0), u32(BAD_FD), 0n)).toBe(-EBADF);
      });
    });

    describeTypes(REDIRECT_ARRAYS, (typeName) => {
      it('goes through every index, used or not, and deletes without asking', () => {
        const map = createPlain(typeName);
        const noSuch = typeName === 'BPF_MAP_TYPE_XSKMAP' ? -EOPNOTSUPP : -ENOENT;
        expect(map.lookup(u32(0))).toBe(noSuch);
        expect(map.lookup(u32(99))).toBe(noSuch);
        expect(allKeys(map)).toEqual([u32(0), u32(1), u32(2), u32(3)]);
        expect(map.delete(u32(0))).toBe(0);
        expect(map.delete(u32(4))).toBe(-EINVAL);
        expect(map.update(u32(4), u32(1), 0n)).toBe(-E2BIG);
        for (const flags of [3n, 4n, 5n]) expect(map.update(u32(0), u32(1), flags)).toBe(-EINVAL);
      });
    });

    describeTypes(['BPF_MAP_TYPE_XSKMAP'], (typeName) => {
      it('refuses what is no fd', () => {
        expect(createPlain(typeName).update(u32(0), u32(BAD_FD), 0n)).toBe(-EBADF);
      });
    });

    // Interface 1 is the loopback device of every network namespace.
    describeTypes(['BPF_MAP_TYPE_DEVMAP'], (typeName) => {
      it('holds devices, and ifindex 0 empties an entry', () => {
        const map = createPlain(typeName);
        expect(map.update(u32(0), u32(1), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(map.update(u32(0), u32(1), BigInt(BPF_EXIST))).toBe(0);
        expect(map.lookup(u32(0))).toEqual(u32(1));
        expect(map.update(u32(0), u32(0), 0n)).toBe(0);
        expect(map.lookup(u32(0))).toBe(-ENOENT);
      });

      it('takes a program beside the device', () => {
        const map = createPlain(typeName, { valueSize: 8 });
        expect(map.update(u32(0), u32(1, 0), 0n)).toBe(0);
        expect(map.lookup(u32(0))).toEqual(u32(1, 0));
        expect(map.update(u32(0), u32(1, BAD_FD), 0n)).toBe(0);
        expect(map.lookup(u32(0))).toEqual(u32(1, 0));
        expect(map.update(u32(0), u32(0, 5), 0n)).toBe(-EINVAL);
      });
    });

    describeTypes(['BPF_MAP_TYPE_DEVMAP_HASH'], (typeName) => {
      it('holds devices under any key', () => {
        const map = createPlain(typeName, { maxEntries: 2 });
        expect(map.update(u32(5), u32(1), BigInt(BPF_EXIST))).toBe(0);
        expect(map.update(u32(600), u32(1), BigInt(BPF_NOEXIST))).toBe(0);
        expect(map.update(u32(600), u32(1), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(map.update(u32(7), u32(1), 0n)).toBe(-E2BIG);
        expect(map.update(u32(600), u32(1), 0n)).toBe(0);
        expect(map.update(u32(600), u32(0), 0n)).toBe(-EINVAL);
        for (const flags of [3n, 4n]) expect(map.update(u32(5), u32(1), flags)).toBe(-EINVAL);
        expect(map.lookup(u32(5))).toEqual(u32(1));
        expect(sorted(allKeys(map))).toEqual(sorted([u32(5), u32(600)]));
        expect(map.delete(u32(5))).toBe(0);
        expect(map.delete(u32(5))).toBe(-ENOENT);
      });
    });

    describeTypes(['BPF_MAP_TYPE_CPUMAP'], (typeName) => {
      it('holds a queue size for each CPU there is', () => {
        const map = createPlain(typeName, { maxEntries: subject.cpus + 1 });
        expect(map.update(u32(0), u32(64), 0n)).toBe(0);
        expect(map.lookup(u32(0))).toEqual(u32(64));
        expect(map.update(u32(0), u32(64), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(map.update(u32(subject.cpus), u32(64), 0n)).toBe(-ENODEV);
        expect(map.update(u32(subject.cpus + 1), u32(64), 0n)).toBe(-E2BIG);
        // EOVERFLOW
        expect(map.update(u32(0), u32(16_385), 0n)).toBe(-75);
        expect(map.update(u32(0), u32(16_384), 0n)).toBe(0);
        expect(map.update(u32(0), u32(0), 0n)).toBe(0);
        expect(map.lookup(u32(0))).toBe(-ENOENT);
      });
    });
  });
}

/** Creation flags by type, those of `plainAttributes` not repeated. Probed bit by bit on Linux 6.18. */
const SYSCALL_ACCESS = BPF_F_RDONLY | BPF_F_WRONLY;
const PROG_ACCESS = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
const ALL_ACCESS = SYSCALL_ACCESS | PROG_ACCESS;
const ALLOWED_FLAGS: Partial<Record<MapTypeName, number>> = {
  BPF_MAP_TYPE_HASH: BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_PERCPU_HASH: BPF_F_NO_PREALLOC | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_LRU_HASH: BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_LRU_PERCPU_HASH: BPF_F_NO_COMMON_LRU | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_ARRAY: BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_MMAPABLE | BPF_F_INNER_MAP,
  BPF_MAP_TYPE_PERCPU_ARRAY: ALL_ACCESS,
  BPF_MAP_TYPE_LPM_TRIE: BPF_F_NUMA_NODE | ALL_ACCESS,
  BPF_MAP_TYPE_PROG_ARRAY: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_PERF_EVENT_ARRAY: BPF_F_NUMA_NODE | SYSCALL_ACCESS | BPF_F_PRESERVE_ELEMS,
  BPF_MAP_TYPE_ARRAY_OF_MAPS: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_HASH_OF_MAPS: BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | ALL_ACCESS | BPF_F_ZERO_SEED,
  BPF_MAP_TYPE_DEVMAP: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_DEVMAP_HASH: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_XSKMAP: BPF_F_NUMA_NODE | SYSCALL_ACCESS,
  BPF_MAP_TYPE_CPUMAP: BPF_F_NUMA_NODE,
  BPF_MAP_TYPE_RINGBUF: BPF_F_NUMA_NODE,
  BPF_MAP_TYPE_QUEUE: BPF_F_NUMA_NODE | ALL_ACCESS,
  BPF_MAP_TYPE_STACK: BPF_F_NUMA_NODE | ALL_ACCESS,
};
