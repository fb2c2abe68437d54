import type { Insn } from '../../src/bpf/insn.js';
import * as op from '../../src/bpf/opcodes.js';
import { FRAME_STRIDE } from './program-table.js';

/** What an oracle does beyond the insns themselves. */
export interface OracleWorld {
  /** Judges an access before it is made: throws if it may not be. */
  access?(address: bigint, size: number, write: boolean, slot: number): void;
  /** A helper: takes R1 to R5 from the registers and gives R0. */
  helper?(id: number, registers: readonly bigint[], slot: number): bigint;
  /** What an `lddw` with a source loads. */
  lddw?(insn: Insn): bigint;
}

/** RFC 9669, read literally: what executors are compared with. Slow. */
export class Oracle {
  /** Insns so far. */
  executed = 0;
  readonly #view: DataView;

  constructor(
    readonly insns: readonly Insn[],
    readonly memory: Uint8Array,
    readonly world: OracleWorld = {},
  ) {
    this.#view = new DataView(memory.buffer, memory.byteOffset, memory.byteLength);
  }

  run(args: readonly bigint[], frameTop: number, start = 0): bigint {
    const r: bigint[] = new Array<bigint>(11).fill(0n);
    args.forEach((value, i) => (r[i + 1] = value));
    r[10] = BigInt(frameTop);
    for (let pc = start; ; pc++) {
      this.executed++;
      const insn = this.insns[pc]!;
      const { opcode, dst, src, off, imm } = insn;
      const klass = opcode & 7;
      const operand = (opcode & op.BPF_X) !== 0 ? r[src]! : BigInt.asUintN(64, BigInt(imm));
      const size = { [op.BPF_B]: 1, [op.BPF_H]: 2, [op.BPF_W]: 4, [op.BPF_DW]: 8 }[opcode & 0x18]!;
      if (klass === op.BPF_ALU || klass === op.BPF_ALU64) {
        r[dst] = arithmetic(insn, r[dst]!, operand);
      } else if (opcode === op.OP_LDDW) {
        if (src !== 0) {
          r[dst] = this.world.lddw!(insn);
          pc++;
          continue;
        }
        r[dst] = BigInt.asUintN(32, BigInt(imm)) | (BigInt.asUintN(32, BigInt(this.insns[++pc]!.imm)) << 32n);
      } else if (klass === op.BPF_LDX) {
        const value = this.#load(r[src]! + BigInt(off), size, pc);
        r[dst] =
          (opcode & 0xe0) === op.BPF_MEMSX ? BigInt.asUintN(64, BigInt.asIntN(8 * size, value)) : value;
      } else if (klass === op.BPF_ST) {
        this.#store(r[dst]! + BigInt(off), size, BigInt(imm), pc);
      } else if (klass === op.BPF_STX && (opcode & 0xe0) === op.BPF_MEM) {
        this.#store(r[dst]! + BigInt(off), size, r[src]!, pc);
      } else if (klass === op.BPF_STX) {
        const at = r[dst]! + BigInt(off);
        this.#judge(at, size, true, pc);
        const old = this.#load(at, size, pc);
        const value = BigInt.asUintN(8 * size, r[src]!);
        if (imm === op.BPF_CMPXCHG) {
          if (old === BigInt.asUintN(8 * size, r[0]!)) this.#store(at, size, value, pc);
          r[0] = old;
        } else {
          const code = imm & 0xf0;
          const result = {
            [op.BPF_ADD]: old + value,
            [op.BPF_OR]: old | value,
            [op.BPF_AND]: old & value,
            [op.BPF_XOR]: old ^ value,
            [0xe0]: value,
          }[code]!;
          this.#store(at, size, result, pc);
          if ((imm & op.BPF_FETCH) !== 0) r[src] = old;
        }
      } else if (opcode === op.OP_EXIT) {
        return r[0]!;
      } else if (opcode === op.OP_CALL) {
        if (src === op.BPF_CALL_HELPER) {
          r[0] = this.world.helper!(imm, r, pc);
          continue;
        }
        r[0] = this.run(r.slice(1, 6), frameTop + FRAME_STRIDE, pc + 1 + imm);
      } else if ((opcode & 0xf0) === op.BPF_JA || jumps(insn, r[dst]!, operand)) {
        pc += off;
      }
    }
  }

  #judge(address: bigint, size: number, write: boolean, slot: number): number {
    const at = BigInt.asUintN(64, address);
    this.world.access?.(at, size, write, slot);
    return Number(at);
  }

  #load(address: bigint, size: number, slot: number): bigint {
    const at = this.#judge(address, size, false, slot);
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#view.getUint8(at + i));
    return value;
  }

  #store(address: bigint, size: number, value: bigint, slot: number): void {
    const at = this.#judge(address, size, true, slot);
    for (let i = 0; i < size; i++) this.#view.setUint8(at + i, Number((value >> BigInt(8 * i)) & 0xffn));
  }
}

function arithmetic({ opcode, off, imm }: Insn, dst: bigint, src: bigint): bigint {
  const bits = (opcode & 7) === op.BPF_ALU64 ? 64 : 32;
  const [a, b] = [BigInt.asUintN(bits, dst), BigInt.asUintN(bits, src)];
  const [sa, sb] = [BigInt.asIntN(bits, a), BigInt.asIntN(bits, b)];
  const mask = BigInt(bits - 1);
  const compute = (): bigint => {
    switch (opcode & 0xf0) {
      case op.BPF_ADD:
        return a + b;
      case op.BPF_SUB:
        return a - b;
      case op.BPF_MUL:
        return a * b;
      case op.BPF_DIV:
        return b === 0n ? 0n : off === 1 ? sa / sb : a / b;
      case op.BPF_MOD:
        return b === 0n ? a : off === 1 ? sa % sb : a % b;
      case op.BPF_OR:
        return a | b;
      case op.BPF_AND:
        return a & b;
      case op.BPF_XOR:
        return a ^ b;
      case op.BPF_LSH:
        return a << (b & mask);
      case op.BPF_RSH:
        return a >> (b & mask);
      case op.BPF_ARSH:
        return sa >> (b & mask);
      case op.BPF_NEG:
        return -a;
      case op.BPF_MOV:
        return off === 0 ? b : BigInt.asIntN(off, b);
      default:
        return 0n;
    }
  };
  if ((opcode & 0xf0) === op.BPF_END) {
    let value = BigInt.asUintN(imm, dst);
    if (bits === 32 && (opcode & 8) === op.BPF_TO_LE) return value;
    let swapped = 0n;
    for (let i = 0; i < imm; i += 8) {
      swapped = (swapped << 8n) | (value & 0xffn);
      value >>= 8n;
    }
    return swapped;
  }
  return BigInt.asUintN(bits, compute());
}

function jumps({ opcode }: Insn, dst: bigint, src: bigint): boolean {
  const bits = (opcode & 7) === op.BPF_JMP32 ? 32 : 64;
  const [a, b] = [BigInt.asUintN(bits, dst), BigInt.asUintN(bits, src)];
  const [sa, sb] = [BigInt.asIntN(bits, a), BigInt.asIntN(bits, b)];
  const results: Record<number, boolean> = {
    [op.BPF_JEQ]: a === b,
    [op.BPF_JNE]: a !== b,
    [op.BPF_JGT]: a > b,
    [op.BPF_JGE]: a >= b,
    [op.BPF_JLT]: a < b,
    [op.BPF_JLE]: a <= b,
    [op.BPF_JSET]: (a & b) !== 0n,
    [op.BPF_JSGT]: sa > sb,
    [op.BPF_JSGE]: sa >= sb,
    [op.BPF_JSLT]: sa < sb,
    [op.BPF_JSLE]: sa <= sb,
  };
  return results[opcode & 0xf0]!;
}
