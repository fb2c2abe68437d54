import { describe, expect, it } from 'vitest';
import { MAX_FRAGS_FRAME_LENGTH } from '../../bpf/runtime/xdp-frame.js';
import type { Workload, WorkloadContext, WorkloadFrame } from '../../core/contract/workload.js';
import { ETHERNET_HEADER_BYTES, formatMac, isGroupMac } from '../../packet/index.js';
import { workloadContext } from './workload-context.js';

export interface WorkloadConformanceOptions {
  /** Frames looked at, at most; default 500. Workloads may be endless. */
  readonly limit?: number | undefined;
  /** Files that the workload reads, by the names it knows them by. */
  readonly files?: Readonly<Record<string, Uint8Array>> | undefined;
  /** Default true. False for a workload that sends frames to addresses of its own, or not to every target. */
  readonly reachesEveryTarget?: boolean | undefined;
}

/**
 * What every workload must do, as tests: frames are well-formed and in order of time, go to the targets, and
 * are the same whenever the context is the same. `make` makes a new instance.
 */
export function workloadConformance(
  name: string,
  make: () => Workload,
  options: WorkloadConformanceOptions = {},
): void {
  const { limit = 500, files, reachesEveryTarget = true } = options;
  const frames = (workload: Workload, context: WorkloadContext): WorkloadFrame[] => {
    const taken: WorkloadFrame[] = [];
    for (const frame of workload.frames(context)) {
      if (taken.push(frame) >= limit) break;
    }
    return taken;
  };
  const described = (workload: Workload, context: WorkloadContext): string[] =>
    frames(workload, context).map(({ bytes, at }) => `${at} ${Buffer.from(bytes).toString('hex')}`);

  describe(`workload ${name} conforms`, () => {
    it('has a name and sends something', () => {
      const workload = make();
      expect(workload.name).not.toBe('');
      expect(frames(workload, workloadContext({ files })).length).toBeGreaterThan(0);
    });

    it('sends the same frames for the same seed', () => {
      for (const seed of [0, 1, 20191126]) {
        const first = described(make(), workloadContext({ seed, files }));
        expect(described(make(), workloadContext({ seed, files }))).toEqual(first);
      }
    });

    it('sends the same frames when one instance is asked twice, and when two requests interleave', () => {
      const workload = make();
      const expected = described(make(), workloadContext({ files }));
      expect(described(workload, workloadContext({ files }))).toEqual(expected);
      const one = workload.frames(workloadContext({ files }))[Symbol.iterator]();
      one.next();
      expect(described(workload, workloadContext({ files }))).toEqual(expected);
      one.return?.();
    });

    it('gives frames that XDP can take', () => {
      const lengths = frames(make(), workloadContext({ files })).map(({ bytes }) => bytes.length);
      expect(Math.min(...lengths)).toBeGreaterThanOrEqual(ETHERNET_HEADER_BYTES);
      expect(Math.max(...lengths)).toBeLessThanOrEqual(MAX_FRAGS_FRAME_LENGTH);
    });

    it('gives each frame memory of its own', () => {
      const expected = described(make(), workloadContext({ files }));
      const seen: string[] = [];
      for (const { bytes, at } of make().frames(workloadContext({ files }))) {
        seen.push(`${at} ${Buffer.from(bytes).toString('hex')}`);
        // What a program does to a frame must not show in a later one.
        bytes.fill(0xee);
        if (seen.length >= limit) break;
      }
      expect(seen).toEqual(expected);
    });

    it('never steps back in time, which is whole picoseconds', () => {
      const times = frames(make(), workloadContext({ files })).map(({ at }) => at);
      expect(times[0]! >= 0).toBe(true);
      expect(times.every((at) => Number.isInteger(at))).toBe(true);
      const back = times.findIndex((at, index) => index > 0 && at < times[index - 1]!);
      expect(back, `frame ${back} is at ${times[back]} ps, the one before it at ${times[back - 1]} ps`).toBe(
        -1,
      );
    });

    it('does not change the context', () => {
      const context = workloadContext({ files });
      const before = JSON.stringify([context.targets, [...context.senderMac]]);
      frames(make(), context);
      expect(JSON.stringify([context.targets, [...context.senderMac]])).toBe(before);
    });

    it.runIf(reachesEveryTarget)('sends to the targets, to all of them, and to nobody else', () => {
      for (const count of [1, 3]) {
        const context = workloadContext({ targets: count, files });
        const reached = new Set(
          frames(make(), context)
            .filter(({ bytes }) => !isGroupMac(bytes))
            .map(({ bytes }) => formatMac(bytes)),
        );
        expect([...reached].sort()).toEqual(context.targets.map(({ mac }) => formatMac(mac)).sort());
      }
    });
  });
}
