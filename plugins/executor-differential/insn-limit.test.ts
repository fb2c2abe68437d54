import { beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import { BPF_MAP_TYPE, type MapAttributes } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { DEFAULT_INSN_LIMIT } from '../../src/bpf/runtime/insn-budget.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { XDP_ABORTED, XDP_PASS } from '../../src/bpf/xdp.js';
import { XdpbedError } from '../../src/core/diagnostic.js';
import type { Executor, LoadedProgram } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/interpreter-executor.js';
import { InterpretedProgram } from '../executor-interpreter/interpreted-program.js';
import { WasmExecutor } from '../executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { DifferentialExecutor } from './differential-executor.js';

const EXECUTORS: Readonly<Record<string, (runtime: BpfRuntime) => Executor>> = {
  interpreter: (runtime) => new InterpreterExecutor(runtime),
  wasm: (runtime) => new WasmExecutor(runtime, { checked: false }),
  'wasm, checked': (runtime) => new WasmExecutor(runtime, { checked: true }),
  differential: (runtime) =>
    new DifferentialExecutor(runtime, {
      open: async (name) =>
        name === 'wasm' ? new WasmExecutor(runtime, { checked: false }) : new InterpreterExecutor(runtime),
    }),
};

const T = BPF_MAP_TYPE;
const MAPS: Readonly<Record<string, MapAttributes>> = {
  h: { type: T.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 2, flags: 0 },
  empty: { type: T.BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 8, maxEntries: 1 << 16, flags: 0 },
  long: { type: T.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 1 << 16, maxEntries: 2, flags: 0 },
  jumps: { type: T.BPF_MAP_TYPE_PROG_ARRAY, keySize: 4, valueSize: 4, maxEntries: 1, flags: 0 },
  ring: { type: T.BPF_MAP_TYPE_RINGBUF, keySize: 0, valueSize: 0, maxEntries: 4096, flags: 0 },
};

/** R0 := the value under key 0 of map `long`. */
const LONG_VALUE = `
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[long]
  call bpf_map_lookup_elem
  if r0 != 0 goto found
  exit
found:`;

/** bpf_loop of eight million rounds over `callback`, nested as deep as there are frames. */
function nestedLoops(depth: number): string {
  const call = (callback: string) => `
  r1 = 8388608
  r2 = subprog[${callback}]
  r3 = 0
  r4 = 0
  call bpf_loop
  r0 = 0
  exit`;
  let text = call('round1');
  for (let level = 1; level < depth; level++) text += `\nround${level}:${call(`round${level + 1}`)}`;
  return `${text}\nround${depth}:\n  r0 = 0\n  exit`;
}

/** Each function calls the next 40 times, which is 40^7 calls and not one jump backwards. */
function callTree(): string {
  let text = 'call f1\n r0 = 2\n exit';
  for (let level = 1; level < 7; level++) {
    text += `\nf${level}:${`\n call f${level + 1}`.repeat(40)}\n r0 = 0\n exit`;
  }
  return `${text}\nf7:\n r0 = 0\n exit`;
}

/** Programs that have no end, or none that anyone lives to see. All but the first two pass the kernel's verifier. */
const ENDLESS: Readonly<Record<string, string>> = {
  'a jump to itself': 'again: goto again',
  'a loop with branches': `
  r6 = 0
again:
  r6 += 1
  if r6 & 1 goto odd
  r6 += 2
odd:
  if r6 != 0 goto again
  goto again`,
  'nested bpf_loop': nestedLoops(6),
  'a tree of local calls': callTree(),
  'walks of an empty map': `
  r1 = 8388608
  r2 = subprog[walk]
  r3 = 0
  r4 = 0
  call bpf_loop
  r0 = 2
  exit
walk:
  r1 = map[empty]
  r2 = subprog[never]
  r3 = 0
  r4 = 0
  call bpf_for_each_map_elem
  r0 = 0
  exit
never:
  r0 = 1
  exit`,
  'updates of long values': `${LONG_VALUE}
  r6 = r0
  r7 = 1000000
again:
  *(u32 *)(r10 -4) = 1
  r1 = map[long]
  r2 = r10
  r2 += -4
  r3 = r6
  r4 = 0
  call bpf_map_update_elem
  r7 += -1
  if r7 != 0 goto again
  r0 = 2
  exit`,
  'sums over long values': `${LONG_VALUE}
  r6 = r0
  r7 = 1000000
again:
  r1 = 0
  r2 = 0
  r3 = r6
  r4 = 65536
  r5 = 0
  call bpf_csum_diff
  r7 += -1
  if r7 != 0 goto again
  r0 = 2
  exit`,
};

/** A walk whose callback deletes the element it is given and puts another in front of it. */
const WALK = `
  *(u64 *)(r10 -8) = 0
  *(u64 *)(r10 -16) = 0
  r1 = map[h]
  r2 = r10
  r2 += -16
  r3 = r10
  r3 += -8
  r4 = 0
  call bpf_map_update_elem
  *(u64 *)(r10 -16) = 3
  r1 = map[h]
  r2 = r10
  r2 += -16
  r3 = r10
  r3 += -8
  r4 = 0
  call bpf_map_update_elem
  r1 = map[h]
  r2 = subprog[cb]
  r3 = 0
  r4 = 0
  call bpf_for_each_map_elem
  r0 = 2
  exit
cb:
  r6 = *(u32 *)(r2 +0)
  r6 ^= 3
  *(u32 *)(r10 -8) = r6
  *(u64 *)(r10 -16) = 0
  r7 = r1
  r2 = r10
  r2 += -8
  call bpf_map_delete_elem
  r1 = r7
  r2 = r10
  r2 += -8
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem
  r0 = 0
  exit`;

/** About the time that a run within the default limit may take here; an endless one takes all there is. */
const PATIENCE_MS = 120_000;

describe.each(Object.entries(EXECUTORS))('the insn limit of %s', (_, makeExecutor) => {
  let executor: Executor;
  let runtime: BpfRuntime;
  let ring: FrameRing;
  let maps: Map<string, ResidentMap>;

  beforeEach(async () => {
    runtime = new BpfRuntime({ memoryBytes: 8 << 20, cpus: 1 });
    executor = makeExecutor(runtime);
    if (executor instanceof DifferentialExecutor) await executor.start();
    ring = new FrameRing(runtime.space, 2);
    ring.load(0, new Uint8Array(64));
    ring.load(1, new Uint8Array(64));
    const backend = new MemoryMapBackend(runtime);
    maps = new Map();
    for (const [name, attributes] of Object.entries(MAPS)) {
      maps.set(name, backend.create(attributes, { name }) as ResidentMap);
    }
  });

  async function load(text: string, insnLimit?: number, random?: () => void): Promise<LoadedProgram> {
    const handles = new Map([...maps.keys()].map((name, index) => [name, index + 1]));
    const program: Program = {
      name: 'test',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: assemble(text, { maps: handles }),
    };
    const programId = runtime.allocateProgramId();
    maps.get('jumps')!.setProgram!(0, programId);
    return executor.load(program, {
      maps: new Map([...maps.values()].map((map, index) => [index + 1, map])),
      world: { trace() {} },
      programId,
      insnLimit,
      helperOverrides: random && new Map([[BPF_FUNC.get_prandom_u32, random]]),
    });
  }

  it.each(Object.entries(ENDLESS))(
    'ends %s',
    async (_, text) => {
      const loaded = await load(text, 100_000);
      const { verdict, fault } = loaded.run(ring, 0);
      expect(verdict).toBe(XDP_ABORTED);
      expect(fault?.reason).toBe('the limit of 100000 insns is used up');
      expect(loaded.runBatch(ring, 0, 2)).toBe(2);
      expect([ring.verdict(0), ring.verdict(1)]).toEqual([XDP_ABORTED, XDP_ABORTED]);
      loaded.close();
    },
    PATIENCE_MS,
  );

  it(
    'is the host’s when none is given',
    async () => {
      const loaded = await load(ENDLESS['nested bpf_loop']!);
      const { fault } = loaded.run(ring, 0);
      expect(fault?.reason).toBe(`the limit of ${DEFAULT_INSN_LIMIT} insns is used up`);
      loaded.close();
    },
    PATIENCE_MS,
  );

  it('counts what tail calls lead to', async () => {
    // Each round of a program that calls itself goes 1000 times through a loop of two insns.
    const loaded = await load(
      `r6 = r1
       r7 = 1000
       again: r7 += -1
       if r7 != 0 goto again
       r1 = r6
       r2 = map[jumps]
       r3 = 0
       call bpf_tail_call
       r0 = 2
       exit`,
      10_000,
    );
    expect(loaded.run(ring, 0).fault?.reason).toBe('the limit of 10000 insns is used up');
    loaded.close();
  });

  it('starts anew with each frame', async () => {
    const loaded = await load('r7 = 400\nagain: r7 += -1\nif r7 != 0 goto again\nr0 = 2\nexit', 1000);
    expect(loaded.runBatch(ring, 0, 2)).toBe(0);
    expect([ring.verdict(0), ring.verdict(1)]).toEqual([XDP_PASS, XDP_PASS]);
    loaded.close();
  });

  it('ends the run alone when a helper throws what we throw', async () => {
    const loaded = await load('call bpf_get_prandom_u32\nr0 = 2\nexit', 1000, () => {
      throw new XdpbedError('out-of-memory', 'no room');
    });
    const { verdict, fault } = loaded.run(ring, 0);
    expect(verdict).toBe(XDP_ABORTED);
    expect(fault?.reason).toBe('a helper failed: no room');
    loaded.close();
  });

  it('does not take the work of helpers for insns of the program', async () => {
    const loaded = await load(`${LONG_VALUE}
      r3 = r0
      r4 = 65536
      r1 = 0
      r2 = 0
      r5 = 0
      call bpf_csum_diff
      r0 = 2
      exit`);
    expect(loaded.run(ring, 0).verdict).toBe(XDP_PASS);
    // Six up to the branch and eight behind it.
    if (loaded instanceof InterpretedProgram) expect(loaded.executedInsns).toBe(6 + 8);
    loaded.close();
  });

  it('leaves no record reserved', async () => {
    const loaded = await load(
      `r1 = map[ring]
       r2 = 8
       r3 = 0
       call bpf_ringbuf_reserve
       if r0 == 0 goto out
       r6 = r0
       again: goto again
       out: r0 = 2
       exit`,
      1000,
    );
    expect(loaded.run(ring, 0).fault?.reason).toBe('the limit of 1000 insns is used up');
    loaded.close();
    const record = maps.get('ring')!.ringReserve!(4);
    expect(record).not.toBe(0);
    maps.get('ring')!.ringSubmit!(record, 0);
    // What was reserved before it hides it no longer.
    expect(maps.get('ring')!.drainRecords!()).toHaveLength(1);
  });

  it('is not needed for a walk: it visits each bucket once, whatever the callback puts in front', async () => {
    const loaded = await load(WALK, 1000);
    const { verdict, fault } = loaded.run(ring, 0);
    expect(fault).toBeUndefined();
    expect(verdict).toBe(XDP_PASS);
    loaded.close();
  });

  it('has a walk return -ENOMEM when the host has no memory left for a copy of a key', async () => {
    const loaded = await load(
      `r1 = map[h]
       r2 = subprog[cb]
       r3 = 0
       r4 = 0
       call bpf_for_each_map_elem
       if r0 == -12 goto none
       r0 = 1
       exit
       none: r0 = 2
       exit
       cb: r0 = 0
       exit`,
    );
    for (let size = 4 << 20; size >= 16; size = size / 2) {
      for (;;) {
        try {
          runtime.space.allocate(size, { kind: 'scratch', label: 'filler', access: 'none' });
        } catch {
          break;
        }
      }
    }
    const { verdict, fault } = loaded.run(ring, 0);
    expect(fault).toBeUndefined();
    expect(verdict).toBe(XDP_PASS);
    loaded.close();
  });
});
