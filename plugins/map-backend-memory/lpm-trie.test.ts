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
