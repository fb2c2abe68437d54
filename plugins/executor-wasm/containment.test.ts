import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import type { BpfMap, ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import { mapSpec } from '../../src/conformance/offload/offload-rig.js';
import type { Executor, LoadedProgram } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { WasmExecutor } from './wasm-executor.js';

/**
 * Programs that lead into one another and that no verifier would let pass, in the checked build as in the interpreter, which
 * judges each access by where it goes and each value by what it is.
 */

const FRAME_BYTES = 60;
const jump = (index: number): string => `r2 = map[programs]\nr3 = ${index}\ncall bpf_tail_call\n`;
const JUMP_AND_EXIT = `${jump(0)}r0 = 77\nexit`;

/** Makes a tail call out of a local function, so that its frames lie where the program before left off. */
const MOVABLE = `
  r2 = r10
  r2 += -8
  *(u64 *)(r2 +0) = 1
  *(u64 *)(r10 -512) = -1
  call f
  r0 = 2
  exit
  f: ${jump(1)}
  r0 = 1
  exit`;

describe('what a program is given as its context', () => {
  it.each([
    ['is no whole number of 32 bits', 'r2 = 0x100000000 ll\nr1 += r2', 'r0 = *(u32 *)(r1 +12)\nexit'],
    ['is NULL', 'r1 = 0', 'r0 = 2\nif r1 == 0 goto +1\nr0 = 1\nexit'],
    [
      'is stack',
      '*(u64 *)(r10 -16) = 0\nr1 = r10\nr1 += -16',
      'r2 = *(u32 *)(r1 +0)\nr0 = 2\nif r2 == 0 goto +1\nr0 = 1\nexit',
    ],
  ])('is taken for what it is where it %s', async (_, before, target) => {
    await expectAlike([`${before}\n${JUMP_AND_EXIT}`, target]);
  });

  it('holds no bounds where fields are read in part', async () => {
    for (const off of [1, 2, 3, 5, 6, 7])
      await expectAlike([`r2 = *(u32 *)(r1 +${off})\nr0 = 1\nif r2 > 0x200000 goto +1\nr0 = 2\nexit`]);
  });

  it('is the frame for a program without checks, whatever one with checks passes', async () => {
    const rig = new Rig((runtime) => new WasmExecutor(runtime));
    const secret = rig.runtime.space.allocate(16, { kind: 'scratch', label: 'a secret', access: 'none' });
    // Bounds that its caller has made up: all of the memory is its packet.
    const caller = `*(u32 *)(r10 -24) = ${secret.start}
      *(u32 *)(r10 -20) = ${secret.start + 16}
      *(u32 *)(r10 -16) = ${secret.start}
      r1 = r10
      r1 += -24
      ${JUMP_AND_EXIT}`;
    const target = `r2 = *(u32 *)(r1 +0)
      r3 = *(u32 *)(r1 +4)
      r4 = r2
      r4 += 8
      r0 = 1
      if r4 > r3 goto +2
      *(u64 *)(r2 +0) = 0x41
      r0 = 2
      exit`;
    await rig.load([caller, target], [false, true]);
    expect(rig.run()).toEqual({ verdict: 2 });
    expect(rig.runtime.space.read(secret.start, 16)).toEqual(new Uint8Array(16));
    expect(rig.ring.packet(0)[0]).toBe(0x41);
  });
});

describe('frames that move', () => {
  it('begin anew for each run, whoever leads to them', async () => {
    for (const checked of [true, false]) {
      const rig = new Rig((runtime) => new WasmExecutor(runtime, { checked }));
      // The second calls itself until it may no more, and leaves where it came to.
      await rig.load([JUMP_AND_EXIT, MOVABLE.replace('r3 = 1', 'r3 = 0')]);
      const before = rig.bytesBesideStack();
      for (let run = 0; run < 3; run++) expect(rig.run()).toEqual({ verdict: 2 });
      expect(rig.bytesBesideStack().equals(before)).toBe(true);
    }
    await expectAlike([JUMP_AND_EXIT, MOVABLE]);
  });

  it.each(['cb: ', 'cb: call f\nr0 = 0\nexit\nf: '])(
    'are not begun within a callback, where they would leave the stack (%j)',
    async (callback) => {
      const rig = new Rig((runtime) => new WasmExecutor(runtime, { checked: true }));
      const text = `r1 = 1
        r2 = subprog[cb]
        r3 = 0
        r4 = 0
        call bpf_loop
        r0 = 2
        exit
        ${callback}${jump(0)}
        r0 = 0
        exit`;
      await expect(rig.load([text])).rejects.toThrow(/tail call within a callback/);
    },
  );
});

describe('a function pointer that a program made up', () => {
  it.each([0, 1, 6, 0xffff_fff0])('leads to no function (%i)', async (slot) => {
    const rig = new Rig((runtime) => new WasmExecutor(runtime, { checked: true }));
    const pointer = (0x7b9f0000n << 32n) | BigInt(slot);
    await rig.load([`r1 = 1\nr2 = ${pointer} ll\nr3 = 0\nr4 = 0\ncall bpf_loop\nr0 = 2\nexit`]);
    expect(rig.run().fault).toEqual({ insn: 5, reason: `there is no function at insn ${slot}` });
  });
});

async function expectAlike(texts: readonly string[]): Promise<void> {
  const expected = new Rig((runtime) => new InterpreterExecutor(runtime));
  const rig = new Rig((runtime) => new WasmExecutor(runtime, { checked: true }));
  for (const each of [expected, rig]) await each.load(texts);
  for (let run = 0; run < 2; run++) {
    const { verdict, fault } = expected.run();
    const outcome = rig.run();
    expect(outcome.verdict).toBe(verdict);
    expect(outcome.fault?.insn).toBe(fault?.insn);
  }
}

class Rig {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 21, cpus: 2 });
  readonly ring = new FrameRing(this.runtime.space, 1);
  readonly #executor: Executor;
  readonly #programs: ResidentMap;
  readonly #loaded: LoadedProgram[] = [];

  constructor(executor: (runtime: BpfRuntime) => Executor) {
    this.#executor = executor(this.runtime);
    const spec = mapSpec('programs', {
      type: BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY,
      valueSize: 4,
      maxEntries: 4,
    });
    const map = new MemoryMapBackend(this.runtime).create(spec, { name: spec.name }) as BpfMap;
    this.#programs = map as ResidentMap;
    this.ring.load(0, new Uint8Array(FRAME_BYTES));
  }

  /** The first is what runs; the others come into the array of programs, from index 0 on. */
  async load(texts: readonly string[], contained: readonly boolean[] = []): Promise<void> {
    for (const [index, text] of texts.entries()) {
      const program: Program = {
        name: `program ${index}`,
        type: BPF_PROG_TYPE_XDP,
        attachType: 'BPF_XDP',
        gplCompatible: true,
        insns: assemble(text, { maps: new Map([['programs', 1]]) }),
      };
      const loaded = await this.#executor.load(program, {
        maps: new Map([[1, this.#programs]]),
        world: { trace() {} },
        contained: contained[index],
      });
      this.#loaded.push(loaded);
      if (index > 0) this.#programs.setProgram!(index - 1, loaded.id);
    }
  }

  run() {
    return this.#loaded[0]!.run(this.ring, 0);
  }

  /** All but stack, frames and what the host writes during a run: where no frame of a stack may reach. */
  bytesBesideStack(): Buffer {
    const { space } = this.runtime;
    const ofRuns = new Set(['stack', 'packet', 'run-state', 'scratch']);
    const parts = [space.read(0, 1 << 16)];
    let end = 1 << 16;
    for (const { start, size, kind } of space.regions) {
      parts.push(space.read(end, start - end));
      if (!ofRuns.has(kind)) parts.push(space.read(start, size));
      end = start + size;
    }
    parts.push(space.read(end, space.byteLength - end));
    return Buffer.concat(parts);
  }
}
