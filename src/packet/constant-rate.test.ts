import { expect, it } from 'vitest';
import { sendTime } from './constant-rate.js';

it('sends a rate that picoseconds do not divide evenly, without drifting', () => {
  // Line rate of 10G Ethernet for 64-byte frames: 67.2 ns each.
  expect(sendTime(1, 14_880_952)).toBe(67_200);
  expect([0, 1, 2, 3].map((index) => sendTime(index, 3))).toEqual([
    0, 333_333_333_333, 666_666_666_666, 1_000_000_000_000,
  ]);
  expect(sendTime(3_000_000, 3)).toBe(1_000_000 * 1e12);
});

it.each([1, 3, 7, 999_983, 14_880_952, 999_999_937, 1_000_000_000])(
  'is exact at %i frames per second',
  (rate) => {
    for (const step of [1, 2, 10, 9_999, 1_000_003]) {
      for (let index = 0; index < 20_000 * step; index += 97 * step) {
        expect(sendTime(index, rate)).toBe(Number((BigInt(index) * 10n ** 12n) / BigInt(rate)));
      }
    }
  },
);
