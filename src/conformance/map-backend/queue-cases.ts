import { expect, it } from 'vitest';
import { E2BIG, EINVAL, ENOENT, ENOTSUPP } from '../../bpf/errno.js';
import { BPF_EXIST } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import { NO_KEY, QUEUES } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** QUEUE, STACK and RINGBUF: maps without keys. */
export function queueCases(bench: MapBench): void {
  const { createPlain, value, describeTypes } = bench;

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
}
