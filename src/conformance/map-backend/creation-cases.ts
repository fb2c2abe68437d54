import { describe, expect, it } from 'vitest';
import { E2BIG, EBADF, EINVAL, ENOTSUPP } from '../../bpf/errno.js';
import {
  BPF_F_NO_PREALLOC,
  BPF_F_RDONLY,
  BPF_F_RDONLY_PROG,
  BPF_F_WRONLY,
  BPF_F_WRONLY_PROG,
  BPF_MAP_TYPE,
  type MapAttributes,
} from '../../bpf/map-spec.js';
import {
  ALLOWED_FLAGS,
  EVERY_TYPE,
  FD_ARRAYS,
  HASHES,
  KMALLOC_MAX_SIZE,
  PCPU_MIN_UNIT_SIZE,
  QUEUES,
  plainAttributes,
} from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** Which attributes a map can be created with. */
export function creationCases(bench: MapBench): void {
  const { creation, describeTypes, types } = bench;

  it('refuses an unknown type', () => {
    expect(creation({ type: 99, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 })).toBe(-EINVAL);
  });

  describe('creation', () => {
    describeTypes(EVERY_TYPE, (typeName) => {
      const plain = (changes: Partial<MapAttributes>): number => creation(plainAttributes(typeName, changes));
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
          if (FD_ARRAYS.includes(typeName) || typeName === 'BPF_MAP_TYPE_HASH_OF_MAPS') ok = valueSize === 4;
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
        for (const inner of EVERY_TYPE.filter((other) => types.has(BPF_MAP_TYPE[other]))) {
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
}
