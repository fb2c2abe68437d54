import { describe, expect, it } from 'vitest';
import type { ResidentMap } from './bpf-map.js';
import { AddressSpace } from './address-space.js';
import type { MapLayout } from './map-layout.js';
import { RingReservations } from './ring-reservations.js';
import { RUN_STATE, RunState } from './run-state.js';

/** Reservations of rings at 0x1000 and so on; what is discarded of them, and one that is served by calls only. */
function bench() {
  const maps = new Map<number, ResidentMap>();
  const discarded: number[] = [];
  const state = new RunState(new AddressSpace(1 << 20));
  const ring = (address: number, kind: MapLayout['kind'] = 'ring'): ResidentMap => {
    const map = { address, layout: { kind }, ringDiscard: (record: number) => discarded.push(record) };
    maps.set(address, map as unknown as ResidentMap);
    return maps.get(address)!;
  };
  const reservations = new RingReservations(state, maps);
  return {
    maps,
    discarded,
    state,
    reservations,
    a: ring(0x1000),
    b: ring(0x2000),
    opaque: ring(0x3000, 'opaque'),
  };
}

describe('reservations', () => {
  it('are taken once, each with its map', () => {
    const { reservations, a, b } = bench();
    for (const order of [
      [8, 16, 24],
      [24, 16, 8],
      [16, 8, 24],
    ]) {
      reservations.add(8, a);
      reservations.add(16, b);
      reservations.add(24, a);
      for (const record of order) {
        expect(reservations.take(record)).toBe(record === 16 ? b : a);
        expect(reservations.take(record)).toBeUndefined();
      }
    }
    expect(reservations.take(0)).toBeUndefined();
  });

  it('are of the map that reserved a record last', () => {
    const { reservations, a, b } = bench();
    reservations.add(8, a);
    reservations.add(8, b);
    reservations.add(16, a);
    reservations.add(16, b);
    expect(reservations.take(8)).toBe(b);
    reservations.add(16, a);
    expect(reservations.take(16)).toBe(a);
    expect(reservations.take(16)).toBeUndefined();
  });

  it('are discarded once, or forgotten', () => {
    const { reservations, discarded, a: map } = bench();
    for (const record of [8, 16, 24]) reservations.add(record, map);
    reservations.take(16);
    expect(reservations.records).toEqual([8, 24]);
    reservations.discard();
    reservations.discard();
    expect(discarded.sort((x, y) => x - y)).toEqual([8, 24]);
    reservations.add(8, map);
    reservations.add(16, map);
    reservations.clear();
    reservations.discard();
    expect(discarded).toHaveLength(2);
    expect(reservations.take(8)).toBeUndefined();
  });

  it('are where compiled code looks, if there is one, of a ring whose layout it knows', () => {
    const { reservations, state, a, opaque } = bench();
    const words = (): number[] => {
      const at = (state.address + RUN_STATE.reservedMap) >> 2;
      return [...state.space.i32.subarray(at, at + 3)];
    };
    reservations.add(8, a);
    expect(words()).toEqual([0x1000, 8, 0]);
    reservations.add(16, a);
    expect(words()).toEqual([0x1000, 8, 1]);
    reservations.take(8);
    expect(words()).toEqual([0x1000, 0, 1]);
    reservations.add(24, a);
    expect(words()).toEqual([0x1000, 0, 2]);
    reservations.clear();
    reservations.add(8, opaque);
    expect(words()).toEqual([0x1000, 0, 1]);
    expect(reservations.take(8)).toBe(opaque);
    reservations.add(8, a);
    reservations.add(8, opaque);
    expect(words()).toEqual([0x1000, 0, 1]);
    expect(reservations.take(8)).toBe(opaque);
    expect(reservations.take(8)).toBeUndefined();
  });

  it('of a map that is gone are none', () => {
    const { reservations, maps, discarded, a } = bench();
    reservations.add(8, a);
    maps.delete(a.address);
    reservations.discard();
    reservations.add(8, a);
    expect(reservations.take(8)).toBeUndefined();
    expect(discarded).toEqual([]);
  });
});
