import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EEXIST, EINVAL, ENOENT, ENOSPC } from '../../src/bpf/errno.js';
import { BPF_EXIST, BPF_F_NO_PREALLOC, BPF_MAP_TYPE, BPF_NOEXIST } from '../../src/bpf/map-spec.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { allKeys, u32 } from '../../src/conformance/map-backend/map-samples.js';
import { MemoryMapBackend } from './memory-map-backend.js';

describe('LPM_TRIE against a list of prefixes', () => {
  interface Prefix {
    readonly length: number;
    readonly data: readonly [number, number];
  }
  const operation = fc.record({
    kind: fc.constantFrom('lookup', 'update', 'update', 'delete'),
    /** From which side it comes. */
    program: fc.boolean(),
    value: fc.integer({ min: 0, max: 255 }),
    flags: fc.constantFrom(0, 0, 0, BPF_NOEXIST, BPF_EXIST),
  });
  // Few bits vary, so that prefixes nest and fork often.
  const byte = fc.constantFrom(0, 1, 0x80, 0xc0, 0xff);
  const prefix: fc.Arbitrary<Prefix> = fc.record({
    length: fc.integer({ min: 0, max: 17 }),
    data: fc.tuple(byte, byte),
  });
  const bits = ({ data }: Prefix, length: number): string =>
    ((data[0] << 8) | data[1]).toString(2).padStart(16, '0').slice(0, length);
  const keyOf = (each: Prefix): Uint8Array => Uint8Array.of(...u32(each.length), ...each.data);

  it('does the same', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(operation, prefix), { maxLength: 80 }), (operations) => {
        const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
        const attributes = {
          type: BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
          keySize: 6,
          valueSize: 4,
          maxEntries: 12,
          flags: BPF_F_NO_PREALLOC,
        };
        const map = new MemoryMapBackend(runtime).create(attributes, { name: 'm' }) as ResidentMap;
        const stack = runtime.space.allocate(64, {
          kind: 'stack',
          label: 'the stack',
          access: 'read-write',
        }).start;
        const model = new Map<string, number>();
        const at = (key: Uint8Array): number => {
          runtime.space.write(stack + 1, key);
          return stack + 1;
        };
        for (const [{ kind, program, value, flags }, each] of operations) {
          const id = bits(each, each.length);
          const tooLong = each.length > 16;
          const key = keyOf(each);
          if (kind === 'update') {
            runtime.space.write(stack + 32, u32(value));
            const result = program
              ? map.updateElem(at(key), stack + 32, flags)
              : map.update(key, u32(value), BigInt(flags));
            let expected = 0;
            if (tooLong) expected = -EINVAL;
            else if (model.has(id) && flags === BPF_NOEXIST) expected = -EEXIST;
            else if (!model.has(id) && flags === BPF_EXIST) expected = -ENOENT;
            else if (!model.has(id) && model.size === 12) expected = -ENOSPC;
            else model.set(id, value);
            expect(result).toBe(expected);
          } else if (kind === 'delete') {
            const expected = tooLong ? -EINVAL : model.delete(id) ? 0 : -ENOENT;
            expect(program ? map.deleteElem(at(key)) : map.delete(key)).toBe(expected);
          } else {
            let best: number | undefined;
            for (let length = 0; length <= each.length && !tooLong; length++)
              best = model.get(bits(each, length)) ?? best;
            const address = map.lookupElem(at(key));
            expect(address === 0 ? undefined : runtime.space.u8[address]).toBe(best);
            expect(map.lookup(key)).toEqual(best === undefined ? -ENOENT : u32(best));
          }
        }
        const walked = allKeys(map).map((key) =>
          bits({ length: key[0]!, data: [key[4]!, key[5]!] }, key[0]!),
        );
        // Post-order: after everything it is a prefix of, and otherwise by its bits.
        const expected = [...model.keys()].sort((a, b) =>
          a.startsWith(b) ? -1 : b.startsWith(a) ? 1 : a < b ? -1 : 1,
        );
        expect(walked).toEqual(expected);
      }),
      { numRuns: 400 },
    );
  });
});

describe('LPM_TRIE as deep as a key can make it', () => {
  it('compares each byte of a key once on the way down', () => {
    const bits = 512;
    const runtime = new BpfRuntime({ memoryBytes: 4 << 20 });
    const { space } = runtime;
    let reads = 0;
    const u8 = new Proxy(space.u8, {
      get(target, property) {
        reads++;
        const value: unknown = Reflect.get(target, property);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
      set: (target, property, value) => Reflect.set(target, property, value),
    });
    Object.assign(space, { u8 });
    const attributes = {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
      keySize: 4 + bits / 8,
      valueSize: 1,
      maxEntries: bits + 1,
      flags: BPF_F_NO_PREALLOC,
    };
    const map = new MemoryMapBackend(runtime).create(attributes, { name: 'm' }) as ResidentMap;
    const keyOf = (length: number): Uint8Array =>
      Uint8Array.of(...u32(length), ...new Uint8Array(bits / 8).fill(0xff));
    for (let length = 0; length <= bits; length++) {
      expect(map.update(keyOf(length), Uint8Array.of(length & 0xff), 0n)).toBe(0);
    }
    // Each level has a byte that ends in it or goes on, and one bit that says which way.
    const walk = 3 * (bits + 1);
    reads = 0;
    expect(map.lookup(keyOf(bits))).toEqual(Uint8Array.of(bits & 0xff));
    expect(reads).toBeLessThanOrEqual(walk);
    reads = 0;
    const batch = map.lookupBatch(null, 4);
    expect(typeof batch === 'number' || batch.entries.map(({ key }) => key)).toEqual(
      [0, 1, 2, 3].map((less) => keyOf(bits - less)),
    );
    // To the key before, to the one behind it, and to its value.
    expect(reads).toBeLessThanOrEqual(5 * 3 * walk);
  });

  it('has programs charged an insn for each node on the way, and nobody else', () => {
    const bits = 64;
    const runtime = new BpfRuntime({ memoryBytes: 4 << 20 });
    const attributes = {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_LPM_TRIE,
      keySize: 4 + bits / 8,
      valueSize: 1,
      maxEntries: bits + 1,
      flags: BPF_F_NO_PREALLOC,
    };
    const map = new MemoryMapBackend(runtime).create(attributes, { name: 'm' }) as ResidentMap;
    const keyOf = (length: number): Uint8Array => Uint8Array.of(...u32(length), ...new Uint8Array(bits / 8));
    for (let length = 0; length < bits; length++) map.update(keyOf(length), Uint8Array.of(1), 0n);
    map.lookup(keyOf(bits));
    map.lookupBatch(null, 4);
    expect(runtime.owedInsns).toBe(0);

    const { space } = runtime;
    const at = space.allocate(16, { kind: 'stack', label: 'the stack', access: 'read-write' }).start;
    const owed = (length: number, operation: () => unknown): number => {
      space.write(at, keyOf(length));
      operation();
      return runtime.takeOwedInsns();
    };
    // Prefixes of 0 bits to 63 are there: as many nodes are above one of 64.
    expect(owed(bits, () => map.lookupElem(at))).toBe(64);
    expect(owed(10, () => map.lookupElem(at))).toBe(11);
    expect(owed(bits, () => map.updateElem(at, at, 0))).toBe(64);
    expect(owed(bits, () => map.deleteElem(at))).toBe(65);
    expect(owed(bits, () => map.deleteElem(at))).toBe(64);
    // What is refused before it begins is worth nothing, whatever was done before.
    expect(owed(bits + 1, () => map.lookupElem(at))).toBe(0);
    expect(owed(bits + 1, () => map.updateElem(at, at, 0))).toBe(0);
    expect(owed(bits + 1, () => map.deleteElem(at))).toBe(0);
  });
});
