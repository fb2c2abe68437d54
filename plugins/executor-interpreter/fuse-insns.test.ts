import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { InterpreterExecutor } from './interpreter-executor.js';
import type { InterpretedProgram } from './interpreted-program.js';
import { ProgramDebugger } from './program-debugger.js';

const insns = (text: string) => assemble(text, { maps: new Map() });

function load(text: string, insnLimit?: number): InterpretedProgram {
  return new InterpreterExecutor(new BpfRuntime()).loadNow(
    { name: 'test', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', gplCompatible: true, insns: insns(text) },
    { maps: new Map(), world: { trace() {} }, insnLimit },
  );
}

describe('insns that run at once', () => {
  it.each([
    [
      'a sum that is above',
      'r3 = r1\nr3 += 14\nif r3 > r2 goto +1\nr3 = 0\nr0 = r3\nexit',
      90n,
      100n,
      104n,
      5,
    ],
    ['a sum that is not', 'r3 = r1\nr3 += 14\nif r3 > r2 goto +1\nr3 = 0\nr0 = r3\nexit', 80n, 94n, 0n, 6],
    ['a carry', 'r3 = r1\nr3 += r2\nr0 = r3\nexit', 0xffff_ffffn, 1n, 0x1_0000_0000n, 4],
    ['a register added to itself', 'r3 = 5\nr3 = r1\nr3 += r3\nr0 = r3\nexit', 21n, 0n, 42n, 5],
    [
      'another register added to',
      'r3 = 5\nr4 = 7\nr3 = r1\nr4 += r2\nr0 = r3\nr0 += r4\nexit',
      1n,
      2n,
      10n,
      7,
    ],
    ['a jump to the second', 'r3 = 1\ngoto +1\nr3 = r1\nr3 += 2\nr0 = r3\nexit', 90n, 0n, 3n, 5],
    [
      'a jump to the third',
      'r0 = 1\nr3 = 9\ngoto +2\nr3 = r1\nr3 += 2\nif r3 > 8 goto +1\nr0 = 2\nexit',
      0n,
      0n,
      1n,
      5,
    ],
    ['an addition and a jump', 'r1 += r2\nif r1 > 6 goto +1\nr1 = 0\nr0 = r1\nexit', 3n, 4n, 7n, 4],
    [
      'negative numbers',
      'r1 += -1\nif r1 > 6 goto +1\nr1 = 0\nr0 = r1\nexit',
      0n,
      0n,
      0xffff_ffff_ffff_ffffn,
      4,
    ],
  ])('do what they do one by one: %s', (_, text, r1, r2, r0, count) => {
    const loaded = load(text);
    expect(loaded.call(r1, r2)).toEqual({ r0 });
    expect(loaded.executedInsns).toBe(count);
    const debugging = new ProgramDebugger(loaded);
    debugging.startCall(r1, r2);
    let steps = 0;
    for (; debugging.state?.state === 'paused'; steps++) debugging.step();
    expect(steps).toBe(count);
    expect(debugging.state).toEqual({ state: 'exited', r0 });
  });

  it('end where the limit is', () => {
    const loop = load('r2 = 1000\nr3 = 0\nagain: r3 += 1\nif r2 > r3 goto again\nr0 = 1\nexit', 100);
    const reason = expect.stringMatching(/limit of 100 insns/) as string;
    expect(loop.call(0n, 0n)).toMatchObject({ fault: { reason } });
    expect(loop.executedInsns).toBeLessThan(110);
    const above = load('r2 = 1000\nr3 = 1000\nagain: r3 += -1\nif r3 > 0 goto again\nr0 = 1\nexit', 2004);
    expect(above.call(0n, 0n)).toEqual({ r0: 1n });
    expect(above.executedInsns).toBe(2004);
  });
});
