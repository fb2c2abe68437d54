import { expect, it } from 'vitest';
import { E2BIG, EEXIST, EINVAL, ENOENT } from '../../bpf/errno.js';
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from '../../bpf/map-spec.js';
import { HASHES, allKeys, sorted, u32 } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** HASH, PERCPU_HASH, and their LRU forms. */
export function hashCases(bench: MapBench): void {
  const { createPlain, value, describeTypes } = bench;

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
}
