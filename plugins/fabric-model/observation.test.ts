import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LatencyHistogram } from './latency-histogram.js';
import { FrameAccount } from './frame-accounting.js';
import { NicQueue, type WireStream, type WireTraffic } from './nic-queue.js';
import { QueueDepth } from './queue-depth.js';

describe('LatencyHistogram', () => {
  it('knows percentiles to a sixty-fourth, and the maximum exactly', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 0, max: 2 ** 44 }), { minLength: 1, maxLength: 300 }),
        fc.constantFrom(0.5, 0.9, 0.99, 1),
        (values, part) => {
          const histogram = new LatencyHistogram();
          for (const value of values) histogram.add(value);
          const sorted = [...values].sort((a, b) => a - b);
          const exact = sorted[Math.ceil(values.length * part) - 1]!;
          const found = histogram.percentile(part);
          expect(found).toBeGreaterThanOrEqual(exact);
          expect(found).toBeLessThanOrEqual(exact * (1 + 1 / 64) + 1);
          expect(histogram.max).toBe(sorted.at(-1));
        },
      ),
    );
  });
});

describe('QueueDepth', () => {
  it('averages over time, and has the most of each stretch', () => {
    const depth = QueueDepth.over(1000, 400, 2);
    depth.note(1100, 6);
    depth.note(1300, 0);
    const { mean, course } = depth.result(1400);
    // 100 · 2 + 200 · 6 + 100 · 0
    expect(mean).toBe(3.5);
    expect(depth.max).toBe(6);
    expect([course[0], course[9], course[10], course[20], course[29], course[31], course[39]]).toEqual([
      2, 2, 6, 6, 6, 0, 0,
    ]);
  });
});

describe('NicQueue', () => {
  const frame = (byte: number): Uint8Array => Uint8Array.of(byte);
  const stream = (): WireStream => ({ account: new FrameAccount(), arrived: 0, lost: 0 });
  const of = (one: WireStream, other = one): WireTraffic => ({
    frames: [
      { bytes: frame(1), offset: 0, stream: one },
      { bytes: frame(2), offset: 10, stream: other },
    ],
    period: 20,
  });

  it('gives frames in the order in which they arrive, each at its time, round after round', () => {
    const all = stream();
    const queue = new NicQueue(8, of(all), 100);
    expect(queue.nextAt).toBe(100);
    expect(queue.take(99)).toBeUndefined();
    const taken = [queue.take(130), queue.take(130), queue.take(130), queue.take(130)];
    expect(taken.map((received) => [received!.bytes[0], received!.arrived])).toEqual([
      [1, 100],
      [2, 110],
      [1, 120],
      [2, 130],
    ]);
    expect(queue.take(139)).toBeUndefined();
    expect([all.arrived, all.lost, queue.nextAt]).toEqual([4, 0, 140]);
  });

  it('loses what comes when it is full, and no more once it is silent', () => {
    const all = stream();
    const queue = new NicQueue(2, of(all), 0);
    // 0, 10 | 20, 30, 40: two find room.
    expect(queue.take(45)!.arrived).toBe(0);
    expect([all.arrived, all.lost, queue.length]).toEqual([5, 3, 1]);
    // 50 finds the room of the one that was taken.
    expect(queue.take(50)!.arrived).toBe(10);
    queue.stop(55);
    expect(queue.take(1000)!.arrived).toBe(50);
    expect(queue.take(1000)).toBeUndefined();
    expect([all.arrived, all.lost, queue.nextAt]).toEqual([6, 3, Infinity]);
  });

  it('counts for each stream by itself', () => {
    const [one, other] = [stream(), stream()];
    const queue = new NicQueue(3, of(one, other), 0);
    // 0, 10, 20 | 30, 40, 50
    expect([0, 1, 2].map(() => queue.take(50)!.account)).toEqual([one.account, other.account, one.account]);
    expect([one, other].map(({ arrived, lost }) => [arrived, lost])).toEqual([
      [3, 1],
      [3, 2],
    ]);
  });
});
