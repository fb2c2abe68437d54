import { expect, it } from 'vitest';
import { EEXIST, EINVAL, ENOENT, ENOSPC } from '../../bpf/errno.js';
import { BPF_EXIST, BPF_NOEXIST } from '../../bpf/map-spec.js';
import { allKeys, lpmKey } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** LPM_TRIE. */
export function lpmTrieCases(bench: MapBench): void {
  const { createPlain, value, describeTypes } = bench;

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
}
