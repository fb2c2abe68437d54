import { describe, expect, it } from 'vitest';
import { EINVAL, ENOTSUPP, EPERM } from '../../bpf/errno.js';
import { BPF_F_LOCK, BPF_F_RDONLY, BPF_F_WRONLY } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import { ALLOWED_FLAGS, EVERY_TYPE, HASHES, QUEUES, plainAttributes } from './map-samples.js';
import type { MapBench } from './map-bench.js';

/** What is the same for maps of all types: sizes, access flags, freezing. */
export function everyTypeCases(bench: MapBench): void {
  const { createPlain, value, describeTypes } = bench;

  describe('every type', () => {
    describeTypes(EVERY_TYPE, (typeName) => {
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

    const withAccessFlags = EVERY_TYPE.filter(
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
      EVERY_TYPE.filter((typeName) => !HASHES.includes(typeName) && !QUEUES.includes(typeName)),
      (typeName) => {
        it('cannot look up and delete', () => {
          const map = createPlain(typeName);
          expect(map.lookupAndDelete(keyed(map))).toBe(-ENOTSUPP);
        });
        const keyed = (map: BpfMap): Uint8Array => new Uint8Array(map.attributes.keySize);
      },
    );

    describeTypes(
      EVERY_TYPE.filter((typeName) =>
        /PROG_ARRAY|PERF|DEVMAP|CPUMAP|XSKMAP|QUEUE|STACK|RINGBUF/.test(typeName),
      ),
      (typeName) => {
        it('has no batch', () => {
          expect(createPlain(typeName).lookupBatch(null, 10)).toBe(-ENOTSUPP);
        });
      },
    );
  });
}
