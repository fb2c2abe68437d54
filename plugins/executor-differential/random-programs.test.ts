import { describe, expect, it } from 'vitest';
import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import {
  clearSlot,
  generateCase,
  loadCase,
  openRing,
} from '../../src/conformance/program-generator/index.js';
import type { ExecutionEnvironment, Executor } from '../../src/core/contract/executor.js';
import { InterpreterExecutor } from '../executor-interpreter/index.js';
import { WasmExecutor } from '../executor-wasm/index.js';
import { MemoryMapBackend } from '../map-backend-memory/index.js';
import { DifferentialExecutor, ExecutorDisagreement } from './index.js';

/** A slice of what `npm run fuzz:engine` runs by the hundred thousand. */
const PROGRAMS = 300;

async function runCase(seed: number, make: (runtime: BpfRuntime) => readonly Executor[]): Promise<void> {
  const generated = generateCase(seed);
  const runtime = new BpfRuntime({ memoryBytes: 2 << 20 });
  const executors = make(runtime);
  const open = async (name: string): Promise<Executor> =>
    executors.find((executor) => executor.name === name)!;
  const executor = new DifferentialExecutor(
    runtime,
    { open },
    { executors: executors.map(({ name }) => name) },
  );
  await executor.start();
  const ring = openRing(generated, runtime, generated.frames.length);
  const backend = new MemoryMapBackend(runtime);
  const loaded = await loadCase(generated, { runtime, backend, executor, countWork: true });
  try {
    for (const frame of generated.frames) {
      expect(loaded.run(ring, frame).fault, `seed ${seed}`).toBeUndefined();
    }
    generated.frames.forEach((frame, slot) => {
      clearSlot(ring, slot);
      ring.load(slot, frame.packet, frame.metadata);
    });
    expect(loaded.program.runBatch(ring, 1, generated.frames.length), `seed ${seed}`).toBe(0);
  } finally {
    loaded.close();
  }
}

describe('random programs', () => {
  it('mean the same to interpreter and wasm', async () => {
    for (let seed = 1; seed <= PROGRAMS; seed++) {
      await runCase(seed, (runtime) => [
        new InterpreterExecutor(runtime),
        new WasmExecutor(runtime, { checked: false }),
      ]);
    }
  });

  it('mean the same to interpreter and wasm that has programs in the place of tail calls', async () => {
    for (let seed = 1; seed <= PROGRAMS / 3; seed++) {
      await runCase(seed, (runtime) => [
        new InterpreterExecutor(runtime),
        new WasmExecutor(runtime, { checked: false, linkAfter: 1 }),
      ]);
    }
  });

  it('mean the same to interpreter and the checked build of wasm', async () => {
    for (let seed = 1; seed <= PROGRAMS / 6; seed++) {
      await runCase(seed, (runtime) => [
        new InterpreterExecutor(runtime),
        new WasmExecutor(runtime, { checked: true }),
      ]);
    }
  });
});

/** An interpreter that takes one kind of insn for another, as an executor with a slip in it does. */
class SlippingExecutor implements Executor {
  readonly name = 'slipping';
  readonly #interpreter: InterpreterExecutor;

  constructor(
    runtime: BpfRuntime,
    readonly slip: (insn: Insn) => Insn | undefined,
  ) {
    this.#interpreter = new InterpreterExecutor(runtime);
  }

  async load(program: Program, environment: ExecutionEnvironment) {
    const insns = program.insns.map((insn) => this.slip(insn) ?? insn);
    return this.#interpreter.loadNow({ ...program, insns }, environment);
  }
}

const opcode =
  (from: number, to: number) =>
  (insn: Insn): Insn | undefined =>
    insn.opcode === from ? { ...insn, opcode: to } : undefined;
const withImm =
  (from: number, imm: number, other: number) =>
  (insn: Insn): Insn | undefined =>
    insn.opcode === from && insn.imm === imm ? { ...insn, imm: other } : undefined;
const withOff =
  (from: number, off: number, other: number) =>
  (insn: Insn): Insn | undefined =>
    insn.opcode === from && insn.off === off ? { ...insn, off: other } : undefined;

const {
  BPF_ALU,
  BPF_ALU64,
  BPF_JMP,
  BPF_JMP32,
  BPF_K,
  BPF_X,
  BPF_LDX,
  BPF_STX,
  BPF_ATOMIC,
  BPF_MEMSX,
  BPF_MEM,
} = op;

/** One slip for each corner of the instruction set. */
const SLIPS: Readonly<Record<string, (insn: Insn) => Insn | undefined>> = {
  'signed division is unsigned': withOff(BPF_ALU64 | op.BPF_DIV | BPF_X, 1, 0),
  'signed 32-bit modulo is unsigned': withOff(BPF_ALU | op.BPF_MOD | BPF_K, 1, 0),
  'MOVSX from 8 bits takes 16': withOff(BPF_ALU64 | op.BPF_MOV | BPF_X, 8, 16),
  '32-bit MOVSX does not extend': withOff(BPF_ALU | op.BPF_MOV | BPF_X, 16, 0),
  '32-bit arithmetic shift is logical': opcode(BPF_ALU | op.BPF_ARSH | BPF_X, BPF_ALU | op.BPF_RSH | BPF_X),
  '32-bit negation keeps the upper half': opcode(BPF_ALU | op.BPF_NEG, BPF_ALU64 | op.BPF_NEG),
  'be32 swaps 16 bits': withImm(BPF_ALU | op.BPF_END | op.BPF_TO_BE, 32, 16),
  'bswap64 swaps 32 bits': withImm(BPF_ALU64 | op.BPF_END, 64, 32),
  'le16 keeps what is above': withImm(BPF_ALU | op.BPF_END | op.BPF_TO_LE, 16, 64),
  'JSET is JNE': opcode(BPF_JMP | op.BPF_JSET | BPF_K, BPF_JMP | op.BPF_JNE | BPF_K),
  'JSLT of words is of double words': opcode(BPF_JMP32 | op.BPF_JSLT | BPF_X, BPF_JMP | op.BPF_JSLT | BPF_X),
  'JLE is JLT': opcode(BPF_JMP | op.BPF_JLE | BPF_X, BPF_JMP | op.BPF_JLT | BPF_X),
  'LDSXW does not extend': opcode(BPF_LDX | BPF_MEMSX | op.BPF_W, BPF_LDX | BPF_MEM | op.BPF_W),
  'STXH stores a byte': opcode(BPF_STX | BPF_MEM | op.BPF_H, BPF_STX | BPF_MEM | op.BPF_B),
  'an atomic or is an atomic xor': withImm(BPF_STX | BPF_ATOMIC | op.BPF_DW, op.BPF_OR, op.BPF_XOR),
  'a 32-bit fetch does not fetch': withImm(
    BPF_STX | BPF_ATOMIC | op.BPF_W,
    op.BPF_ADD | op.BPF_FETCH,
    op.BPF_ADD,
  ),
  'cmpxchg exchanges always': withImm(BPF_STX | BPF_ATOMIC | op.BPF_DW, op.BPF_CMPXCHG, op.BPF_XCHG),
  'delete is look-up': withImm(op.OP_CALL, 3, 1),
  'boot time is a random number': withImm(op.OP_CALL, 125, 7),
  'adjust_meta is adjust_head': withImm(op.OP_CALL, 54, 44),
};

describe('random programs find', () => {
  for (const [name, slip] of Object.entries(SLIPS)) {
    it(name, async () => {
      let found: number | undefined;
      for (let seed = 1; seed <= 2000 && found === undefined; seed++) {
        // Most programs do not have the insn.
        if (!generateCase(seed).programs.some(({ insns }) => insns.some((insn) => slip(insn) !== undefined)))
          continue;
        try {
          await runCase(seed, (runtime) => [
            new InterpreterExecutor(runtime),
            new SlippingExecutor(runtime, slip),
          ]);
        } catch (error) {
          if (!(error instanceof ExecutorDisagreement)) throw error;
          found = seed;
        }
      }
      expect(found).toBeDefined();
    });
  }
});
