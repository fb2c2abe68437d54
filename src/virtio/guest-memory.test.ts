import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FreshPiece } from '../core/fresh-bytes.js';
import { GuestAllocator, GuestMemory } from './guest-memory.js';

describe('GuestMemory', () => {
  it('contains exactly the ranges within it, for any 64-bit address', () => {
    const memory = new GuestMemory(100, 1000);
    const address = fc.oneof(
      fc.bigInt({ min: 980n, max: 1120n }),
      fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
      fc.bigInt({ min: (1n << 53n) - 4n, max: (1n << 53n) + 2000n }),
      fc.bigInt({ min: (1n << 64n) - 200n, max: (1n << 64n) - 1n }),
    );
    const length = fc.oneof(fc.nat(120), fc.nat(0xffffffff));
    fc.assert(
      fc.property(address, length, (start, bytes) => {
        const inside = start >= 1000n && start + BigInt(bytes) <= 1100n;
        expect(memory.contains(start, bytes)).toBe(inside);
        expect(memory.contains(Number(start), bytes)).toBe(inside);
        expect(memory.read(start, Math.min(bytes, 200)) !== undefined).toBe(
          start >= 1000n && start + BigInt(Math.min(bytes, 200)) <= 1100n,
        );
      }),
      { numRuns: 500 },
    );
  });

  it('copies exactly the bytes that are asked for, few or many, and only to where they are to go', () => {
    const backing = Uint8Array.from({ length: 200 }, (_, index) => index + 1);
    fc.assert(
      fc.property(fc.nat(100), fc.nat(100), fc.nat(20), fc.nat(20), (from, length, at, behind) => {
        const memory = new GuestMemory(backing.slice(), 1000);
        const reads: [number, number][] = [];
        memory.afterRead = (address, bytes) => reads.push([address, bytes]);
        const target = new Uint8Array(at + length + behind);
        expect(memory.readInto(1000 + from, target, at, length)).toBe(true);
        const expected = [...backing.slice(from, from + length)];
        expect([...target]).toEqual([...new Uint8Array(at), ...expected, ...new Uint8Array(behind)]);
        expect(reads).toEqual([[1000 + from, length]]);
      }),
      { numRuns: 500 },
    );
  });

  it.each([0, 1, 4])(
    'copies into a piece likewise, its own bytes beginning at byte %i of a buffer',
    (begin) => {
      const backing = Uint8Array.from({ length: 1200 }, (_, index) => index % 251);
      const memory = new GuestMemory(backing.subarray(begin), 1000);
      let reads = 0;
      memory.afterRead = () => reads++;
      for (const [from, length, at] of [
        [0, 72, 0],
        [1, 72, 0],
        [64, 72, 1],
        [8, 255, 4],
        [3, 1024, 8],
      ] as const) {
        const piece = new FreshPiece(at + length + 5);
        expect(memory.readPiece(1000 + from, piece, at, length)).toBe(true);
        const expected = [...backing.subarray(begin + from, begin + from + length)];
        expect([...piece.from(0)]).toEqual([...new Uint8Array(at), ...expected, 0, 0, 0, 0, 0]);
      }
      expect(reads).toBe(5);
      const piece = new FreshPiece(16);
      const end = memory.base + memory.size;
      for (const [address, at, length] of [
        [end - 15, 0, 16],
        [999, 0, 4],
        [1000, 1, 16],
        [1000, -1, 4],
        [1000, 0, -1],
      ] as const) {
        expect(memory.readPiece(address, piece, at, length)).toBe(false);
      }
      expect(piece.from(0).every((byte) => byte === 0)).toBe(true);
      expect(reads).toBe(5);
    },
  );

  it.each([NaN, Infinity, -1, 1000.5, -0.5])('does not contain %s', (value) => {
    const memory = new GuestMemory(100, 1000);
    expect(memory.contains(value, 1)).toBe(false);
    expect(memory.contains(1000, value)).toBe(false);
    expect(memory.write(value, Uint8Array.of(1))).toBe(false);
  });

  it('copies, and writes all or nothing', () => {
    const memory = new GuestMemory(8);
    const bytes = Uint8Array.of(1, 2, 3);
    expect(memory.write(5, bytes)).toBe(true);
    bytes[0] = 9;
    const copy = memory.read(4, 4)!;
    expect([...copy]).toEqual([0, 1, 2, 3]);
    copy.fill(7);
    expect([...memory.read(4, 4)!]).toEqual([0, 1, 2, 3]);
    expect(memory.write(6, bytes)).toBe(false);
    expect(memory.fill(6, 3, 9)).toBe(false);
    expect([...memory.read(0, 8)!]).toEqual([0, 0, 0, 0, 0, 1, 2, 3]);
    const target = new Uint8Array(9).fill(5);
    expect(memory.readInto(0, target)).toBe(false);
    expect(target.every((byte) => byte === 5)).toBe(true);
  });

  it('copies out of a Buffer too, whose slice() would alias', () => {
    const memory = new GuestMemory(Buffer.from([1, 2, 3, 4]));
    memory.read(0, 4)!.fill(0);
    expect([...memory.read(0, 4)!]).toEqual([1, 2, 3, 4]);
  });

  it('opens windows that end where they should', () => {
    const outer = new Uint8Array(16);
    const memory = new GuestMemory(outer.subarray(4, 12), 100);
    const window = memory.window(102, 4)!;
    window.setUint32(0, 0x04030201, true);
    expect([...outer]).toEqual([0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0]);
    expect(() => window.setUint8(4, 1)).toThrow(RangeError);
    expect(memory.window(105, 4)).toBeUndefined();
  });

  it('has to end below 2^53', () => {
    expect(() => new GuestMemory(16, Number.MAX_SAFE_INTEGER - 8)).toThrow(
      expect.objectContaining({ code: 'virtio-violation' }),
    );
  });
});

describe('GuestAllocator', () => {
  it('never hands out a byte twice, and merges everything back', () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.record({ allocate: fc.nat(300) }), fc.record({ free: fc.nat(20) })), {
          maxLength: 80,
        }),
        (steps) => {
          const allocator = new GuestAllocator(new GuestMemory(4096, 1000), undefined, 32);
          const total = allocator.freeBytes;
          const held: { address: number; length: number }[] = [];
          for (const action of steps) {
            if ('allocate' in action) {
              const address = allocator.allocate(action.allocate);
              if (address === undefined) continue;
              expect(address % 32).toBe(0);
              expect(address).toBeGreaterThanOrEqual(1000);
              expect(address + action.allocate).toBeLessThanOrEqual(5096);
              for (const other of held) {
                expect(
                  address >= other.address + other.length || other.address >= address + action.allocate,
                ).toBe(true);
              }
              held.push({ address, length: Math.max(1, action.allocate) });
            } else {
              const [piece] = held.splice(action.free, 1);
              if (piece !== undefined) allocator.free(piece.address);
            }
            expect(allocator.freeBytes + allocator.allocatedBytes).toBe(total);
          }
          for (const piece of held) allocator.free(piece.address);
          // One piece again, whatever the order of the frees was.
          expect(allocator.allocate(total)).toBeDefined();
        },
      ),
      { numRuns: 200 },
    );
  });

  it('refuses to free what it did not hand out, or twice', () => {
    const allocator = new GuestAllocator(new GuestMemory(1024));
    const address = allocator.allocate(10)!;
    allocator.free(address);
    expect(() => allocator.free(address)).toThrow('no buffer is allocated at 0x0');
    const [first, second] = [allocator.allocate(100)!, allocator.allocate(10)!];
    // Inside a piece, in its second unit, before and behind all that there is.
    for (const other of [first + 1, first + 64, -64, 1024, second + 64]) {
      expect(() => allocator.free(other)).toThrow('no buffer is allocated');
    }
    expect(allocator.save()).toEqual([
      [first, 128],
      [second, 64],
    ]);
    expect(() => new GuestAllocator(new GuestMemory(10), { address: 0, length: 11 })).toThrow('not in guest');
    expect(() => new GuestAllocator(new GuestMemory(10), undefined, 24)).toThrow('power of two');
    expect(new GuestAllocator(new GuestMemory(10)).allocate(1)).toBeUndefined();
  });
});
