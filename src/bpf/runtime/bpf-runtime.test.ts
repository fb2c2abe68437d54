import { describe, expect, it } from 'vitest';
import { BpfRuntime } from './bpf-runtime.js';

const small = { memoryBytes: 1 << 17 };

describe('BpfRuntime', () => {
  it('numbers programs from 1', () => {
    const runtime = new BpfRuntime(small);
    expect([runtime.allocateProgramId(), runtime.allocateProgramId()]).toEqual([1, 2]);
  });

  it('draws map seeds from the run’s seed, and random numbers beside them', () => {
    const draw = (seed: bigint): number[] => {
      const runtime = new BpfRuntime({ ...small, seed });
      return [runtime.mapSeed(), runtime.mapSeed(), runtime.mapSeed()];
    };
    expect(draw(1n)).toEqual(draw(1n));
    expect(new Set([...draw(1n), ...draw(2n)]).size).toBe(6);
    for (const seed of draw(-5n)) expect(seed | 0).toBe(seed);

    const [plain, withMaps] = [new BpfRuntime(small), new BpfRuntime(small)];
    withMaps.mapSeed();
    expect(withMaps.state.nextRandom()).toBe(plain.state.nextRandom());
  });
});
