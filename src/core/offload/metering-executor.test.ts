import { describe, expect, it } from 'vitest';
import { InterpreterExecutor } from '../../../plugins/executor-interpreter/interpreter-executor.js';
import { MemoryMapBackend } from '../../../plugins/map-backend-memory/memory-map-backend.js';
import { BPF_MAP_TYPE } from '../../bpf/map-spec.js';
import { assemble } from '../../bpf/assembler.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import { mapSpec } from '../../conformance/offload/offload-rig.js';
import { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { ExecutionEnvironment } from '../contract/executor.js';
import { meteringExecutor } from './metering-executor.js';

function program(text: string): Program {
  const insns = assemble(text, { maps: new Map([['j', 1]]) });
  return { name: 'p', type: BPF_PROG_TYPE_XDP, attachType: 'BPF_XDP', insns, gplCompatible: true };
}

function rig() {
  const runtime = new BpfRuntime({ memoryBytes: 4 * 1024 * 1024 });
  const told: number[] = [];
  const inner = new InterpreterExecutor(runtime);
  const executor = meteringExecutor(inner, (insns) => void told.push(insns));
  const maps = new Map<number, BpfMap>();
  const environment = (countWork: boolean): ExecutionEnvironment => ({
    maps,
    world: { trace: () => undefined },
    countWork,
  });
  const load = (text: string, countWork = true) => executor.load(program(text), environment(countWork));
  return { runtime, told, inner, executor, maps, environment, load };
}

describe('an executor that tells what runs took', () => {
  it('tells of each run and each batch, of all programs of the party', async () => {
    const { load, told } = rig();
    const [two, three] = [await load('r0 = 2\nexit'), await load('r0 = 2\nr0 = 1\nexit')];
    const frames = two.openFrames(4);
    for (let slot = 0; slot < 4; slot++) frames.load(slot, new Uint8Array(60));
    expect(two.run(frames, 0).verdict).toBe(2);
    expect(three.run(frames, 0).verdict).toBe(1);
    expect(two.runBatch(frames, 0, 4)).toBe(0);
    expect(three.call!(0n, 0n)).toEqual({ r0: 1n });
    expect(told).toEqual([2, 3, 8, 3]);
    frames.close();
    two.close();
  });

  it('tells of what a program went on in by a tail call', async () => {
    const { runtime, load, told, maps } = rig();
    const jumps = new MemoryMapBackend(runtime).create(
      mapSpec('j', { type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY, valueSize: 4 }),
      { name: 'j' },
    );
    if (typeof jumps === 'number') throw new Error(`no map: ${jumps}`);
    maps.set(1, jumps);
    const target = await load('r0 = 2\nr0 = 3\nexit');
    jumps.setProgram!(0, target.id);
    const caller = await load('r2 = map[j]\nr3 = 0\ncall bpf_tail_call\nr0 = 1\nexit');
    const frames = caller.openFrames(1);
    frames.load(0, new Uint8Array(60));
    expect(caller.run(frames, 0).verdict).toBe(3);
    expect(told).toEqual([6]);
  });

  it('leaves programs alone whose work nobody counts', async () => {
    const { load, told } = rig();
    const loaded = await load('r0 = 2\nexit', false);
    const frames = loaded.openFrames(1);
    frames.load(0, new Uint8Array(60));
    loaded.run(frames, 0);
    expect(told).toEqual([]);
  });

  it('is the executor that it was in everything else', async () => {
    const { executor, inner, environment, load } = rig();
    expect(executor.name).toBe(inner.name);
    const now = executor.loadNow!(program('r0 = 2\nexit'), environment(true));
    expect([now.name, now.executor]).toEqual(['p', 'interpreter']);
    expect(now.id).not.toBe((await load('r0 = 2\nexit')).id);
    const faulting = await load('r0 = 0\nr0 = *(u64 *)(r0 + 0)\nexit');
    const frames = faulting.openFrames(1);
    frames.load(0, new Uint8Array(60));
    expect(faulting.run(frames, 0).verdict).toBe(0);
    expect(faulting.lastFault?.reason).toMatch(/./);
  });
});
