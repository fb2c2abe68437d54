import { expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { loadCase, type GeneratedMap } from '../../src/conformance/program-generator/index.js';
import type { Executor, RunOutcome } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { DifferentialExecutor } from './index.js';

/** What random programs once brought to light, in as few insns as show it. */

function program(name: string, text: string): Program {
  return {
    name,
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(text),
  };
}

/** Handle 1: a PROG_ARRAY with the programs in order. Handle 2: an ARRAY of one number. */
async function run(...programs: Program[]): Promise<RunOutcome> {
  const maps: GeneratedMap[] = [
    {
      handle: 1,
      name: 'programs',
      attributes: {
        type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
        keySize: 4,
        valueSize: 4,
        maxEntries: 4,
        flags: 0,
      },
      initial: [],
      programs: new Map(programs.map((_, index) => [index, index])),
    },
    {
      handle: 2,
      name: 'array',
      attributes: {
        type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY,
        keySize: 4,
        valueSize: 8,
        maxEntries: 1,
        flags: 0,
      },
      initial: [],
    },
  ];
  const frames = [{ packet: new Uint8Array(60), metadata: {} }];
  const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  const open = async (name: string): Promise<Executor> =>
    name === 'wasm' ? new WasmExecutor(runtime, { checked: false }) : new InterpreterExecutor(runtime);
  const executor = new DifferentialExecutor(runtime, { open });
  await executor.start();
  const loaded = await loadCase(
    { seed: 1, programs, maps, frames, mutations: [] },
    { runtime, backend: new MemoryMapBackend(runtime), executor },
  );
  return loaded.run(new FrameRing(runtime.space, 1), frames[0]!);
}

it('a tail call out of a local function leaves its caller waiting, 33 times', async () => {
  const recursive = program(
    'recursive',
    `
      call again
      r0 += 1
      exit
    again:
      r3 = 0
      r2 = map[fd:1]
      call bpf_tail_call
      r0 = 0
      exit
    `,
  );
  expect(await run(recursive)).toEqual({ verdict: 34 });
});

it('a program that was reached by a tail call has its own callbacks', async () => {
  const first = program('first', 'r3 = 1\nr2 = map[fd:1]\ncall bpf_tail_call\nr0 = 0\nexit');
  const second = program(
    'second',
    `
      *(u64 *)(r10 -8) = 0
      r1 = 3
      r2 = subprog[+7]
      r3 = r10
      r3 += -8
      r4 = 0
      call bpf_loop
      r0 = *(u64 *)(r10 -8)
      exit
      r0 = 0
      r1 += 10
      *(u64 *)(r2 +0) = r1
      exit
    `,
  );
  expect(await run(first, second)).toEqual({ verdict: 12 });
});

it.each([
  ['no such index, whatever else the flags say', 1, 4, -7],
  ['it is there already, with a lock or not', 0, 5, -17],
  ['there is no lock in the value', 0, 4, -22],
])('an update of an array says that %s', async (_, index, flags, errno) => {
  const update = program(
    'update',
    `
      *(u32 *)(r10 -4) = ${index}
      *(u64 *)(r10 -16) = 7
      r1 = map[fd:2]
      r2 = r10
      r2 += -4
      r3 = r10
      r3 += -16
      r4 = ${flags}
      call bpf_map_update_elem
      exit
    `,
  );
  expect(await run(update)).toEqual({ verdict: errno >>> 0 });
});
