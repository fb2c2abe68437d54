import { beforeEach, describe, expect, it } from 'vitest';
import { assemble } from '../../src/bpf/assembler.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import type { InsnCounts } from '../../src/core/contract/insn-coverage.js';
import { MemoryMapBackend } from '../map-backend-memory/memory-map-backend.js';
import { InterpreterExecutor } from './interpreter-executor.js';
import type { InterpretedProgram } from './interpreted-program.js';
import { isLddw } from '../../src/bpf/insn.js';
import {
  BPF_CALL,
  BPF_CLASS_MASK,
  BPF_EXIT,
  BPF_JA,
  BPF_JMP,
  BPF_JMP32,
  BPF_OP_MASK,
} from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import {
  clearSlot,
  generateCase,
  loadCase,
  openRing,
} from '../../src/conformance/program-generator/index.js';
import type { Location } from '../../src/core/contract/program-debugging.js';

let runtime: BpfRuntime;
let executor: InterpreterExecutor;

beforeEach(() => {
  runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
  executor = new InterpreterExecutor(runtime);
});

interface LoadOptions {
  readonly byHandle?: ReadonlyMap<number, BpfMap>;
  readonly insnLimit?: number;
  readonly covered?: boolean;
}

function load(
  text: string,
  { byHandle = new Map(), insnLimit, covered = true }: LoadOptions = {},
): { program: InterpretedProgram; counts: InsnCounts } {
  const insns = assemble(text);
  const counts = {
    executed: new Float64Array(insns.length),
    taken: new Float64Array(insns.length),
  };
  const program = executor.loadNow(
    { name: 'test', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns },
    { maps: byHandle, world: { trace() {} }, insnLimit, ...(covered ? { coverage: counts } : {}) },
  );
  return { program, counts };
}

const listOf = (counts: Float64Array): number[] => [...counts];

describe('coverage in the interpreter', () => {
  it('counts each insn, and each way of a conditional jump', () => {
    const { program, counts } = load('r0 = 1\nif r1 > 5 goto big\nr0 = 2\ngoto end\nbig: r0 = 3\nend: exit');
    expect(program.call(1n, 0n)).toEqual({ r0: 2n });
    expect(program.call(9n, 0n)).toEqual({ r0: 3n });
    expect(program.call(7n, 0n)).toEqual({ r0: 3n });
    expect(listOf(counts.executed)).toEqual([3, 3, 1, 1, 2, 3]);
    expect(listOf(counts.taken)).toEqual([0, 2, 0, 0, 0, 0]);
  });

  it('counts each round of a loop, of a block that is a loop by itself as well', () => {
    const { program, counts } = load('r0 = 0\nagain: r0 += 1\nif r0 < r1 goto again\nexit');
    expect(program.call(4n, 0n)).toEqual({ r0: 4n });
    expect(listOf(counts.executed)).toEqual([1, 4, 4, 1]);
    expect(listOf(counts.taken)).toEqual([0, 0, 3, 0]);
    // Below the first round's bound, the jump is not taken.
    program.call(0n, 0n);
    expect(listOf(counts.executed)).toEqual([2, 5, 5, 2]);
    expect(listOf(counts.taken)).toEqual([0, 0, 3, 0]);
  });

  it('counts local functions as often as they are called', () => {
    const { program, counts } = load(
      'r6 = r1\ncall sub\nr1 = r6\ncall sub\nexit\nsub: if r1 == 7 goto out\nr0 = 1\nout: exit',
    );
    program.call(7n, 0n);
    program.call(8n, 0n);
    expect(listOf(counts.executed)).toEqual([2, 2, 2, 2, 2, 4, 2, 4]);
    expect(listOf(counts.taken)).toEqual([0, 0, 0, 0, 0, 2, 0, 0]);
  });

  it('counts callbacks in each round, and nothing of the caller twice', () => {
    const { program, counts } = load(
      'r1 = 5\nr2 = subprog[round]\nr3 = 0\nr4 = 0\ncall bpf_loop\nexit\nround: r0 = 0\nif r1 != 2 goto out\nr0 = 1\nout: exit',
    );
    // Rounds 0, 1 and 2; the third returns 1 and ends the loop.
    expect(program.call(0n, 0n)).toEqual({ r0: 3n });
    expect(listOf(counts.executed).filter((_, slot) => slot !== 2)).toEqual([1, 1, 1, 1, 1, 1, 3, 3, 1, 3]);
    expect(listOf(counts.taken)[8]).toBe(2);
  });

  it('counts the target of a tail call with its own counts, and nothing behind the call', () => {
    const maps = new MemoryMapBackend(runtime);
    const type = BPF_MAP_TYPE.BPF_MAP_TYPE_PROG_ARRAY;
    const attributes = { type, keySize: 4, valueSize: 4, maxEntries: 2, flags: 0 };
    const array = maps.create(attributes, { name: 'jump' }) as BpfMap;
    const byHandle = new Map([[1, array]]);
    const entry = load('r2 = map[fd:1]\nr3 = 0\ncall bpf_tail_call\nr0 = 2\nexit', { byHandle });
    const target = load('r0 = 1\nexit');
    expect(entry.program.call(0n, 0n)).toEqual({ r0: 2n });
    expect(array.setProgram!(0, target.program.id)).toBe(0);
    expect(entry.program.call(0n, 0n)).toEqual({ r0: 1n });
    expect(listOf(entry.counts.executed).slice(2)).toEqual([2, 2, 1, 1]);
    expect(listOf(target.counts.executed)).toEqual([1, 1]);
  });

  it('counts up to the insn that faulted and no further', () => {
    const { program, counts } = load('r2 = 1\nr3 = *(u8 *)(r2 + 0)\nr0 = 2\nexit');
    expect(program.call(0n, 0n)).toMatchObject({ fault: { insn: 1 } });
    expect(listOf(counts.executed)).toEqual([1, 1, 0, 0]);
  });

  it('keeps what jumps compared last, where it is asked to', () => {
    const insns = assemble(
      'r0 = 0\nif r1 == -2 goto out\nif w1 > r2 goto out\nr0 = 1\nout: exit'.replace('r2', 'w2'),
    );
    const counts = {
      executed: new Float64Array(insns.length),
      taken: new Float64Array(insns.length),
      operands: new Int32Array(4 * insns.length),
    };
    const program = executor.loadNow(
      { name: 'test', type: 6, attachType: 'BPF_XDP', gplCompatible: true, insns },
      { maps: new Map(), world: { trace() {} }, coverage: counts },
    );
    program.call(0x5_0000_0007n, 9n);
    expect([...counts.operands.subarray(4, 12)]).toEqual([7, 5, -2, -1, 7, 5, 9, 0]);
    // The second is not reached any more.
    program.call(-2n, 1n);
    expect([...counts.operands.subarray(4, 12)]).toEqual([-2, -1, -2, -1, 7, 5, 9, 0]);
  });

  it('gives the verdicts, counts and limits that a run without gives', () => {
    const text = 'r0 = 0\nagain: r0 += 1\nif r0 < r1 goto again\nexit';
    const plain = load(text, { covered: false, insnLimit: 1000 });
    const covered = load(text, { insnLimit: 1000 });
    for (const rounds of [1n, 10n, 400n, 499n, 500n, 501n, 5000n]) {
      const expected = plain.program.call(rounds, 0n);
      const insns = plain.program.executedInsns;
      expect(covered.program.call(rounds, 0n), `${rounds} rounds`).toEqual(expected);
      if ('r0' in expected) expect(covered.program.executedInsns).toBe(insns);
    }
  });
});

/** Counts of each program of a case by its name, as an executor counts them or as somebody who steps does. */
type CountsByProgram = Map<string, { executed: number[]; taken: number[] }>;

function countsOf(programs: readonly Program[]): CountsByProgram {
  const zeros = (program: Program): number[] => program.insns.map(() => 0);
  return new Map(programs.map((each) => [each.name, { executed: zeros(each), taken: zeros(each) }]));
}

/** Runs a generated case insn by insn and counts what is seen, without the code under test. */
async function stepThrough(seed: number): Promise<CountsByProgram> {
  const generated = generateCase(seed);
  const space = new BpfRuntime({ memoryBytes: 2 << 20 });
  const options = {
    runtime: space,
    backend: new MemoryMapBackend(space),
    executor: new InterpreterExecutor(space),
  };
  const ring = openRing(generated, space, 1);
  const loaded = await loadCase(generated, options);
  const counts = countsOf(generated.programs);
  let jump: Location | undefined;
  const stepper = loaded.program.debug!({
    onInsn(at) {
      if (jump !== undefined) {
        const { off } = jump.program.insns[jump.insn]!;
        if (at.insn === jump.insn + 1 + off && off !== 0) counts.get(jump.program.name)!.taken[jump.insn]!++;
      }
      counts.get(at.program.name)!.executed[at.insn]!++;
      const { opcode } = at.program.insns[at.insn]!;
      const kind = opcode & BPF_CLASS_MASK;
      const isConditional =
        (kind === BPF_JMP || kind === BPF_JMP32) &&
        ![BPF_JA, BPF_CALL, BPF_EXIT].includes(opcode & BPF_OP_MASK);
      jump = isConditional ? at : undefined;
    },
  });
  for (const frame of generated.frames) {
    clearSlot(ring, 0);
    ring.load(0, frame.packet, frame.metadata);
    for (let state = stepper.start(ring, 0); state.state === 'paused'; state = stepper.step());
    jump = undefined;
  }
  loaded.close();
  return counts;
}

async function runCovered(seed: number): Promise<CountsByProgram> {
  const generated = generateCase(seed);
  const space = new BpfRuntime({ memoryBytes: 2 << 20 });
  const interpreter = new InterpreterExecutor(space);
  const counted = new Map<string, InsnCounts>();
  const covering = {
    name: 'covering',
    async load(program: Program, environment: Parameters<InterpreterExecutor['load']>[1]) {
      const slots = program.insns.length;
      const coverage = { executed: new Float64Array(slots), taken: new Float64Array(slots) };
      counted.set(program.name, coverage);
      return interpreter.load(program, { ...environment, coverage });
    },
  };
  const options = { runtime: space, backend: new MemoryMapBackend(space), executor: covering };
  const ring = openRing(generated, space, 1);
  const loaded = await loadCase(generated, options);
  for (const frame of generated.frames) expect(loaded.run(ring, frame).fault, `seed ${seed}`).toBeUndefined();
  loaded.close();
  const counts = countsOf(generated.programs);
  for (const { name, insns } of generated.programs) {
    const { executed, taken } = counted.get(name)!;
    insns.forEach((insn, slot) => {
      if (slot > 0 && isLddw(insns[slot - 1]) && insn.opcode === 0) return;
      counts.get(name)!.executed[slot] = executed[slot]!;
      counts.get(name)!.taken[slot] = taken[slot]!;
    });
  }
  return counts;
}

describe('coverage of random programs', () => {
  it('is what somebody counts who steps through them', async () => {
    let taken = 0;
    for (let seed = 1; seed <= 150; seed++) {
      const covered = await runCovered(seed);
      expect(covered, `seed ${seed}`).toEqual(await stepThrough(seed));
      for (const counts of covered.values()) taken += counts.taken.filter((count) => count > 0).length;
    }
    // So that it is not about straight lines.
    expect(taken).toBeGreaterThan(100);
  });
});
