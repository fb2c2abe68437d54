import { describe, expect, it } from 'vitest';
import type { ResidentMap } from './bpf-map.js';
import { RingReservations } from './ring-reservations.js';

function ring(discarded: number[] = []): ResidentMap {
  return { ringDiscard: (record: number) => discarded.push(record) } as unknown as ResidentMap;
}

describe('reservations', () => {
  it('are taken once, each with its map', () => {
    const reservations = new RingReservations();
    const [a, b] = [ring(), ring()];
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
    const reservations = new RingReservations();
    const [a, b] = [ring(), ring()];
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
    const discarded: number[] = [];
    const reservations = new RingReservations();
    const map = ring(discarded);
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
});
