import { expect, it } from 'vitest';
import { E2BIG, EEXIST, EINVAL, ENOENT } from '../../bpf/errno.js';
import { BPF_ANY, BPF_EXIST, BPF_NOEXIST } from '../../bpf/map-spec.js';
import { ARRAYS, u32 } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** ARRAY and PERCPU_ARRAY, and what per-CPU values look like. */
export function arrayCases(bench: MapBench): void {
  const { createPlain, value, describeTypes } = bench;

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
      expect(map.syscallValueSize).toBe(16 * bench.cpus);
      const bytes = Uint8Array.from({ length: map.syscallValueSize }, (_, i) => 1 + (i % 16 < 12 ? i : 0));
      expect(map.update(u32(1), bytes, 0n)).toBe(0);
      const read = map.lookup(u32(1));
      if (typeof read === 'number') throw new Error(`look-up failed with ${read}`);
      for (let cpu = 0; cpu < bench.cpus; cpu++) {
        expect(read.slice(16 * cpu, 16 * cpu + 12)).toEqual(bytes.slice(16 * cpu, 16 * cpu + 12));
      }
    });
  });
}
