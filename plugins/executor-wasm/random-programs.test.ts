import { describe, expect, it } from 'vitest';
import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../src/bpf/program.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type { ExecutionEnvironment } from '../../src/core/contract/executor.js';
import { Oracle } from './testing-oracle.js';
import { WasmExecutor } from './wasm-executor.js';

/**
 * Random programs against a second, naive implementation of RFC 9669 on BigInt: arithmetic of all kinds,
 * byte swaps, jumps (so wild that many graphs are irreducible), stack and buffer access of all sizes, atomics,
 * pointers into the stack by constants and by variables, and local calls.
 */

const PROGRAMS = 300;
const BUFFER_SIZE = 64;
const FUEL = 40;

describe('random programs', () => {
  it('agree with a naive interpreter of RFC 9669', async () => {
    const runtime = new BpfRuntime({ memoryBytes: 1 << 20 });
    const buffer = runtime.space.allocate(BUFFER_SIZE, {
      kind: 'scratch',
      label: 'the buffer',
      access: 'read-write',
    });
    const ring = new FrameRing(runtime.space, 1);
    const executors = [
      new WasmExecutor(runtime, { checked: false }),
      new WasmExecutor(runtime, { checked: true }),
    ];
    for (let seed = 1; seed <= PROGRAMS; seed++) {
      const packet = seed % 2 === 0;
      const program = new Generator(seed, packet).program();
      for (const executor of executors) {
        const environment: ExecutionEnvironment = {
          maps: new Map(),
          world: { trace() {} },
          countWork: true,
        };
        const loaded = await executor.load(program, environment);
        const stack = runtime.space.regions.find((region) => region.label === 'the stack')!;
        const initial = Uint8Array.from({ length: BUFFER_SIZE }, (_, i) => (i * 37 + seed) & 0xff);
        ring.load(0, initial);
        runtime.space.write(buffer.start, initial);
        const data = packet ? ring.address(0) + 64 + 256 : buffer.start;
        const r1 = packet ? ring.address(0) : buffer.start;

        const before = loaded.work!.insns;
        const oracle = new Oracle(program.insns, runtime.space.u8.slice());
        const expected = oracle.run([BigInt(r1), packet ? 0n : 64n], stack.start + 512);

        if (packet) {
          const outcome = loaded.run(ring, 0);
          expect(outcome, `seed ${seed}`).toEqual({ verdict: Number(BigInt.asUintN(32, expected)) });
        } else {
          expect(loaded.call!(BigInt(r1), 64n), `seed ${seed}`).toEqual({ r0: expected });
        }
        expect(runtime.space.read(data, BUFFER_SIZE), `seed ${seed}`).toEqual(
          oracle.memory.slice(data, data + BUFFER_SIZE),
        );
        expect(loaded.work!.insns - before, `seed ${seed}`).toBe(oracle.executed);
        loaded.close();
      }
    }
  });
});

/** A program of which every insn is defined whatever happens; loops end because they use up fuel. */
class Generator {
  #state: number;
  /** Jumps by the slot they are in and the item they go to. */
  readonly #fixups: { readonly slot: number; readonly item: number }[] = [];
  readonly #calls: number[] = [];
  readonly #insns: Insn[] = [];

  constructor(
    seed: number,
    readonly packet: boolean,
  ) {
    this.#state = Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995;
  }

  program(): Program {
    // R9: 64 bytes of buffer. R8: fuel. The stack's upper 64 bytes are initialised.
    if (this.packet) {
      this.#emit(op.BPF_LDX | op.BPF_MEM | op.BPF_W, 9, 1, 0, 0);
    } else {
      this.#emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 9, 1, 0, 0);
    }
    this.#emit(op.BPF_ALU64 | op.BPF_MOV, 8, 0, 0, FUEL);
    for (let r = 0; r < 8; r++) this.#constant(r);
    for (let at = 8; at <= 64; at += 8) {
      if (this.#below(2) === 0) this.#emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, this.#below(8), -at, 0);
      else {
        this.#emit(op.BPF_ST | op.BPF_MEM | op.BPF_W, 10, 0, -at, this.#word());
        this.#emit(op.BPF_STX | op.BPF_MEM | op.BPF_W, 10, this.#below(8), -at + 4, 0);
      }
    }
    const items: number[] = [];
    const count = 5 + this.#below(40);
    for (let i = 0; i < count; i++) {
      items.push(this.#insns.length);
      this.#item(count);
    }
    const end = this.#insns.length;
    for (let r = 1; r < 8; r++) {
      this.#emit(op.BPF_ALU64 | op.BPF_MUL, 0, 0, 0, 31);
      this.#emit(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, r, 0, 0);
    }
    for (let at = 8; at <= 64; at += 8) {
      this.#emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 7, 10, -at, 0);
      this.#emit(op.BPF_ALU64 | op.BPF_MUL, 0, 0, 0, 31);
      this.#emit(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, 0, 7, 0, 0);
    }
    // A verdict is 32 bits wide; fold the upper half in.
    this.#emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 1, 0, 0, 0);
    this.#emit(op.BPF_ALU64 | op.BPF_RSH, 1, 0, 0, 32);
    this.#emit(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, 1, 0, 0);
    this.#emit(op.OP_EXIT, 0, 0, 0, 0);
    for (const { slot, item } of this.#fixups) {
      const target = items[item] ?? end;
      this.#insns[slot] = { ...this.#insns[slot]!, off: target - slot - 1 };
    }
    if (this.#calls.length > 0) {
      const start = this.#insns.length;
      this.#emit(op.BPF_STX | op.BPF_MEM | op.BPF_DW, 10, 1, -8, 0);
      for (let i = 0; i < 6; i++) this.#alu(this.#below(6), this.#below(6));
      this.#emit(op.BPF_LDX | op.BPF_MEM | op.BPF_DW, 0, 10, -8, 0);
      this.#emit(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, 2, 0, 0);
      this.#emit(op.OP_EXIT, 0, 0, 0, 0);
      for (const slot of this.#calls) this.#insns[slot] = { ...this.#insns[slot]!, imm: start - slot - 1 };
    }
    return {
      name: 'random',
      type: BPF_PROG_TYPE_XDP,
      attachType: 'BPF_XDP',
      gplCompatible: true,
      insns: this.#insns,
    };
  }

  #item(items: number): void {
    const kind = this.#below(20);
    const [dst, src] = [this.#below(8), this.#below(8)];
    const size = [op.BPF_B, op.BPF_H, op.BPF_W, op.BPF_DW][this.#below(4)]!;
    const bytes = { [op.BPF_B]: 1, [op.BPF_H]: 2, [op.BPF_W]: 4, [op.BPF_DW]: 8 }[size]!;
    const stackAt = -64 + this.#below(64 / bytes) * bytes;
    const bufferAt = this.#below(BUFFER_SIZE - 8);
    const stack = this.#below(2) === 0;
    const [base, at] = stack ? [10, stackAt] : [9, bufferAt];
    if (kind < 7) {
      this.#alu(dst, src);
    } else if (kind < 8) {
      this.#constant(dst);
    } else if (kind < 10) {
      const signed = size !== op.BPF_DW && this.#below(3) === 0;
      this.#emit(op.BPF_LDX | (signed ? op.BPF_MEMSX : op.BPF_MEM) | size, dst, base, at, 0);
    } else if (kind < 12) {
      if (this.#below(3) === 0) this.#emit(op.BPF_ST | op.BPF_MEM | size, base, 0, at, this.#word());
      else this.#emit(op.BPF_STX | op.BPF_MEM | size, base, src, at, 0);
    } else if (kind < 13) {
      const wide = this.#below(2) === 0;
      const operations = [0, 1, 0x40, 0x41, 0x50, 0x51, 0xa0, 0xa1, op.BPF_XCHG, op.BPF_CMPXCHG];
      const place = stack ? -64 + 8 * this.#below(8) : 8 * this.#below(7);
      this.#emit(
        op.BPF_STX | op.BPF_ATOMIC | (wide ? op.BPF_DW : op.BPF_W),
        base,
        src,
        place,
        operations[this.#below(operations.length)]!,
      );
    } else if (kind < 14) {
      // A store and a load through a stack pointer, by a constant or by a variable.
      this.#emit(op.BPF_ALU64 | op.BPF_MOV | op.BPF_X, 7, 10, 0, 0);
      if (this.#below(2) === 0) {
        this.#emit(op.BPF_ALU64 | op.BPF_ADD, 7, 0, 0, -64);
      } else {
        this.#emit(op.BPF_ALU64 | op.BPF_AND, 6, 0, 0, 24);
        this.#emit(op.BPF_ALU64 | op.BPF_ADD, 7, 0, 0, -64);
        this.#emit(op.BPF_ALU64 | op.BPF_ADD | op.BPF_X, 7, 6, 0, 0);
      }
      if (this.#below(2) === 0) this.#emit(op.BPF_STX | op.BPF_MEM | size, 7, this.#below(7), 8, 0);
      this.#emit(op.BPF_LDX | op.BPF_MEM | size, this.#below(7), 7, 16, 0);
      this.#constant(7);
    } else if (kind < 15) {
      for (let r = 1; r <= 5; r++) if (this.#below(3) === 0) this.#constant(r);
      this.#calls.push(this.#insns.length);
      this.#emit(op.OP_CALL, 0, op.BPF_PSEUDO_CALL, 0, 0);
      for (let r = 1; r <= 5; r++) this.#constant(r);
    } else {
      // Fuel first, so that any target will do.
      this.#emit(op.BPF_ALU64 | op.BPF_SUB, 8, 0, 0, 1);
      this.#jump(op.BPF_JMP | op.BPF_JSLE, 8, 0, 0, items);
      const codes = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70, 0xa0, 0xb0, 0xc0, 0xd0];
      const code = codes[this.#below(codes.length)]! | (this.#below(2) === 0 ? op.BPF_JMP : op.BPF_JMP32);
      const target = this.#below(items + 1);
      if (this.#below(5) === 0) this.#jump(op.BPF_JMP | op.BPF_JA, 0, 0, 0, target);
      else if (this.#below(2) === 0) this.#jump(code | op.BPF_X, dst, src, 0, target);
      else this.#jump(code, dst, 0, this.#word(), target);
    }
  }

  #jump(opcode: number, dst: number, src: number, imm: number, item: number): void {
    this.#fixups.push({ slot: this.#insns.length, item });
    this.#emit(opcode, dst, src, 0, imm);
  }

  #alu(dst: number, src: number): void {
    const klass = this.#below(2) === 0 ? op.BPF_ALU : op.BPF_ALU64;
    const operation = this.#below(14) << 4;
    if (operation === op.BPF_END) {
      const swapSource = klass === op.BPF_ALU && this.#below(2) === 0 ? op.BPF_TO_BE : op.BPF_TO_LE;
      this.#emit(klass | operation | swapSource, dst, 0, 0, [16, 32, 64][this.#below(3)]!);
    } else if (operation === op.BPF_NEG) {
      this.#emit(klass | operation, dst, 0, 0, 0);
    } else {
      const divides = operation === op.BPF_DIV || operation === op.BPF_MOD;
      const bits = klass === op.BPF_ALU64 ? 64 : 32;
      const shifts = operation === op.BPF_LSH || operation === op.BPF_RSH || operation === op.BPF_ARSH;
      if (this.#below(2) === 0) {
        const extensions = bits === 64 ? [0, 8, 16, 32] : [0, 8, 16];
        const off = divides
          ? this.#below(2)
          : operation === op.BPF_MOV
            ? extensions[this.#below(extensions.length)]!
            : 0;
        this.#emit(klass | operation | op.BPF_X, dst, src, off, 0);
      } else {
        const imm = shifts ? this.#below(bits) : this.#word();
        this.#emit(klass | operation, dst, 0, divides ? this.#below(2) : 0, imm);
      }
    }
  }

  #constant(register: number): void {
    if (this.#below(2) === 0) {
      this.#emit(op.BPF_ALU64 | op.BPF_MOV, register, 0, 0, this.#word());
    } else {
      this.#emit(op.OP_LDDW, register, 0, 0, this.#word());
      this.#emit(0, 0, 0, 0, this.#word());
    }
  }

  #emit(opcode: number, dst: number, src: number, off: number, imm: number): void {
    this.#insns.push({ opcode, dst, src, off, imm });
  }

  /** A 32-bit number, often one at an edge. */
  #word(): number {
    const edges = [0, 1, -1, 2, 7, 0x7fffffff, -0x80000000, 0xff, 0xffff, 32, 63, 64];
    return this.#below(2) === 0 ? edges[this.#below(edges.length)]! : this.#next() | 0;
  }

  #below(limit: number): number {
    return (this.#next() >>> 8) % limit;
  }

  #next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#state;
  }
}
