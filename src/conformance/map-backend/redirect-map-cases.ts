import { expect, it } from 'vitest';
import { E2BIG, EBADF, EEXIST, EINVAL, ENODEV, ENOENT, EOPNOTSUPP } from '../../bpf/errno.js';
import { BPF_EXIST, BPF_NOEXIST } from '../../bpf/map-spec.js';
import { BAD_FD, REDIRECT_ARRAYS, allKeys, sorted, u32 } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** Maps that bpf_redirect_map takes. */
export function redirectMapCases(bench: MapBench): void {
  const { createPlain, describeTypes } = bench;

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
      const map = createPlain(typeName, { maxEntries: bench.cpus + 1 });
      expect(map.update(u32(0), u32(64), 0n)).toBe(0);
      expect(map.lookup(u32(0))).toEqual(u32(64));
      expect(map.update(u32(0), u32(64), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
      expect(map.update(u32(bench.cpus), u32(64), 0n)).toBe(-ENODEV);
      expect(map.update(u32(bench.cpus + 1), u32(64), 0n)).toBe(-E2BIG);
      // EOVERFLOW
      expect(map.update(u32(0), u32(16_385), 0n)).toBe(-75);
      expect(map.update(u32(0), u32(16_384), 0n)).toBe(0);
      expect(map.update(u32(0), u32(0), 0n)).toBe(0);
      expect(map.lookup(u32(0))).toBe(-ENOENT);
    });
  });
}
