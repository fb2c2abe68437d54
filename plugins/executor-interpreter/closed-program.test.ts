import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { RunState } from '../../src/bpf/runtime/run-state.js';
import type { InterpretedProgram } from './interpreted-program.js';
import { InterpreterExecutor } from './interpreter-executor.js';

/** Programs whose memory others may have by now. */

const setUp = (): {
  runtime: BpfRuntime;
  load: (text: string, helper?: () => void) => InterpretedProgram;
} => {
  const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  const executor = new InterpreterExecutor(runtime);
  return {
    runtime,
    load: (text, helper) =>
      executor.loadNow(
        {
          name: 'short-lived',
          type: BPF_PROG_TYPE_XDP,
          attachType: 'BPF_XDP',
          gplCompatible: true,
          insns: assemble(text),
        },
        {
          maps: new Map(),
          world: { trace() {} },
          helperOverrides:
            helper === undefined
              ? undefined
              : new Map<number, (state: RunState) => void>([[BPF_FUNC.ktime_get_ns, helper]]),
        },
      ),
  };
};

describe('a program that is closed', () => {
  it('does not run', () => {
    const { load } = setUp();
    const program = load('r0 = 2\nexit');
    const frames = program.openFrames(1);
    frames.load(0, new Uint8Array(60));
    program.close();
    program.close();
    const other = load('r0 = 1\nexit');
    for (const use of [
      () => program.run(frames, 0),
      () => program.runBatch(frames, 0, 1),
      () => program.call(0n, 0n),
      () => program.debug().start(frames, 0),
    ]) {
      expect(use).toThrow('program short-lived is closed');
    }
    expect(other.run(frames, 0)).toEqual({ verdict: 1 });
  });

  it.each(['run', 'runBatch', 'call'] as const)('by what it calls goes to its end first (%s)', (entry) => {
    const { runtime, load } = setUp();
    const left: (() => void)[] = [];
    const program: InterpretedProgram = load('call bpf_ktime_get_ns\nr0 = 7\nexit', () => {
      program.close();
      // Whoever comes next may get the memory, and writes there.
      const region = runtime.space.allocate(64 * 1024, { kind: 'map', label: 'next', access: 'none' });
      runtime.space.u8.fill(0xff, region.start, region.start + region.size);
      left.push(() => runtime.space.free(region));
    });
    const frames = program.openFrames(1);
    frames.load(0, new Uint8Array(60));
    if (entry === 'run') expect(program.run(frames, 0)).toEqual({ verdict: 7 });
    else if (entry === 'call') expect(program.call(0n, 0n)).toEqual({ r0: 7n });
    else {
      expect(program.runBatch(frames, 0, 1)).toBe(0);
      expect(frames.verdict(0)).toBe(7);
    }
    for (const free of left) free();
    frames.close();
    expect(runtime.space.regionAt(program.decoded.code)).toBeUndefined();
  });

  it('goes to its end also where loading another fails meanwhile', () => {
    const { runtime, load } = setUp();
    const before = runtime.space.regions.length;
    const program: InterpretedProgram = load('call bpf_ktime_get_ns\nr0 = 7\nexit', () => {
      program.close();
      expect(() => load('call 9999\nexit')).toThrow();
      const region = runtime.space.allocate(64 * 1024, { kind: 'map', label: 'next', access: 'none' });
      runtime.space.u8.fill(0xff, region.start, region.start + region.size);
      runtime.space.free(region);
    });
    expect(program.call(0n, 0n)).toEqual({ r0: 7n });
    expect(runtime.space.regions.length).toBe(before);
  });
});
