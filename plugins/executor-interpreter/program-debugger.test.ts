import { beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { isResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { InterpreterExecutor } from './interpreter-executor.js';
import type { AccessEvent } from '../../src/core/contract/program-debugging.js';
import { ProgramDebugger } from './program-debugger.js';

let runtime: BpfRuntime;
let executor: InterpreterExecutor;

beforeEach(() => {
  runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  executor = new InterpreterExecutor(runtime);
});

function load(text: string, maps: Parameters<typeof assemble>[1] = {}, byHandle = new Map()) {
  return executor.loadNow(
    { name: 'test', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns: assemble(text, maps) },
    { maps: byHandle, world: { trace() {} } },
  );
}

describe('ProgramDebugger', () => {
  it('executes one insn a step and shows the registers', () => {
    const program = new ProgramDebugger(
      load('r0 = 1\nr0 += 0x100000000ll\nexit'.replace('+= 0x100000000ll', '+= -2')),
    );
    expect(program.startCall(5n, 6n)).toMatchObject({ state: 'paused', insn: 0, depth: 0 });
    expect(program.registers().slice(0, 3)).toEqual([0n, 5n, 6n]);
    expect(program.step()).toMatchObject({ state: 'paused', insn: 1 });
    expect(program.registers()[0]).toBe(1n);
    expect(program.step()).toMatchObject({ state: 'paused', insn: 2 });
    expect(program.registers()[0]).toBe(0xffff_ffff_ffff_ffffn);
    expect(program.step()).toEqual({ state: 'exited', r0: 0xffff_ffff_ffff_ffffn });
    expect(program.step()).toEqual({ state: 'exited', r0: 0xffff_ffff_ffff_ffffn });
  });

  it('steps over both slots of an lddw, into calls and back', () => {
    const program = new ProgramDebugger(
      load('r6 = 0x100000000ll\ncall sub\nr0 += r6\nexit\nsub: r0 = 1\nr6 = 0\nexit'),
    );
    program.startCall(0n, 0n);
    const path: [number, number][] = [];
    for (let state = program.state!; state.state === 'paused'; state = program.step()) {
      path.push([state.insn, state.depth]);
    }
    expect(path).toEqual([
      [0, 0],
      [2, 0],
      [5, 1],
      [6, 1],
      [7, 1],
      [3, 0],
      [4, 0],
    ]);
    expect(program.state).toEqual({ state: 'exited', r0: 0x1_0000_0001n });
  });

  it('stops at breakpoints, and each time round a loop', () => {
    const program = new ProgramDebugger(load('r0 = 0\nloop: r0 += 1\nif r0 != 3 goto loop\nexit'));
    program.breakpoints.add(2);
    program.startCall(0n, 0n);
    const seen: bigint[] = [];
    while (program.resume().state === 'paused') seen.push(program.registers()[0]!);
    expect(seen).toEqual([1n, 2n, 3n]);
    expect(program.state).toEqual({ state: 'exited', r0: 3n });
  });

  it('reports accesses, of helpers too, and ends in the fault', () => {
    const map = new MemoryMapBackend(runtime).create(
      { type: 2, keySize: 4, valueSize: 8, maxEntries: 2, flags: 0 },
      { name: 'counts' },
    );
    if (typeof map === 'number' || !isResidentMap(map)) throw new Error('no map');
    const loaded = load(
      `r6 = *(u32 *)(r1 +0)
       *(u32 *)(r10 -4) = 1
       r2 = r10
       r2 += -4
       r1 = map[counts]
       call bpf_map_lookup_elem
       if r0 == 0 goto pc+1
       lock *(u64 *)(r0 +0) += r6
       r0 = *(u8 *)(r6 +60)
       exit`,
      { maps: new Map([['counts', 1]]) },
      new Map([[1, map]]),
    );
    const accesses: [number, AccessEvent['kind'], number, boolean][] = [];
    const program = new ProgramDebugger(loaded, {
      onAccess: (at, { kind, size, write }) => accesses.push([at.insn, kind, size, write]),
    });
    const frames = new FrameRing(runtime.space, 1);
    frames.load(0, new Uint8Array(60));
    program.start(frames, 0);
    expect(program.resume()).toEqual({
      state: 'faulted',
      fault: { insn: 9, reason: 'read of 1 bytes at offset 60 of the packet, which has 60 bytes' },
    });
    expect(accesses).toEqual([
      [0, 'load', 4, false],
      [1, 'store', 4, true],
      [6, 'helper', 4, false],
      [8, 'atomic', 8, true],
      [9, 'load', 1, false],
    ]);
  });

  it('shows the insns of callbacks to the observer, and leaves ordinary runs alone', () => {
    const text = `
        r1 = 2
        r2 = subprog[body]
        r3 = 0
        r4 = 0
        call bpf_loop
        exit
      body:
        r0 = 0
        exit`;
    const loaded = load(text);
    const seen: [number, number][] = [];
    const program = new ProgramDebugger(loaded, { onInsn: (at) => seen.push([at.insn, at.depth]) });
    program.startCall(0n, 0n);
    program.resume();
    expect(program.state).toEqual({ state: 'exited', r0: 2n });
    const rounds = [
      [7, 1],
      [8, 1],
    ];
    expect(seen).toEqual([[0, 0], [1, 0], [3, 0], [4, 0], [5, 0], ...rounds, ...rounds, [6, 0]]);
    seen.length = 0;
    expect(loaded.call(0n, 0n)).toEqual({ r0: 2n });
    expect(loaded.executedInsns).toBe(10);
    expect(seen).toEqual([]);
  });
});
