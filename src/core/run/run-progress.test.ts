import { describe, expect, it, vi } from 'vitest';
import type { WorkloadFrame } from '../contract/workload.js';
import { countedFrames, type RunProgress } from './run-progress.js';

describe('counted frames', () => {
  it('are the same frames, and told of at most ten times a second', () => {
    const clock = vi.spyOn(performance, 'now');
    let now = 0;
    clock.mockImplementation(() => now);
    try {
      const frames = Array.from({ length: 1000 }, (_, at): WorkloadFrame => ({
        bytes: new Uint8Array(60),
        at,
      }));
      const told: RunProgress[] = [];
      let of: number | undefined;
      const taken: WorkloadFrame[] = [];
      for (const frame of countedFrames(
        frames,
        () => of,
        (progress) => void told.push(progress),
      )) {
        taken.push(frame);
        // A millisecond each.
        now++;
        if (taken.length === 500) of = 1000;
      }
      expect(taken).toEqual(frames);
      // The clock is looked at every 64 frames: the first look after each hundred milliseconds.
      expect(told.map(({ frames: count }) => count)).toEqual([128, 256, 384, 512, 640, 768, 896]);
      expect(told.map(({ of: all }) => all)).toEqual([
        undefined,
        undefined,
        undefined,
        1000,
        1000,
        1000,
        1000,
      ]);
    } finally {
      clock.mockRestore();
    }
  });
});
