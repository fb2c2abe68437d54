import { expect, it } from 'vitest';
import { E2BIG, EBADF, EINVAL, ENOENT, ENOTSUPP } from '../../bpf/errno.js';
import { BAD_FD, FD_ARRAYS, allKeys, u32 } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** Maps whose values are fds of programs, events and maps. */
export function fdMapCases(bench: MapBench): void {
  const { createPlain, describeTypes } = bench;

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
}
