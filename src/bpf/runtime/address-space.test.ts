import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { XdpbedError } from '../../core/diagnostic.js';
import {
  ALIGNMENT,
  AddressSpace,
  MAX_ADDRESS_SPACE,
  WASM_PAGE,
  allocationSize,
  type Region,
  type RegionDescription,
} from './address-space.js';

const scratch: RegionDescription = { kind: 'scratch', label: 'a thing', access: 'read-write' };

describe('AddressSpace', () => {
  it('is a memory of fixed size in whole pages', () => {
    const space = new AddressSpace(3 * WASM_PAGE - 1);
    expect(space.byteLength).toBe(3 * WASM_PAGE);
    expect(() => space.memory.grow(1)).toThrow(RangeError);
    expect(new AddressSpace(0).byteLength).toBe(2 * WASM_PAGE);
  });

  it('never places anything in the NULL page, and aligns to 16', () => {
    const space = new AddressSpace(WASM_PAGE * 2);
    const starts = [1, 17, 0, 16].map((size) => space.allocate(size, scratch).start - WASM_PAGE);
    expect(starts).toEqual([0, 16, 48, 64]);
    expect(space.bytesInUse).toBe(80);
    expect([0, 1, 16, 17].map(allocationSize)).toEqual([16, 16, 16, 32]);
  });

  it('zeroes what it hands out again', () => {
    const space = new AddressSpace(WASM_PAGE * 2);
    const first = space.allocate(20, scratch);
    space.u8.fill(0xff, first.start, first.start + 32);
    space.free(first);
    const second = space.allocate(32, scratch);
    expect(second.start).toBe(first.start);
    expect(space.read(second.start, 32)).toEqual(new Uint8Array(32));
  });

  it('zeroes what a big object left behind, wherever it wrote', () => {
    const space = new AddressSpace(WASM_PAGE * 16);
    const first = space.allocate(WASM_PAGE * 5 + 16, scratch);
    const written = [0, 1, WASM_PAGE - 1, 3 * WASM_PAGE + 7, first.size - 1];
    for (const offset of written) space.u8[first.start + offset] = 0xff;
    space.free(first);
    // Beyond the first one lies memory that was never used.
    const second = space.allocate(WASM_PAGE * 7, scratch);
    expect(second.start).toBe(first.start);
    expect(space.read(second.start, second.size).every((byte) => byte === 0)).toBe(true);
  });

  it('zeroes piece by piece what big objects left behind, and nothing of those that came after', () => {
    const space = new AddressSpace(WASM_PAGE * 16);
    const big = [5, 3, 4].map((pages) => space.allocate(WASM_PAGE * pages, scratch));
    const filled = (byte: number) => space.u8.subarray(WASM_PAGE, 13 * WASM_PAGE).every((b) => b === byte);
    space.u8.fill(0xff, WASM_PAGE, 13 * WASM_PAGE);
    for (const region of big) space.free(region);
    expect(filled(0xff)).toBe(true);
    // 12 pages in pieces of three.
    expect([1, 2, 3, 4, 5].map(() => space.tidy(3 * WASM_PAGE))).toEqual([true, true, true, false, false]);
    expect(filled(0)).toBe(true);

    const [first, , third] = [2, 3, 2].map((pages) => space.allocate(WASM_PAGE * pages + 16, scratch));
    space.u8.fill(0xff, first!.start, third!.start + third!.size);
    space.free(first!);
    space.free(third!);
    const later = space.allocate(100, scratch);
    space.u8.fill(0xee, later.start, later.start + 100);
    while (space.tidy(WASM_PAGE));
    const kept = space.u8.filter((byte) => byte !== 0);
    expect([...kept].sort()).toEqual([
      ...new Array<number>(100).fill(0xee),
      ...new Array<number>(3 * WASM_PAGE + 16).fill(0xff),
    ]);
    expect(space.read(later.start, 100).every((byte) => byte === 0xee)).toBe(true);
  });

  it('has a size that 31 bits address', () => {
    expect(() => new AddressSpace(MAX_ADDRESS_SPACE + 1)).toThrow(RangeError);
    const space = new AddressSpace(MAX_ADDRESS_SPACE);
    const last = space.allocate(space.byteLength - WASM_PAGE, scratch);
    expect(last.start + last.size).toBe(2 ** 31);
  });

  it('throws out-of-memory for what does not fit, and is none the worse', () => {
    const space = new AddressSpace(WASM_PAGE * 2);
    for (const size of [WASM_PAGE + 1, 2 ** 53, 2 ** 63, Infinity, NaN, -1, 1.5]) {
      expect(() => space.allocate(size, scratch)).toThrow(XdpbedError);
    }
    expect(() => space.allocate(WASM_PAGE + 1, scratch)).toThrow(
      '65537 bytes for a thing exceed the 65536 bytes left of the address space',
    );
    expect(space.bytesInUse).toBe(0);
    expect(space.allocate(WASM_PAGE, scratch).size).toBe(WASM_PAGE);
  });

  it('refuses to free what is not live', () => {
    const space = new AddressSpace();
    const region = space.allocate(8, scratch);
    space.free(region);
    expect(() => space.free(region)).toThrow('a thing is not a live region');
  });

  it('keeps regions apart and joins what is freed, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(600), fc.nat()), { maxLength: 80 }), (steps) => {
        const space = new AddressSpace(WASM_PAGE * 2);
        const live: Region[] = [];
        for (const [size, pick] of steps) {
          if (live.length > 0 && pick % 3 === 0) space.free(live.splice(pick % live.length, 1)[0]!);
          else live.push(space.allocate(size, scratch));
          const ordered = [...space.regions];
          expect(ordered).toHaveLength(live.length);
          ordered.forEach((region, i) => {
            expect(region.start % ALIGNMENT).toBe(0);
            expect(region.start + region.size).toBeLessThanOrEqual(ordered[i + 1]?.start ?? space.byteLength);
          });
          expect(space.bytesInUse).toBe(live.reduce((sum, region) => sum + allocationSize(region.size), 0));
        }
        for (const region of live) space.free(region);
        expect(space.allocate(WASM_PAGE, scratch).start).toBe(WASM_PAGE);
      }),
      { numRuns: 100 },
    );
  });

  it('finds the region of an address', () => {
    const space = new AddressSpace();
    const a = space.allocate(10, scratch);
    const b = space.allocate(10, scratch);
    expect([a.start, a.start + 9, b.start].map((at) => space.regionAt(at))).toEqual([a, a, b]);
    expect([0, a.start - 1, a.start + 10, b.start + 10].map((at) => space.regionAt(at))).toEqual(
      Array(4).fill(undefined),
    );
  });

  it('puts back what a snapshot holds', () => {
    const space = new AddressSpace();
    const a = space.allocate(4, scratch);
    space.write(a.start, Uint8Array.of(1, 2, 3, 4));
    const snapshot = space.snapshot();
    space.write(a.start, Uint8Array.of(9, 9, 9, 9));
    space.restore(snapshot);
    expect(space.read(a.start, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
  });

  it('puts back a big object by its pages, what was zero and what was not, more than once', () => {
    const space = new AddressSpace();
    const size = 3 * WASM_PAGE + 5;
    const big = space.allocate(size, scratch);
    const [first, last] = [big.start, big.start + size - 1];
    space.u8[last] = 7;
    const snapshot = space.snapshot();
    for (let round = 0; round < 2; round++) {
      for (const at of [first, first + WASM_PAGE, last]) space.u8[at] = 9;
      space.restore(snapshot);
      const left = space.read(first, size);
      expect([left.lastIndexOf(7), left.filter((byte) => byte !== 0).length]).toEqual([size - 1, 1]);
    }
    // Three pages of zeros are one.
    expect(new Set(snapshot.map(({ bytes }) => bytes.buffer)).size).toBe(2);
  });
});

describe('accessFault', () => {
  const space = new AddressSpace();
  const plain = space.allocate(20, scratch);
  const constant = space.allocate(8, { ...scratch, label: 'a constant', access: 'read' });
  const hidden = space.allocate(8, { ...scratch, label: 'a map', access: 'none' });
  const array = space.allocate(64, {
    kind: 'map-element',
    label: 'the value of map m',
    access: 'read-write',
    elements: { first: 4, stride: 16, size: 12, count: 3 },
  });
  const perCpu = space.allocate(96, {
    kind: 'map-element',
    label: 'the value of map p',
    access: 'read-write',
    elements: { first: 8, stride: 32, size: 16, count: 3, lane: { stride: 8, size: 4 } },
  });

  it('allows what lies within one object', () => {
    expect(space.accessFault(plain.start, 20, true)).toBeUndefined();
    expect(space.accessFault(constant.start, 8, false)).toBeUndefined();
    expect(space.accessFault(array.start + 4 + 16, 12, true)).toBeUndefined();
    expect(space.accessFault(perCpu.start + 8 + 32 + 8, 4, true)).toBeUndefined();
  });

  it('names what went wrong', () => {
    const fault = (address: number, size: number, write = false): string | undefined =>
      space.accessFault(address, size, write);
    expect(fault(0, 1)).toBe('null pointer dereference at 0x0');
    expect(fault(WASM_PAGE - 1, 1)).toMatch(/null pointer/);
    expect(fault(perCpu.start + 4096, 1)).toMatch(/belongs to no object/);
    expect(fault(0xffff_ffff, 8)).toBe('0xffffffff belongs to no object');
    expect(fault(plain.start + 16, 8)).toBe('read of 8 bytes at offset 16 overruns a thing (20 bytes)');
    expect(fault(constant.start, 4, true)).toBe('write to read-only a constant');
    expect(fault(hidden.start, 4)).toBe('a map is not accessible to a program');
    expect(fault(hidden.start, 4, true)).toBe('a map is not accessible to a program');
  });

  it('keeps within one element', () => {
    const fault = (offset: number, size: number): string | undefined =>
      space.accessFault(array.start + offset, size, true);
    expect(fault(4 + 16 + 8, 8)).toBe(
      'write of 8 bytes at offset 8 overruns the 12-byte element 1 of the value of map m',
    );
    expect(fault(0, 4)).toMatch(/element -1/);
    expect(fault(4 + 12, 1)).toMatch(/element 0/);
    expect(fault(4 + 48, 1)).toMatch(/element 3/);
  });

  it('keeps within one CPU’s value', () => {
    const fault = (offset: number, size: number): string | undefined =>
      space.accessFault(perCpu.start + offset, size, false);
    expect(fault(8 + 32 + 8, 8)).toBe(
      'read of 8 bytes at offset 0 overruns the 4-byte value of CPU 1 in element 1 of the value of map p',
    );
    expect(fault(8 + 4, 1)).toMatch(/value of CPU 0/);
    expect(fault(8 + 16, 1)).toMatch(/16-byte element 0/);
  });
  it('is bounded by the object, the element or the CPU’s value that it falls into', () => {
    const bounds = (address: number, within: Region): number[] => {
      const { start, end } = space.boundsAt(address);
      return [start - within.start, end - within.start];
    };
    expect(bounds(plain.start + 7, plain)).toEqual([0, 20]);
    expect(bounds(array.start + 4 + 16 + 3, array)).toEqual([20, 32]);
    expect(bounds(perCpu.start + 8 + 32 + 8 + 1, perCpu)).toEqual([48, 52]);
  });
});

describe('who remembers objects', () => {
  it('is told of each that is removed, until it has enough', () => {
    const space = new AddressSpace(WASM_PAGE * 2);
    const told: Region[] = [];
    const stop = space.onRelease((region) => told.push(region));
    const [one, two] = [space.allocate(8, scratch), space.allocate(8, scratch)];
    space.free(one);
    expect(told).toEqual([one]);
    stop();
    space.free(two);
    expect(told).toEqual([one]);
  });
});
