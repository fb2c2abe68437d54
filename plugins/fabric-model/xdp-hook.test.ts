import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { LoadedProgram } from '../../src/core/contract/executor.js';
import { VirtualClock } from '../../src/core/clock/virtual-clock.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { FrameAccounting } from './frame-accounting.js';
import { Timing } from './timing.js';
import { XdpHook } from './xdp-hook.js';

async function load(runtime: BpfRuntime, text: string): Promise<LoadedProgram> {
  const program: Program = {
    name: 'p',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(text),
  };
  return new InterpreterExecutor(runtime).load(program, {
    maps: new Map(),
    world: { trace: () => undefined },
  });
}

describe('XdpHook', () => {
  it('does not take a program in place of one that is not attached any more', async () => {
    const runtime = new BpfRuntime();
    const hook = new XdpHook('g0.eth0', 2, new Timing(new VirtualClock()));
    const [drop, pass] = [await load(runtime, 'r0 = 1\nexit'), await load(runtime, 'r0 = 2\nexit')];
    const attachment = await hook.attach(drop);
    const frame = new FrameAccounting().begin(new Uint8Array(60), 0);
    expect(hook.run(frame).action).toBe('XDP_DROP');
    await attachment.replace(pass);
    expect(hook.run(frame).action).toBe('XDP_PASS');
    await attachment.detach();
    const free = runtime.space.bytesInUse;
    await expect(attachment.replace(drop)).rejects.toThrow('not attached any more');
    expect(runtime.space.bytesInUse).toBe(free);
    expect(await attachment.counters()).toMatchObject({ XDP_DROP: 1, XDP_PASS: 1 });
  });
});
