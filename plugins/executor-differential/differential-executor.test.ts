import { describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { isResidentMap, type ResidentMap } from '../../src/bpf/runtime/bpf-map.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type { ExecutionEnvironment, Executor, LoadedProgram } from '../../src/core/contract/executor.js';
import { LifecycleManager } from '../../src/core/plugin/lifecycle.js';
import { PluginRegistry } from '../../src/core/plugin/plugin-registry.js';
import { Scope } from '../../src/core/plugin/scope.js';
import { PluginInstances } from '../../src/core/run/plugin-instances.js';
import { choosePlugin } from '../../src/core/testbed/choose-plugin.js';
import { BUILT_IN_PLUGINS } from '../../src/presets.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { DifferentialExecutor, ExecutorDisagreement } from './index.js';

/** An interpreter that is made wrong: by changing the program it is given, or what a run leaves behind. */
class WrongExecutor implements Executor {
  readonly name = 'wrong';
  readonly #interpreter: InterpreterExecutor;

  constructor(
    runtime: BpfRuntime,
    readonly rewrite: (insn: Insn) => Insn,
    readonly meddle: (frames: FrameRing, slot: number, batch: boolean) => void = () => undefined,
  ) {
    this.#interpreter = new InterpreterExecutor(runtime);
  }

  async load(program: Program, environment: ExecutionEnvironment): Promise<LoadedProgram> {
    return this.loadNow(program, environment);
  }

  loadNow(program: Program, environment: ExecutionEnvironment): LoadedProgram {
    const insns = program.insns.map(this.rewrite);
    const loaded = this.#interpreter.loadNow({ ...program, insns }, environment);
    return {
      name: loaded.name,
      executor: 'wrong',
      work: loaded.work,
      id: loaded.id,
      openFrames: (slots) => loaded.openFrames(slots),
      get lastFault() {
        return loaded.lastFault;
      },
      run: (frames, slot) => {
        const outcome = loaded.run(frames, slot);
        this.meddle(frames as FrameRing, slot, false);
        return outcome;
      },
      runBatch: (frames, first, count) => {
        const aborted = loaded.runBatch(frames, first, count);
        this.meddle(frames as FrameRing, first, true);
        return aborted;
      },
      call: (r1, r2) => loaded.call(r1, r2),
      close: () => loaded.close(),
    };
  }
}

const same = (insn: Insn): Insn => insn;

class Bench {
  readonly runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  readonly ring = new FrameRing(this.runtime.space, 4);
  readonly map: ResidentMap;
  readonly traces: string[] = [];
  insnLimit: number | undefined;
  countWork = false;

  constructor() {
    const map = new MemoryMapBackend(this.runtime).create(
      { type: BPF_MAP_TYPE.BPF_MAP_TYPE_ARRAY, keySize: 4, valueSize: 8, maxEntries: 2, flags: 0 },
      { name: 'counters' },
    );
    if (typeof map === 'number' || !isResidentMap(map)) throw new Error('no map');
    this.map = map;
    for (let slot = 0; slot < this.ring.slots; slot++) this.load(slot);
  }

  load(slot: number): void {
    this.ring.load(
      slot,
      Uint8Array.from({ length: 60 }, (_, i) => i + slot),
    );
  }

  async program(text: string, ...executors: Executor[]): Promise<LoadedProgram> {
    const named = new Map(executors.map((executor) => [executor.name, executor]));
    const factory = { open: async (name: string) => named.get(name)! };
    const executor = new DifferentialExecutor(this.runtime, factory, { executors: [...named.keys()] });
    await executor.start();
    return executor.load(programOf(text), {
      maps: new Map([[1, this.map]]),
      world: { trace: (line) => void this.traces.push(line) },
      insnLimit: this.insnLimit,
      countWork: this.countWork,
    });
  }

  /** Value of the first counter. */
  get counter(): number {
    const value = this.map.lookup(new Uint8Array(4)) as Uint8Array;
    return value[0]!;
  }
}

function programOf(text: string): Program {
  return {
    name: 'main',
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    insns: assemble(text),
  };
}

/** Counts in the map, changes a byte of the packet, draws a random number, prints, returns a number. */
const EVERYTHING = `
  r6 = r1
  *(u32 *)(r10 -4) = 0
  r2 = r10
  r2 += -4
  r1 = map[fd:1]
  call bpf_map_lookup_elem
  if r0 == 0 goto out
  r1 = 1
  lock *(u64 *)(r0 +0) += r1
  r7 = *(u32 *)(r6 +0)
  r2 = *(u32 *)(r6 +4)
  r3 = r7
  r3 += 14
  if r3 > r2 goto out
  r1 = *(u8 *)(r7 +12)
  r1 ^= 85
  r1 *= 3
  *(u8 *)(r7 +12) = r1
  call bpf_get_prandom_u32
  *(u32 *)(r10 -8) = 680997
  r1 = r10
  r1 += -8
  r2 = 4
  r3 = r0
  call bpf_trace_printk
  r0 = 2
  exit
out:
  r0 = 1
  exit
`;

function disagreementOf(run: () => unknown): ExecutorDisagreement {
  try {
    run();
  } catch (error) {
    if (error instanceof ExecutorDisagreement) return error;
    throw error;
  }
  throw new Error('no disagreement was found');
}

describe('executors that agree', () => {
  it('leave what one run leaves', async () => {
    const bench = new Bench();
    const program = await bench.program(
      EVERYTHING,
      new InterpreterExecutor(bench.runtime),
      new WasmExecutor(bench.runtime, { checked: false }),
    );
    expect(program.run(bench.ring, 0)).toEqual({ verdict: 2 });
    expect(program.run(bench.ring, 1)).toEqual({ verdict: 2 });
    expect(bench.counter).toBe(2);
    expect(bench.ring.packet(0)[12]).toBe(((12 ^ 85) * 3) & 0xff);
    expect(bench.traces).toHaveLength(2);
    expect(program.runBatch(bench.ring, 2, 2)).toBe(0);
    expect(bench.counter).toBe(4);
    expect(bench.traces).toHaveLength(4);
    expect(bench.ring.verdict(3)).toBe(2);
  });

  it('agree on values that are given to a program', async () => {
    const bench = new Bench();
    const program = await bench.program(
      'r0 = r1\nr0 -= r2\nexit',
      new InterpreterExecutor(bench.runtime),
      new WasmExecutor(bench.runtime, { checked: false }),
    );
    expect(program.call!(5n, 7n)).toEqual({ r0: 0xfffffffffffffffen });
  });

  it('agree on a fault, wherever it is noticed', async () => {
    const bench = new Bench();
    const beyond = 'r1 = 0x7fff0000ll\n*(u32 *)(r1 +0) = 1\nr0 = 1\nexit';
    const program = await bench.program(
      beyond,
      new InterpreterExecutor(bench.runtime),
      new WasmExecutor(bench.runtime, { checked: false }),
    );
    expect(program.run(bench.ring, 0).fault?.reason).toContain('belongs to no object');
    expect(program.lastFault?.insn).toBe(2);
    expect(program.runBatch(bench.ring, 0, 4)).toBe(4);
  });
});

describe('a disagreement', () => {
  const wrongMultiplication = (bench: Bench): WrongExecutor =>
    new WrongExecutor(bench.runtime, (insn) =>
      insn.opcode === (op.BPF_ALU64 | op.BPF_MUL | op.BPF_K) ? { ...insn, imm: insn.imm + 1 } : insn,
    );

  it('is found, reported and shrunk', async () => {
    const bench = new Bench();
    const program = await bench.program(
      EVERYTHING,
      new InterpreterExecutor(bench.runtime),
      wrongMultiplication(bench),
    );
    const error = disagreementOf(() => program.run(bench.ring, 0));
    expect(error.code).toBe('executor-disagreement');
    expect(error.summary).toMatch(
      /^executors interpreter and wrong disagree on program main: byte 12 of the packet in slot 0 \(in the word/,
    );
    expect(error.message).toContain('r1 *= 3');
    expect(error.message).toContain('packet (60 bytes): 000102030405060708090a0b0c0d0e0f');
    expect(error.message).toContain('map counters (BPF_MAP_TYPE_ARRAY, handle 1)');

    const { insns } = error.parts.program;
    expect(error.parts.originalLength).toBe(programOf(EVERYTHING).insns.length);
    expect(insns.some((insn) => insn.opcode === (op.BPF_ALU64 | op.BPF_MUL | op.BPF_K))).toBe(true);
    expect(insns.length).toBeLessThan(14);
    expect(error.message).toContain(`shrunk from ${error.parts.originalLength}`);
  });

  it('leaves memory as the first executor made it', async () => {
    const bench = new Bench();
    const program = await bench.program(
      EVERYTHING,
      new InterpreterExecutor(bench.runtime),
      wrongMultiplication(bench),
    );
    disagreementOf(() => program.run(bench.ring, 0));
    expect(bench.counter).toBe(1);
    expect(bench.ring.packet(0)[12]).toBe(((12 ^ 85) * 3) & 0xff);
  });

  const meddlers: Readonly<
    Record<string, { wrong: (runtime: BpfRuntime) => WrongExecutor; difference: string }>
  > = {
    'in the verdict': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, (insn) =>
          insn.opcode === (op.BPF_ALU64 | op.BPF_MOV) && insn.imm === 2 && insn.dst === 0
            ? { ...insn, imm: 1 }
            : insn,
        ),
      difference: 'verdict 2 (XDP_PASS) against verdict 1 (XDP_DROP)',
    },
    'in a map': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, (insn) =>
          insn.imm === op.BPF_ADD && insn.opcode === 0xdb ? { ...insn, src: 10 } : insn,
        ),
      difference: 'byte 0 of the value of map counters, element 0',
    },
    'in the context': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, same, (frames, slot) => {
          frames.space.i32[(frames.address(slot) + 4) >> 2]! -= 1;
        }),
      difference: 'the frame in slot 0 (ctx->data_end)',
    },
    'in another slot': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, same, (frames) => {
          frames.space.u8[frames.address(3) + 64 + 256 + 59] = 0xee;
        }),
      difference: 'byte 59 of the packet in slot 3',
    },
    'in the headroom': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, same, (frames, slot) => {
          frames.space.u8[frames.address(slot) + 64 + 255] = 1;
        }),
      difference: 'the headroom in slot 0, 1 bytes before the packet',
    },
    'in the redirect': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, same, (frames, slot) => {
          frames.space.i32[(frames.address(slot) + 40) >> 2] = 9;
        }),
      difference: 'the frame in slot 0 (redirect: target)',
    },
    'in the random numbers drawn': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, (insn) =>
          insn.opcode === op.OP_CALL && insn.imm === 7 ? { ...insn, imm: 5 } : insn,
        ),
      difference: 'state of bpf_get_prandom_u32',
    },
    'by breaking down': {
      wrong: (runtime) =>
        new WrongExecutor(runtime, same, () => {
          throw new TypeError('undefined is not a function');
        }),
      difference: 'broke down: undefined is not a function',
    },
  };
  for (const [what, { wrong, difference }] of Object.entries(meddlers)) {
    it(`is found ${what}`, async () => {
      const bench = new Bench();
      const program = await bench.program(
        EVERYTHING,
        new InterpreterExecutor(bench.runtime),
        wrong(bench.runtime),
      );
      expect(disagreementOf(() => program.run(bench.ring, 0)).summary).toContain(difference);
    });
  }

  describe('on what a run did', () => {
    /** Sets R3 twice; what jumps over the first of them leaves the same. */
    const text = 'r3 = 1\nr3 = 2\ncall bpf_get_smp_processor_id\ncall bpf_ktime_get_ns\nr0 = 2\nexit';
    const skip = (insn: Insn): Insn =>
      insn.imm === 1 && insn.dst === 3
        ? { opcode: op.BPF_JMP | op.BPF_JA, dst: 0, src: 0, off: 1, imm: 0 }
        : insn;
    const other = (insn: Insn): Insn =>
      insn.opcode === op.OP_CALL && insn.imm === 8 ? { ...insn, imm: 5 } : insn;

    // In the smallest program there is: what jumps, what is jumped over, and the exit; or a call and the exit.
    it.each([
      ['insns', skip, '3 insns counted against 2'],
      ['calls', other, '0 calls of bpf_ktime_get_ns counted against 1'],
    ])('is found in its %s, alone and in a batch', async (_, rewrite, difference) => {
      const bench = new Bench();
      bench.countWork = true;
      const wrong = new WrongExecutor(bench.runtime, rewrite);
      const program = await bench.program(text, new InterpreterExecutor(bench.runtime), wrong);
      expect(disagreementOf(() => program.run(bench.ring, 0)).summary).toContain(difference);
      disagreementOf(() => program.runBatch(bench.ring, 0, 4));
    });

    it('is none where it is not counted', async () => {
      const bench = new Bench();
      const wrong = new WrongExecutor(bench.runtime, skip);
      const program = await bench.program(text, new InterpreterExecutor(bench.runtime), wrong);
      expect(program.run(bench.ring, 0)).toEqual({ verdict: 2 });
    });

    it('is none after a fault, and the work of the first is what is told', async () => {
      const bench = new Bench();
      bench.countWork = true;
      const program = await bench.program(
        'r2 = 0\nr3 = 1\nif r2 == 0 goto pc+1\nr3 = 2\nr1 = 0x7fff0000ll\n*(u32 *)(r1 +0) = r3\nr0 = 1\nexit',
        new InterpreterExecutor(bench.runtime),
        new WasmExecutor(bench.runtime, { checked: false }),
      );
      expect(program.run(bench.ring, 0).fault).toBeDefined();
      expect(program.work?.insns).toBe(5);
    });
  });

  it('is found when one does not notice a fault', async () => {
    const bench = new Bench();
    const wrong = new WrongExecutor(bench.runtime, (insn) =>
      insn.opcode === 0x63 ? { ...insn, opcode: 0x05, off: 0, dst: 0, src: 0 } : insn,
    );
    const text = 'r1 = 0x7fff0000ll\nr0 = 1\n*(u32 *)(r1 +0) = r0\nexit';
    const program = await bench.program(text, new InterpreterExecutor(bench.runtime), wrong);
    const error = disagreementOf(() => program.run(bench.ring, 0));
    expect(error.summary).toContain('fault at insn 3: ');
    expect(error.summary).toContain('against verdict 1');
  });

  it('is found when one goes on and on', async () => {
    const bench = new Bench();
    bench.insnLimit = 1000;
    // R7 is never -1.
    const wrong = new WrongExecutor(bench.runtime, (insn) =>
      insn.opcode === 0x55 && insn.imm === 0 ? { ...insn, imm: -1 } : insn,
    );
    const text = 'r7 = 4\nagain: r7 &= 1\nif r7 != 0 goto again\nr0 = 2\nexit';
    const program = await bench.program(text, new InterpreterExecutor(bench.runtime), wrong);
    const { summary } = disagreementOf(() => program.run(bench.ring, 0));
    expect(summary).toMatch(
      /verdict \d \(XDP_\w+\) against fault at insn \d+: the limit of \d+ insns is used up/,
    );
  });

  it('is none where the first has used up its insns and another comes to its end', async () => {
    const bench = new Bench();
    bench.insnLimit = 1000;
    const shorter = new WrongExecutor(bench.runtime, (insn) =>
      insn.imm === 5000 ? { ...insn, imm: 1 } : insn,
    );
    const text = 'r7 = 5000\nagain: r7 += -1\nif r7 != 0 goto again\nr0 = 2\nexit';
    const program = await bench.program(text, new InterpreterExecutor(bench.runtime), shorter);
    const { verdict, fault } = program.run(bench.ring, 0);
    expect(verdict).toBe(0);
    expect(fault?.reason).toBe('the limit of 1000 insns is used up');
    expect(program.runBatch(bench.ring, 0, 2)).toBe(2);
  });

  it('is found in a batch, and traced to its frame', async () => {
    const bench = new Bench();
    // Wrong for frames whose first byte is 2.
    const wrong = new WrongExecutor(bench.runtime, (insn) =>
      insn.opcode === 0x15 && insn.imm === 2 ? { ...insn, imm: 1 } : insn,
    );
    const text = `
      r1 = *(u32 *)(r1 +0)
      r1 = *(u8 *)(r1 +0)
      r0 = 1
      if r1 == 2 goto out
      r0 = 2
    out:
      exit`;
    const program = await bench.program(text, new InterpreterExecutor(bench.runtime), wrong);
    const error = disagreementOf(() => program.runBatch(bench.ring, 2, 4));
    expect(error.message).toContain('packet (60 bytes): 020304');
  });

  it('is found when only the batch goes wrong', async () => {
    const bench = new Bench();
    const wrong = new WrongExecutor(bench.runtime, same, (frames, slot, batch) => {
      if (batch) frames.space.u8[frames.address(slot) + 64 + 256] = 0xaa;
    });
    const program = await bench.program('r0 = 1\nexit', new InterpreterExecutor(bench.runtime), wrong);
    expect(program.run(bench.ring, 0)).toEqual({ verdict: 1 });
    expect(disagreementOf(() => program.runBatch(bench.ring, 0, 4)).summary).toContain('in a batch, ');
  });
});

describe('loading', () => {
  it('fails as a whole when one executor cannot', async () => {
    const bench = new Bench();
    const regions = bench.runtime.space.regions.length;
    const refusing: Executor = {
      name: 'refusing',
      load: async () => Promise.reject(new Error('cannot')),
    };
    await expect(
      bench.program('r0 = 1\nexit', new InterpreterExecutor(bench.runtime), refusing),
    ).rejects.toThrow('cannot');
    expect(bench.runtime.space.regions).toHaveLength(regions);
  });

  it('gives everything back when the program is closed', async () => {
    const bench = new Bench();
    const regions = bench.runtime.space.regions.length;
    const program = await bench.program(
      EVERYTHING,
      new InterpreterExecutor(bench.runtime),
      new WasmExecutor(bench.runtime, { checked: false }),
    );
    program.run(bench.ring, 0);
    program.close();
    expect(bench.runtime.space.regions).toHaveLength(regions);
  });
});

describe('the plugin', () => {
  async function open(config: unknown): Promise<Executor> {
    const registry = new PluginRegistry(BUILT_IN_PLUGINS);
    const choose = (role: 'executor' | 'map-backend' | 'verifier', name: string, withConfig?: unknown) =>
      choosePlugin(registry, role, name, process.cwd(), withConfig);
    const lifecycle = new LifecycleManager();
    const instances = new PluginInstances(new Scope('test'), lifecycle, (name) => choose('executor', name));
    const party = await instances.openParty('party', {
      mapBackend: await choose('map-backend', 'memory'),
      executor: await choose('executor', 'differential', config),
      verifiers: { rule: 'all', choices: [await choose('verifier', 'structural')] },
    });
    const loaded = await party.executor.load(programOf('r0 = 2\nexit'), {
      maps: new Map(),
      world: { trace() {} },
    });
    const frames = loaded.openFrames(1);
    frames.load(0, new Uint8Array(60));
    expect(loaded.run(frames, 0).verdict).toBe(2);
    await lifecycle.stop();
    return party.executor;
  }

  it('opens the executors it compares by name', async () => {
    expect((await open({})).name).toBe('differential');
  });

  it('names an executor that is not there', async () => {
    await expect(open({ executors: ['interpreter', 'wasn'] })).rejects.toThrow(
      "no executor plugin is called 'wasn'",
    );
  });

  it('does not compare itself with itself', async () => {
    await expect(open({ executors: ['interpreter', 'differential'] })).rejects.toThrow(
      'cannot be compared with itself',
    );
  });

  it('asks for two executors', async () => {
    await expect(open({ executors: ['interpreter'] })).rejects.toThrow();
  });
});
