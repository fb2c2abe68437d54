import { beforeEach, describe, expect, it } from 'vitest';
import { E2BIG, EEXIST, EINVAL, ENOENT, ENOMEM, ENOSPC, EOPNOTSUPP, EPERM } from '../../bpf/errno.js';
import {
  BPF_EXIST,
  BPF_F_RDONLY_PROG,
  BPF_MAP_TYPE,
  BPF_NOEXIST,
  type MapAttributes,
  type MapTypeName,
} from '../../bpf/map-spec.js';
import type { Region } from '../../bpf/runtime/address-space.js';
import { isResidentMap, type ResidentMap } from '../../bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { HASH_ELEMENT_KEY, hashKey } from '../../bpf/runtime/map-layout.js';
import type { MapBackend } from '../../core/contract/map-backend.js';
import type { MapConformanceOptions } from './map-bench.js';
import {
  CONFORMANCE_MAP_TYPES,
  EVERY_TYPE,
  HASHES,
  REDIRECT_ARRAYS,
  allKeys,
  lpmKey,
  plainAttributes,
  u32,
} from './map-samples.js';

/** A backend whose maps lie in a runtime's address space. The runtime must have at least two CPUs. */
export interface ResidentBackendUnderTest {
  readonly backend: MapBackend;
  readonly runtime: BpfRuntime;
}

const T = BPF_MAP_TYPE;

/** The program's side of maps that lie in an address space: ResidentMap, layouts, snapshots, memory. */
export function residentMapConformance(
  name: string,
  makeBackend: () => ResidentBackendUnderTest,
  options: MapConformanceOptions = {},
): void {
  const types = options.types ?? CONFORMANCE_MAP_TYPES;

  describe(`map backend ${name}: resident maps`, () => {
    let runtime: BpfRuntime;
    let backend: MapBackend;
    let scratch: Region;

    beforeEach(() => {
      ({ runtime, backend } = makeBackend());
      scratch = runtime.space.allocate(1024, { kind: 'stack', label: 'the stack', access: 'read-write' });
    });

    function create(attributes: MapAttributes, mapName = 'm'): ResidentMap {
      const map = backend.create(attributes, { name: mapName });
      if (typeof map === 'number') throw new Error(`map type ${attributes.type} was refused with ${map}`);
      if (!isResidentMap(map)) throw new Error(`map type ${attributes.type} is not resident`);
      return map;
    }

    const createPlain = (typeName: MapTypeName, changes: Partial<MapAttributes> = {}): ResidentMap =>
      create(plainAttributes(typeName, changes));

    /** Puts a key where a program would have it; `skew` makes its address odd. */
    function at(key: Uint8Array, skew = 0): number {
      runtime.space.write(scratch.start + skew, key);
      return scratch.start + skew;
    }

    function valueAt(value: Uint8Array): number {
      runtime.space.write(scratch.start + 512, value);
      return scratch.start + 512;
    }

    const lookup = (map: ResidentMap, key: Uint8Array): number => map.lookupElem(at(key));
    const update = (map: ResidentMap, key: Uint8Array, value: Uint8Array, flags = 0): number =>
      map.updateElem(at(key), valueAt(value), flags);
    const remove = (map: ResidentMap, key: Uint8Array): number => map.deleteElem(at(key));
    const read = (address: number, size: number): Uint8Array => runtime.space.read(address, size);

    const describeTypes = (names: readonly MapTypeName[], body: (typeName: MapTypeName) => void): void => {
      for (const typeName of names) describe.runIf(types.has(T[typeName]))(typeName, () => body(typeName));
    };

    describe('every type', () => {
      describeTypes(EVERY_TYPE, (typeName) => {
        it('costs what memoryCost says, and gives all of it back', () => {
          for (const changes of [{}, { maxEntries: 8192 }]) {
            const attributes = plainAttributes(typeName, changes);
            const before = runtime.space.bytesInUse;
            const map = create(attributes);
            expect(runtime.space.bytesInUse - before).toBe(backend.memoryCost(attributes));
            map.close();
            map.close();
            expect(runtime.space.bytesInUse).toBe(before);
          }
        });

        it('is found by its address as long as it lives', () => {
          const map = createPlain(typeName);
          expect(runtime.maps.get(map.address)).toBe(map);
          const identity = runtime.space.regionAt(map.address)!;
          expect(identity).toMatchObject({ kind: 'map', access: 'none', start: map.address });
          expect(runtime.space.accessFault(map.address, 1, false)).toMatch(/not accessible/);
          map.close();
          expect(runtime.maps.has(map.address)).toBe(false);
        });

        it('answers -ENOMEM, and takes nothing, when the space is full', () => {
          const hog = runtime.space.byteLength - runtime.space.bytesInUse - 65_536 - 64;
          runtime.space.allocate(hog, { kind: 'scratch', label: 'a hog', access: 'none' });
          const before = runtime.space.bytesInUse;
          expect(backend.create(plainAttributes(typeName, { maxEntries: 8192 }), { name: 'm' })).toBe(
            -ENOMEM,
          );
          expect(runtime.space.bytesInUse).toBe(before);
        });

        it('has a cost for attributes that nobody could serve', () => {
          const all = 0xffff_ffff;
          const attributes = plainAttributes(typeName, { keySize: all, valueSize: all, maxEntries: all });
          expect(backend.memoryCost(attributes)).toBeGreaterThan(2 ** 31);
          const result = backend.create(attributes, { name: 'm' });
          expect([-EINVAL, -E2BIG, -ENOMEM]).toContain(result);
        });

        it('survives a snapshot and its restoration', () => {
          const map = createPlain(typeName);
          const key = new Uint8Array(map.attributes.keySize);
          const value = new Uint8Array(map.syscallValueSize).fill(1);
          const state = (): unknown => {
            const keys = map.attributes.keySize === 0 ? [key] : allKeys(map);
            return keys.map((each) => [each, map.lookup(each)]);
          };
          map.update(key, value, 0n);
          const before = state();
          const snapshot = runtime.space.snapshot();
          const mutate = (): unknown[] => [
            map.update(
              key,
              value.map((byte) => byte + 1),
              0n,
            ),
            map.delete(key),
            map.update(new Uint8Array(key.length).fill(1), value, 0n),
            state(),
          ];
          const outcome = mutate();
          runtime.space.restore(snapshot);
          expect(state()).toEqual(before);
          expect(mutate()).toEqual(outcome);
        });

        it('stays frozen whatever its memory says', () => {
          const map = createPlain(typeName);
          const snapshot = runtime.space.snapshot();
          expect(map.freeze()).toBe(0);
          runtime.space.restore(snapshot);
          const key = new Uint8Array(map.attributes.keySize);
          expect(map.update(key, new Uint8Array(map.syscallValueSize), 0n)).toBe(-EPERM);
          expect(map.delete(key)).toBe(-EPERM);
        });
      });

      it('leaves nothing behind after 10 000 lives', () => {
        const before = runtime.space.bytesInUse;
        const attributes = EVERY_TYPE.filter((typeName) => types.has(T[typeName])).map((typeName) =>
          plainAttributes(typeName),
        );
        for (let i = 0; i < 10_000; i++) create(attributes[i % attributes.length]!).close();
        expect(runtime.space.bytesInUse).toBe(before);
        expect(runtime.maps.size).toBe(0);
      });
    });

    describeTypes(['BPF_MAP_TYPE_ARRAY', 'BPF_MAP_TYPE_PERCPU_ARRAY'], (typeName) => {
      it('lies as its layout says', () => {
        const map = createPlain(typeName, { valueSize: 12, maxEntries: 5 });
        const layout = map.layout;
        if (layout.kind !== 'array') throw new Error(`layout is ${layout.kind}`);
        expect(layout).toMatchObject({ stride: 16, maxEntries: 5 });
        for (let cpu = 0; cpu < 2; cpu++) {
          runtime.state.cpu = cpu;
          for (let index = 0; index < 5; index++) {
            expect(lookup(map, u32(index))).toBe(layout.values + cpu * layout.cpuStride + index * 16);
          }
        }
        expect(layout.values % 8).toBe(0);
        expect(lookup(map, u32(5))).toBe(0);
        expect(lookup(map, u32(0xffff_ffff))).toBe(0);
      });

      it('is updated by a program as the kernel does', () => {
        const map = createPlain(typeName, { valueSize: 12 });
        const value = Uint8Array.from({ length: 12 }, (_, i) => i + 1);
        expect(update(map, u32(3), value)).toBe(0);
        expect(read(lookup(map, u32(3)), 12)).toEqual(value);
        expect(map.updateElem(at(u32(2), 1), valueAt(value), BPF_EXIST)).toBe(0);
        expect(read(map.lookupElem(at(u32(2), 1)), 12)).toEqual(value);
        expect(update(map, u32(3), value, BPF_NOEXIST)).toBe(-EEXIST);
        expect(update(map, u32(4), value)).toBe(-E2BIG);
        expect(update(map, u32(0), value, 3)).toBe(-EINVAL);
        expect(update(map, u32(0), value, 4)).toBe(-EINVAL);
        expect(remove(map, u32(0))).toBe(-EINVAL);
      });

      it('lets checked executors see an overrun into the next element', () => {
        const map = create(plainAttributes(typeName, { valueSize: 12 }), 'rxcnt');
        const address = lookup(map, u32(1));
        expect(runtime.space.accessFault(address, 12, true)).toBeUndefined();
        expect(runtime.space.accessFault(address + 8, 8, true)).toMatch(
          /element 1 of the value of map rxcnt/,
        );
        expect(runtime.space.accessFault(address + 12, 1, false)).toBeDefined();
      });

      it('is read-only for programs under BPF_F_RDONLY_PROG', () => {
        const map = createPlain(typeName, { flags: BPF_F_RDONLY_PROG });
        const address = lookup(map, u32(0));
        expect(runtime.space.accessFault(address, 4, false)).toBeUndefined();
        expect(runtime.space.accessFault(address, 4, true)).toMatch(/read-only/);
      });
    });

    describeTypes(['BPF_MAP_TYPE_ARRAY'], (typeName) => {
      it('has a direct value only when it has one element', () => {
        const map = createPlain(typeName, { maxEntries: 1, valueSize: 24 });
        expect(map.directValueAddress(0)).toBe(lookup(map, u32(0)));
        expect(map.directValueAddress(20)).toBe(lookup(map, u32(0)) + 20);
        expect(map.directValueAddress(24)).toBe(0);
        expect(createPlain(typeName).directValueAddress(0)).toBe(0);
      });
    });

    describeTypes(
      ['BPF_MAP_TYPE_PERCPU_ARRAY', 'BPF_MAP_TYPE_PERCPU_HASH', 'BPF_MAP_TYPE_LRU_PERCPU_HASH'],
      (typeName) => {
        it('gives each CPU its value, and bpf(2) all of them', () => {
          const map = createPlain(typeName);
          map.update(u32(1), new Uint8Array(map.syscallValueSize).fill(9), 0n);
          for (let cpu = 0; cpu < 2; cpu++) {
            runtime.state.cpu = cpu;
            expect(update(map, u32(1), u32(100 + cpu), BPF_EXIST)).toBe(0);
            expect(read(lookup(map, u32(1)), 4)).toEqual(u32(100 + cpu));
          }
          const all = map.lookup(u32(1)) as Uint8Array;
          expect([all.slice(0, 4), all.slice(8, 12)]).toEqual([u32(100), u32(101)]);
          runtime.state.cpu = 0;
          expect(map.lookupPercpuElem!(at(u32(1)), 1) - lookup(map, u32(1))).toBe(
            map.layout.kind === 'hash' || map.layout.kind === 'array' ? map.layout.cpuStride : NaN,
          );
          expect(map.lookupPercpuElem!(at(u32(1)), 2)).toBe(0);
          expect(map.lookupPercpuElem!(at(u32(77)), 0)).toBe(0);
          expect(runtime.space.accessFault(lookup(map, u32(1)), 8, false)).toMatch(/overruns/);
        });
      },
    );

    describeTypes(['BPF_MAP_TYPE_PERCPU_HASH', 'BPF_MAP_TYPE_LRU_PERCPU_HASH'], (typeName) => {
      it('zeroes the values of other CPUs when a program inserts', () => {
        const map = createPlain(typeName, { maxEntries: 1 });
        map.update(u32(1), new Uint8Array(map.syscallValueSize).fill(9), 0n);
        map.delete(u32(1));
        runtime.state.cpu = 1;
        expect(update(map, u32(2), u32(5))).toBe(0);
        const all = map.lookup(u32(2)) as Uint8Array;
        expect([all.slice(0, 4), all.slice(8, 12)]).toEqual([u32(0), u32(5)]);
      });
    });

    describeTypes(HASHES, (typeName) => {
      /** Walks the memory by the documented layout, as compiled code does. */
      function lookupByLayout(map: ResidentMap, key: Uint8Array): number {
        const layout = map.layout;
        if (layout.kind !== 'hash') throw new Error(`layout is ${layout.kind}`);
        const { view, u8 } = runtime.space;
        const hash = hashKey(key, 0, layout.keySize, layout.seed);
        let element = view.getUint32(layout.buckets + 4 * (hash & (layout.bucketCount - 1)), true);
        while (element !== 0) {
          const start = element + HASH_ELEMENT_KEY;
          if (
            view.getInt32(element + 4, true) === hash &&
            Buffer.compare(u8.subarray(start, start + layout.keySize), key) === 0
          ) {
            return element + layout.valueOffset + runtime.state.cpu * layout.cpuStride;
          }
          element = view.getUint32(element, true);
        }
        return 0;
      }

      it('lies as its layout says, for keys of any size and alignment', () => {
        for (const keySize of [1, 2, 4, 6, 8, 13, 40]) {
          const map = createPlain(typeName, { keySize, maxEntries: 64 });
          const keys = Array.from({ length: 64 }, (_, i) => {
            const key = new Uint8Array(keySize).fill(i);
            key[0] = i;
            return key;
          });
          keys.forEach((key, i) => expect(map.updateElem(at(key, i & 3), valueAt(u32(i)), 0)).toBe(0));
          keys.forEach((key, i) => {
            const address = map.lookupElem(at(key, (i + 1) & 3));
            expect(address).not.toBe(0);
            expect(address % 8).toBe(0);
            expect(address).toBe(lookupByLayout(map, key));
            expect(read(address, 4)).toEqual(u32(i));
            const value = map.lookup(key) as Uint8Array;
            expect(value.slice(0, 4)).toEqual(u32(i));
          });
          map.close();
        }
      });

      it('is changed by a program as the kernel does', () => {
        const map = createPlain(typeName);
        expect(lookup(map, u32(1))).toBe(0);
        expect(remove(map, u32(1))).toBe(-ENOENT);
        expect(update(map, u32(1), u32(10), BPF_EXIST)).toBe(-ENOENT);
        expect(update(map, u32(1), u32(10), BPF_NOEXIST)).toBe(0);
        expect(update(map, u32(1), u32(11), BPF_NOEXIST)).toBe(-EEXIST);
        expect(update(map, u32(1), u32(12), BPF_EXIST)).toBe(0);
        expect(read(lookup(map, u32(1)), 4)).toEqual(u32(12));
        expect(update(map, u32(1), u32(12), 4)).toBe(-EINVAL);
        expect(remove(map, u32(1))).toBe(0);
        expect(lookup(map, u32(1))).toBe(0);
        for (let i = 0; i < 4; i++) expect(update(map, u32(i), u32(i))).toBe(0);
        if (!typeName.includes('LRU')) expect(update(map, u32(9), u32(9))).toBe(-E2BIG);
      });

      it('never moves a value', () => {
        const map = createPlain(typeName, { maxEntries: 128 });
        const addresses = new Map<number, number>();
        for (let i = 0; i < 64; i++) {
          update(map, u32(i), u32(i));
          addresses.set(i, lookup(map, u32(i)));
        }
        for (let i = 64; i < 128; i++) update(map, u32(i), u32(i));
        for (let i = 0; i < 128; i += 2) update(map, u32(i), u32(i + 1));
        for (let i = 1; i < 128; i += 2) remove(map, u32(i));
        for (let i = 0; i < 64; i += 2) expect(lookup(map, u32(i))).toBe(addresses.get(i));
      });

      it('keeps the value of a deleted element until an insert takes its place', () => {
        const map = createPlain(typeName, { maxEntries: 1 });
        update(map, u32(1), u32(77));
        const address = lookup(map, u32(1));
        remove(map, u32(1));
        expect(read(address, 4)).toEqual(u32(77));
        update(map, u32(2), u32(78));
        expect(lookup(map, u32(2))).toBe(address);
      });

      it('lets checked executors see an access beside the value', () => {
        const map = create(plainAttributes(typeName, { valueSize: 12 }), 'flows');
        update(map, u32(1), new Uint8Array(12));
        const address = lookup(map, u32(1));
        expect(runtime.space.accessFault(address, 12, true)).toBeUndefined();
        expect(runtime.space.accessFault(address + 8, 8, true)).toMatch(/the value of map flows/);
        expect(runtime.space.accessFault(address - 8, 8, true)).toMatch(/the value of map flows/);
      });

      it('hashes with a seed of its own that the run’s seed decides', () => {
        const other = makeBackend();
        const seeds = [backend, backend, other.backend].map((each) => {
          const { layout } = each.create(plainAttributes(typeName), { name: 'm' }) as ResidentMap;
          return layout.kind === 'hash' ? layout.seed : undefined;
        });
        expect(seeds[0]).not.toBe(seeds[1]);
        expect(seeds[0]).toBe(seeds[2]);
      });
    });

    describeTypes(['BPF_MAP_TYPE_LRU_HASH', 'BPF_MAP_TYPE_LRU_PERCPU_HASH'], (typeName) => {
      it('evicts what no program looked up', () => {
        const map = createPlain(typeName, { maxEntries: 4 });
        for (let i = 0; i < 4; i++) update(map, u32(i), u32(i));
        for (const i of [0, 2, 3]) expect(lookup(map, u32(i))).not.toBe(0);
        // bpf(2) looks without touching.
        expect(map.lookup(u32(1))).not.toBe(-ENOENT);
        expect(update(map, u32(9), u32(9))).toBe(0);
        expect([0, 1, 2, 3, 9].map((i) => map.lookup(u32(i)) !== -ENOENT)).toEqual([
          true,
          false,
          true,
          true,
          true,
        ]);
      });

      it('goes on when everything was looked up', () => {
        const map = createPlain(typeName, { maxEntries: 4 });
        for (let i = 0; i < 100; i++) {
          expect(update(map, u32(i), u32(i))).toBe(0);
          expect(lookup(map, u32(i))).not.toBe(0);
        }
        expect(allKeys(map)).toHaveLength(4);
      });

      it('sets the reference bit where the layout says', () => {
        const map = createPlain(typeName);
        const layout = map.layout;
        if (layout.kind !== 'hash') throw new Error(`layout is ${layout.kind}`);
        update(map, u32(1), u32(1));
        const address = map.lookupPercpuElem?.(at(u32(1)), 0) || lookup(map, u32(1));
        const used = address - layout.valueOffset + layout.usedOffset;
        expect(runtime.space.view.getUint32(used, true)).toBe(1);
      });
    });

    describeTypes(['BPF_MAP_TYPE_LPM_TRIE'], (typeName) => {
      it('serves a program', () => {
        const map = createPlain(typeName);
        expect(update(map, lpmKey(8, 10, 0, 0, 0), u32(8))).toBe(0);
        expect(update(map, lpmKey(24, 10, 1, 2, 0), u32(24), BPF_NOEXIST)).toBe(0);
        const [wide, narrow] = [lookup(map, lpmKey(32, 10, 9, 9, 9)), lookup(map, lpmKey(32, 10, 1, 2, 9))];
        expect([read(wide, 4), read(narrow, 4)]).toEqual([u32(8), u32(24)]);
        expect([wide % 8, narrow % 8]).toEqual([0, 0]);
        expect(runtime.space.accessFault(wide, 4, true)).toBeUndefined();
        expect(runtime.space.accessFault(wide, 8, true)).toMatch(/overruns/);
        expect(lookup(map, lpmKey(33, 10, 0, 0, 0))).toBe(0);
        expect(update(map, lpmKey(33, 10, 0, 0, 0), u32(8))).toBe(-EINVAL);
        expect(remove(map, lpmKey(24, 10, 1, 2, 0))).toBe(0);
        expect(remove(map, lpmKey(24, 10, 1, 2, 0))).toBe(-ENOENT);
        expect(lookup(map, lpmKey(32, 10, 1, 2, 9))).toBe(wide);
        for (let i = 0; i < 3; i++) expect(update(map, lpmKey(24, i, 0, 0, 0), u32(i))).toBe(0);
        expect(update(map, lpmKey(24, 9, 0, 0, 0), u32(9))).toBe(-ENOSPC);
      });
    });

    describeTypes(['BPF_MAP_TYPE_PROG_ARRAY'], (typeName) => {
      it('holds program ids where its layout says', () => {
        const map = createPlain(typeName);
        const layout = map.layout;
        if (layout.kind !== 'slots') throw new Error(`layout is ${layout.kind}`);
        expect(map.programAt!(1)).toBe(0);
        expect(map.setProgram!(1, 42)).toBe(0);
        expect(map.setProgram!(4, 42)).toBe(-E2BIG);
        expect([map.programAt!(1), map.programAt!(4), map.programAt!(0xffff_ffff)]).toEqual([42, 0, 0]);
        expect(runtime.space.view.getUint32(layout.slots + 4, true)).toBe(42);
        expect(map.lookup(u32(1))).toEqual(u32(42));
        expect(map.delete(u32(1))).toBe(0);
        expect(map.programAt!(1)).toBe(0);
        map.freeze();
        expect(map.setProgram!(1, 42)).toBe(-EPERM);
      });
    });

    describeTypes(['BPF_MAP_TYPE_ARRAY_OF_MAPS', 'BPF_MAP_TYPE_HASH_OF_MAPS'], (typeName) => {
      const inner = plainAttributes('BPF_MAP_TYPE_ARRAY');

      it('finds the inner map, as a program does', () => {
        const map = createPlain(typeName);
        const first = create(inner);
        const second = create(inner);
        expect(lookup(map, u32(1))).toBe(0);
        expect(map.setInnerMap!(u32(1), first)).toBe(0);
        expect(map.setInnerMap!(u32(2), second)).toBe(0);
        expect([lookup(map, u32(1)), lookup(map, u32(2))]).toEqual([first.address, second.address]);
        expect(map.setInnerMap!(u32(1), second)).toBe(0);
        expect(lookup(map, u32(1))).toBe(second.address);
        if (map.layout.kind === 'slots') {
          expect(runtime.space.view.getUint32(map.layout.slots + 4, true)).toBe(second.address);
        } else {
          expect(map.layout.kind).toBe('opaque');
        }
        expect(map.delete(u32(1))).toBe(0);
        expect(lookup(map, u32(1))).toBe(0);
        expect(map.delete(u32(1))).toBe(-ENOENT);
      });

      it('takes only what the template allows', () => {
        const map = createPlain(typeName);
        const change = (changes: Partial<MapAttributes>): number =>
          map.setInnerMap!(u32(0), create({ ...inner, ...changes }));
        expect(change({})).toBe(0);
        expect(change({ maxEntries: 5 })).toBe(-EINVAL);
        expect(change({ valueSize: 8 })).toBe(-EINVAL);
        expect(change({ flags: BPF_F_RDONLY_PROG })).toBe(-EINVAL);
        expect(change({ type: T.BPF_MAP_TYPE_PERCPU_ARRAY })).toBe(-EINVAL);
        const hashes = createPlain(typeName, { inner: plainAttributes('BPF_MAP_TYPE_HASH') });
        const bigger = createPlain('BPF_MAP_TYPE_HASH', { maxEntries: 5 });
        expect(hashes.setInnerMap!(u32(0), bigger)).toBe(0);
        const foreign = makeBackend().backend.create(inner, { name: 'foreign' }) as ResidentMap;
        expect(map.setInnerMap!(u32(0), foreign)).toBe(-EINVAL);
      });

      it('keeps an inner map alive until it lets go', () => {
        const before = runtime.space.bytesInUse;
        const map = createPlain(typeName);
        const held = create(inner);
        map.setInnerMap!(u32(0), held);
        map.setInnerMap!(u32(1), held);
        held.close();
        expect(runtime.maps.get(lookup(map, u32(1)))).toBe(held);
        map.delete(u32(0));
        expect(runtime.maps.has(held.address)).toBe(true);
        map.close();
        expect(runtime.maps.has(held.address)).toBe(false);
        expect(runtime.space.bytesInUse).toBe(before);
      });
    });

    describeTypes(['BPF_MAP_TYPE_HASH_OF_MAPS'], (typeName) => {
      it('is full at max_entries', () => {
        const map = createPlain(typeName, { maxEntries: 2 });
        const held = createPlain('BPF_MAP_TYPE_ARRAY');
        const results = [1, 2, 3, 2].map((key) => map.setInnerMap!(u32(key), held));
        expect(results).toEqual([0, 0, -E2BIG, 0]);
      });
    });

    describeTypes(
      ['BPF_MAP_TYPE_DEVMAP', 'BPF_MAP_TYPE_DEVMAP_HASH', 'BPF_MAP_TYPE_CPUMAP', 'BPF_MAP_TYPE_XSKMAP'],
      (typeName) => {
        it('finds an entry by index', () => {
          const map = createPlain(typeName);
          expect(map.lookupIndex!(1)).toBe(0);
          expect(map.update(u32(1), u32(7), 0n)).toBe(0);
          const address = map.lookupIndex!(1);
          expect(address).not.toBe(0);
          expect(lookup(map, u32(1))).toBe(address);
          expect(map.lookupIndex!(2)).toBe(0);
          expect(map.lookupIndex!(0xffff_ffff)).toBe(0);
          expect(runtime.space.accessFault(address, 4, false)).toBeUndefined();
          expect(runtime.space.accessFault(address, 4, true)).toMatch(/read-only/);
          if (typeName !== 'BPF_MAP_TYPE_XSKMAP') expect(read(address, 4)).toEqual(u32(7));
          map.delete(u32(1));
          expect(map.lookupIndex!(1)).toBe(0);
        });
      },
    );

    describeTypes(REDIRECT_ARRAYS, (typeName) => {
      it('has entries where its layout says, and says so of those that are used', () => {
        const map = createPlain(typeName);
        const { layout } = map;
        if (layout.kind !== 'entries') {
          expect(layout.kind).toBe('opaque');
          return;
        }
        const used = (index: number): boolean =>
          runtime.space.view.getUint32(layout.entries + 8 * index + layout.usedOffset, true) !== 0;
        expect(layout.maxEntries).toBe(map.attributes.maxEntries);
        expect([0, 1, 2, 3].map(used)).toEqual([false, false, false, false]);
        // Socket 0 is one; of the others, a device and a queue of one packet.
        const value = u32(typeName === 'BPF_MAP_TYPE_XSKMAP' ? 0 : 1);
        expect(map.update(u32(1), value, 0n)).toBe(0);
        expect([0, 1, 2, 3].map(used)).toEqual([false, true, false, false]);
        expect(map.lookupIndex!(1)).toBe(layout.entries + 8);
        expect(map.delete(u32(1))).toBe(0);
        expect(used(1)).toBe(false);
      });
    });

    describeTypes(['BPF_MAP_TYPE_XSKMAP'], (typeName) => {
      it('shows a program the queue, and follows the flags', () => {
        const map = createPlain(typeName);
        expect(map.update(u32(2), u32(0), BigInt(BPF_EXIST))).toBe(-ENOENT);
        expect(map.update(u32(2), u32(0), BigInt(BPF_NOEXIST))).toBe(0);
        expect(map.update(u32(2), u32(0), BigInt(BPF_NOEXIST))).toBe(-EEXIST);
        expect(read(map.lookupIndex!(2), 4)).toEqual(u32(2));
      });
    });

    describeTypes(['BPF_MAP_TYPE_QUEUE', 'BPF_MAP_TYPE_STACK'], (typeName) => {
      it('serves a program', () => {
        const map = createPlain(typeName, { maxEntries: 2, valueSize: 5 });
        const value = (fill: number): Uint8Array => new Uint8Array(5).fill(fill);
        const push = (fill: number, flags = 0): number => map.pushElem!(valueAt(value(fill)), flags);
        const target = scratch.start + 256;
        runtime.space.u8.fill(0xff, target, target + 8);
        expect(map.popElem!(target)).toBe(-ENOENT);
        expect(read(target, 6)).toEqual(Uint8Array.of(0, 0, 0, 0, 0, 0xff));
        expect([push(1), push(2), push(3), push(3, BPF_NOEXIST), push(3, BPF_EXIST)]).toEqual([
          0,
          0,
          -E2BIG,
          -EINVAL,
          0,
        ]);
        const order = typeName === 'BPF_MAP_TYPE_STACK' ? [3, 2] : [2, 3];
        for (const fill of order) {
          expect(map.peekElem!(target)).toBe(0);
          expect(map.popElem!(target)).toBe(0);
          expect(read(target, 5)).toEqual(value(fill));
        }
        expect(map.peekElem!(target)).toBe(-ENOENT);
      });
    });

    describeTypes(['BPF_MAP_TYPE_RINGBUF'], (typeName) => {
      const text = (records: readonly { data: Uint8Array }[]): string[] =>
        records.map((record) => Buffer.from(record.data).toString());

      function output(map: ResidentMap, data: string): number {
        const address = map.ringReserve!(data.length);
        if (address === 0) return 0;
        runtime.space.write(address, Buffer.from(data));
        map.ringSubmit!(address, 0);
        return address;
      }

      it('hands over what was submitted, in order, up to what is still being written', () => {
        const map = createPlain(typeName);
        runtime.state.cpu = 1;
        output(map, 'one');
        const discarded = map.ringReserve!(100);
        const pending = map.ringReserve!(7);
        output(map, 'three');
        expect(pending % 8).toBe(0);
        expect(map.drainRecords!()).toEqual([{ cpu: 1, lost: 0, data: new Uint8Array(Buffer.from('one')) }]);
        map.ringDiscard!(discarded, 0);
        expect(map.drainRecords!()).toEqual([]);
        runtime.space.write(pending, Buffer.from('two-two'));
        map.ringSubmit!(pending, 0);
        expect(text(map.drainRecords!())).toEqual(['two-two', 'three']);
        expect(map.drainRecords!()).toEqual([]);
      });

      it('holds what the kernel’s holds, and counts what it lost', () => {
        const map = createPlain(typeName);
        expect(map.ringReserve!(4096)).toBe(0);
        expect(map.ringReserve!(4088)).toBe(0);
        expect(map.ringReserve!(0xffff_ffff)).toBe(0);
        // 4096 bytes, of which one stays free: the largest record is 4080 bytes and its header.
        expect(output(map, 'x'.repeat(4080))).not.toBe(0);
        expect(map.ringReserve!(0)).toBe(0);
        expect(map.drainRecords!()).toMatchObject([{ lost: 3 }]);
        expect(output(map, 'y')).not.toBe(0);
        expect(map.drainRecords!()).toMatchObject([{ lost: 1 }]);
      });

      it('keeps records whole where the ring wraps', () => {
        const map = createPlain(typeName);
        let total = 0n;
        for (let round = 0; round < 200; round++) {
          const data = String.fromCharCode(97 + (round % 26)).repeat(1 + ((round * 397) % 1300));
          const address = output(map, data);
          expect(runtime.space.accessFault(address, data.length, true)).toBeUndefined();
          output(map, 'tail');
          expect(text(map.drainRecords!())).toEqual([data, 'tail']);
          total += BigInt(Math.ceil((data.length + 8) / 8) * 8 + 16);
        }
        const [available, size, consumed, produced, unknown] = [0, 1, 2, 3, 4].map((flag) =>
          map.ringQuery!(flag),
        );
        expect([available, size, consumed, produced, unknown]).toEqual([0n, 4096n, total, total, 0n]);
      });

      const waiting = (map: ResidentMap): bigint => map.ringQuery!(0);

      it('hands over as many as there is room for, and leaves the others in the ring', () => {
        const map = createPlain(typeName);
        expect(map.nextRecordBytes!()).toBeUndefined();
        for (const data of ['', 'four', 'eight...', 'no']) output(map, data);
        expect(map.nextRecordBytes!()).toBe(0);
        const room = { records: 99, recordBytes: 12 };
        expect(map.drainRecords!({ ...room, bytes: 11 })).toEqual([]);
        expect(text(map.drainRecords!({ ...room, bytes: 12 + 16 + 19 }))).toEqual(['', 'four']);
        expect([map.nextRecordBytes!(), waiting(map)]).toEqual([8, 16n + 16n]);
        expect(text(map.drainRecords!({ records: 1, recordBytes: 12, bytes: 4096 }))).toEqual(['eight...']);
        expect(text(map.drainRecords!())).toEqual(['no']);
        expect(waiting(map)).toBe(0n);
      });

      it('counts what is skipped as lost, and forgets no loss with what was discarded', () => {
        const map = createPlain(typeName);
        map.skipRecord!();
        output(map, 'a');
        output(map, 'b');
        map.skipRecord!();
        expect(map.nextRecordBytes!()).toBe(1);
        expect(map.drainRecords!()).toMatchObject([{ lost: 1, data: Uint8Array.of(0x62) }]);
        for (let lost = 0; lost < 3; lost++) map.ringReserve!(4096);
        map.ringDiscard!(map.ringReserve!(8), 0);
        output(map, 'c');
        map.skipRecord!();
        map.skipRecord!();
        output(map, 'd');
        expect(map.drainRecords!()).toMatchObject([{ lost: 4, data: Uint8Array.of(0x64) }]);
        for (let lost = 0; lost < 2; lost++) map.ringReserve!(4096);
        map.ringDiscard!(map.ringReserve!(8), 0);
        output(map, 'e');
        expect(map.drainRecords!()).toMatchObject([{ lost: 2, data: Uint8Array.of(0x65) }]);
      });

      it('copies what nobody has read and how much was lost, wherever in the ring that is', () => {
        const [map, copy] = [createPlain(typeName), createPlain(typeName)];
        for (let round = 0; round < 20; round++) {
          const sent = Array.from({ length: 3 }, (_, i) =>
            String.fromCharCode(97 + i).repeat(900 + 17 * round),
          );
          for (const data of sent) expect(output(map, data)).not.toBe(0);
          for (let lost = 0; lost < round; lost++) expect(map.ringReserve!(4000)).toBe(0);
          output(copy, 'is gone');
          expect(copy.copyRecords!(map)).toBe(Number(waiting(map)));
          expect([1, 2, 3].map((flag) => copy.ringQuery!(flag))).toEqual(
            [1, 2, 3].map((flag) => map.ringQuery!(flag)),
          );
          expect(output(copy, 'x')).not.toBe(0);
          const got = copy.drainRecords!();
          expect(text(got)).toEqual([...sent, 'x']);
          expect(got[3]!.lost).toBe(round);
          expect(text(map.drainRecords!())).toEqual(sent);
          output(map, 'y');
          map.drainRecords!();
        }
        expect(copy.copyRecords!(createPlain(typeName, { maxEntries: 8192 }))).toBe(-EOPNOTSUPP);
      });
    });

    describeTypes(['BPF_MAP_TYPE_PERF_EVENT_ARRAY'], (typeName) => {
      const data = Uint8Array.of(1, 2, 3);

      it('takes records on the CPU whose event is open', () => {
        const map = createPlain(typeName);
        expect(map.outputRecord!(0, data)).toBe(-ENOENT);
        expect(map.outputRecord!(4, data)).toBe(-E2BIG);
        for (const cpu of [0, 1]) expect(map.update(u32(cpu), u32(3), 0n)).toBe(0);
        expect(map.outputRecord!(0, data)).toBe(0);
        expect(map.outputRecord!(1, data)).toBe(-EOPNOTSUPP);
        runtime.state.cpu = 1;
        expect(map.outputRecord!(1, Uint8Array.of(9))).toBe(0);
        runtime.state.cpu = 0;
        expect(map.outputRecord!(0, new Uint8Array())).toBe(0);
        expect(map.drainRecords!()).toEqual([
          { cpu: 0, data, lost: 0 },
          { cpu: 1, data: Uint8Array.of(9), lost: 0 },
          { cpu: 0, data: new Uint8Array(), lost: 0 },
        ]);
        expect(map.drainRecords!()).toEqual([]);
        expect(map.delete(u32(0))).toBe(0);
        expect(map.outputRecord!(0, data)).toBe(-ENOENT);
      });

      it('counts what it lost, and keeps records whole where the buffer wraps', () => {
        const map = createPlain(typeName);
        map.update(u32(0), u32(3), 0n);
        let lost = 0;
        for (let round = 0; round < 10; round++) {
          const sent: Uint8Array[] = [];
          for (;;) {
            const record = new Uint8Array(1 + ((round * 7919 + sent.length * 577) % 5000)).fill(sent.length);
            if (map.outputRecord!(0, record) !== 0) break;
            sent.push(record);
          }
          const got = map.drainRecords!();
          expect(got).toHaveLength(sent.length);
          got.forEach((record, i) => expect(Buffer.compare(record.data, sent[i]!)).toBe(0));
          expect(got[0]!.lost).toBe(lost);
          lost = 1;
        }
        expect(map.outputRecord!(0, new Uint8Array(1 << 24))).toBe(-ENOSPC);
      });

      it('hands over as many as there is room for, the oldest of all CPUs first', () => {
        const map = createPlain(typeName);
        for (const cpu of [0, 1]) map.update(u32(cpu), u32(3), 0n);
        for (const cpu of [1, 0, 0, 1]) {
          runtime.state.cpu = cpu;
          map.outputRecord!(cpu, data);
        }
        runtime.state.cpu = 0;
        const room = { records: 99, recordBytes: 12 };
        expect(map.drainRecords!({ ...room, bytes: 44 })).toEqual(
          [1, 0].map((cpu) => ({ cpu, data, lost: 0 })),
        );
        expect(map.nextRecordBytes!()).toBe(3);
        map.skipRecord!();
        map.outputRecord!(0, data);
        expect(map.drainRecords!({ ...room, records: 1, bytes: 99 })).toEqual([{ cpu: 1, data, lost: 0 }]);
        expect(map.drainRecords!()).toEqual([{ cpu: 0, data, lost: 1 }]);
        expect(map.nextRecordBytes!()).toBeUndefined();
      });

      it('has its records in a snapshot', () => {
        const map = createPlain(typeName);
        map.update(u32(0), u32(3), 0n);
        map.outputRecord!(0, data);
        const snapshot = runtime.space.snapshot();
        expect(map.drainRecords!()).toHaveLength(1);
        runtime.space.restore(snapshot);
        expect(map.drainRecords!()).toEqual([{ cpu: 0, data, lost: 0 }]);
      });
    });
  });
}
