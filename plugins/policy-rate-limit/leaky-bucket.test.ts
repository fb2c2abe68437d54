import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../src/conformance/verifier/index.js';
import { LeakyBucket } from './leaky-bucket.js';

const SECOND = 1e12;

describe('a leaky bucket', () => {
  it('lets a burst through at once, and then as much as drains', () => {
    const bucket = new LeakyBucket(10, 3);
    const ask = (time: number): boolean => {
      if (!bucket.fits(time, 1)) return false;
      bucket.add(time, 1);
      return true;
    };
    expect([ask(0), ask(0), ask(0), ask(0)]).toEqual([true, true, true, false]);
    expect(ask(0.099 * SECOND)).toBe(false);
    expect(ask(0.1 * SECOND)).toBe(true);
    expect(ask(0.1 * SECOND)).toBe(false);
    // Nothing is saved up beyond the burst.
    expect([1, 2, 3, 4].map(() => ask(1000 * SECOND))).toEqual([true, true, true, false]);
  });

  it('lets nothing through with a burst of 0, and no more than the burst with a rate of 0', () => {
    expect(new LeakyBucket(10, 0).fits(1000 * SECOND, 1)).toBe(false);
    const once = new LeakyBucket(0, 1);
    expect(once.fits(0, 1)).toBe(true);
    once.add(0, 1);
    expect(once.fits(1e6 * SECOND, 1)).toBe(false);
  });

  it('has what was added without room drain before anything goes through', () => {
    const bucket = new LeakyBucket(100, 1000);
    bucket.add(0, 5000);
    expect(bucket.level(0)).toBe(5000);
    expect(bucket.level(40 * SECOND)).toBe(1000);
    expect(bucket.level(41 * SECOND)).toBe(900);
  });

  it('has no credit of the time before, however long nobody looked', () => {
    const bucket = new LeakyBucket(100, 50);
    bucket.add(999 * SECOND, 1200);
    expect(bucket.level(1000 * SECOND)).toBe(1100);
  });

  it('lets no more through for a clock that steps back', () => {
    const bucket = new LeakyBucket(1, 1);
    bucket.add(10 * SECOND, 1);
    for (const time of [0, 5 * SECOND, 10 * SECOND]) expect(bucket.fits(time, 1)).toBe(false);
    expect(bucket.fits(11 * SECOND, 1)).toBe(true);
  });

  it('lets no more through in any stretch of time than burst and rate allow, and no less on the whole', () => {
    for (let seed = 1; seed <= 50; seed++) {
      const random = new SeededRandom(seed);
      const perSecond = 1 + random.below(1000);
      const burst = 1 + random.below(50);
      const bucket = new LeakyBucket(perSecond, burst);
      const passed: number[] = [];
      let time = 0;
      for (let step = 0; step < 2000; step++) {
        time += random.chance(50) ? 0 : random.below(SECOND / 1000);
        if (!bucket.fits(time, 1)) continue;
        bucket.add(time, 1);
        passed.push(time);
      }
      for (let first = 0; first < passed.length; first += 7) {
        for (let last = first; last < passed.length; last += 5) {
          const seconds = (passed[last]! - passed[first]!) / SECOND;
          expect(last - first + 1).toBeLessThanOrEqual(burst + seconds * perSecond + 1e-6);
        }
      }
      const granted = Math.min(2000, burst + (perSecond * time) / SECOND);
      expect(passed.length).toBeGreaterThan(0.5 * granted - 2);
    }
  });
});
