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
