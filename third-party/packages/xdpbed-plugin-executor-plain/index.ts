import { Type } from '@sinclair/typebox';
import { BPF_RUNTIME, definePlugin, EXECUTOR, inject, injectable, XdpbedError } from 'xdpbed';
import type {
  CallOutcome,
  ExecutionEnvironment,
  Executor,
  FrameSlots,
  LoadedProgram,
  RunOutcome,
} from 'xdpbed';
import {
  BPF_ALU,
  BPF_ALU64,
  BPF_CLASS_MASK,
  BPF_JMP,
  BPF_LDX,
  BPF_MEM,
  BPF_MODE_MASK,
  BPF_OP_MASK,
  BPF_SIZE_MASK,
  BPF_SRC_MASK,
  BPF_ST,
  BPF_STX,
  formatInsn,
  FRAME_SLOT,
  FrameRing,
  helperName,
  isLddw,
  MAX_BPF_STACK,
  OP_CALL,
  OP_EXIT,
  openFrames,
  type BpfRuntime,
  type Insn,
  type Program,
} from 'xdpbed/bpf';

type Registers = bigint[];

/** RFC 9669 section 4.1, by opcode bits 4 to 7: the operations that take two operands of 64 bits. */
const ALU: Readonly<Record<number, (dst: bigint, src: bigint) => bigint>> = {
  0x00: (dst, src) => dst + src,
  0x10: (dst, src) => dst - src,
  0x20: (dst, src) => dst * src,
  0x40: (dst, src) => dst | src,
  0x50: (dst, src) => dst & src,
  0x60: (dst, src) => dst << (src & 63n),
  0x70: (dst, src) => dst >> (src & 63n),
  0xa0: (dst, src) => dst ^ src,
  0xb0: (_dst, src) => src,
};

const signed = (value: bigint): bigint => BigInt.asIntN(64, value);

/** RFC 9669 section 4.3: when a jump is taken. */
const JUMPS: Readonly<Record<number, (dst: bigint, src: bigint) => boolean>> = {
  0x00: () => true,
  0x10: (dst, src) => dst === src,
  0x20: (dst, src) => dst > src,
  0x30: (dst, src) => dst >= src,
  0x40: (dst, src) => (dst & src) !== 0n,
  0x50: (dst, src) => dst !== src,
  0x60: (dst, src) => signed(dst) > signed(src),
  0x70: (dst, src) => signed(dst) >= signed(src),
  0xa0: (dst, src) => dst < src,
  0xb0: (dst, src) => dst <= src,
  0xc0: (dst, src) => signed(dst) < signed(src),
  0xd0: (dst, src) => signed(dst) <= signed(src),
};

/** Bytes of an access, by opcode bits 3 and 4. */
const SIZES: Readonly<Record<number, 1 | 2 | 4 | 8>> = { 0x00: 4, 0x08: 2, 0x10: 1, 0x18: 8 };

/**
 * An executor of few features, written against the published package alone: 64-bit arithmetic, jumps, plain loads and stores.
 * It refuses every other insn when it is loaded, and relies on the verifier for the rest.
 */
@injectable()
export class PlainExecutor implements Executor {
  readonly name = 'plain';

  constructor(@inject(BPF_RUNTIME) readonly runtime: BpfRuntime) {}

  async load(program: Program, _environment?: ExecutionEnvironment): Promise<LoadedProgram> {
    program.insns.forEach((insn, slot) => {
      // The second slot of an lddw is no insn of its own.
      if (slot > 0 && isLddw(program.insns[slot - 1]!)) return;
      const why = whyNot(insn);
      if (why === undefined) return;
      const text =
        insn.opcode === OP_CALL && insn.src === 0 ? helperName(insn.imm) : formatInsn(program.insns, slot);
      throw new XdpbedError('executor-unsupported', `insn ${slot} (${text}): executor plain has no ${why}`);
    });
    return new PlainProgram(program, this.runtime);
  }
}

/** What an insn would need; undefined: nothing that there is not. */
function whyNot(insn: Insn): string | undefined {
  const { opcode, off } = insn;
  const operation = opcode & BPF_OP_MASK;
  switch (opcode & BPF_CLASS_MASK) {
    case BPF_ALU64:
      // With an offset, MOV extends a sign (MOVSX).
      return operation in ALU && off === 0 ? undefined : 'such arithmetic';
    case BPF_ALU:
      return 'arithmetic of 32 bits';
    case BPF_JMP:
      if (opcode === OP_EXIT || operation in JUMPS) return undefined;
      return opcode === OP_CALL ? 'calls' : 'such jumps';
    case BPF_LDX:
    case BPF_ST:
    case BPF_STX:
      return (opcode & BPF_MODE_MASK) === BPF_MEM ? undefined : 'accesses but plain ones';
    default:
      if (isLddw(insn)) return insn.src === 0 ? undefined : 'maps';
      return 'such insns';
  }
}

class PlainProgram implements LoadedProgram {
  readonly executor = 'plain';
  readonly lastFault = undefined;
  readonly id: number;
  readonly #stack: ReturnType<BpfRuntime['space']['allocate']>;

  constructor(
    readonly program: Program,
    readonly runtime: BpfRuntime,
  ) {
    this.id = runtime.allocateProgramId();
    this.#stack = runtime.space.allocate(MAX_BPF_STACK, {
      kind: 'stack',
      label: 'the stack',
      access: 'read-write',
    });
  }

  get name(): string {
    return this.program.name;
  }

  openFrames(slots: number, longest?: number): FrameRing {
    return openFrames(this.program, this.runtime, slots, longest);
  }

  run(frames: FrameSlots, slot: number): RunOutcome {
    if (!(frames instanceof FrameRing)) throw new RangeError('the frames lie elsewhere');
    const context = frames.address(slot);
    const verdict = Number(BigInt.asUintN(32, this.#execute(BigInt(context), 0n)));
    // Where FrameSlots.verdict finds it.
    this.runtime.space.view.setUint32(context + FRAME_SLOT.verdict, verdict, true);
    return { verdict };
  }

  runBatch(frames: FrameSlots, first: number, count: number): number {
    for (let i = 0; i < count; i++) this.run(frames, (first + i) % frames.slots);
    return 0;
  }

  call(r1: bigint, r2: bigint): CallOutcome {
    return { r0: this.#execute(r1, r2) };
  }

  close(): void {
    this.runtime.space.free(this.#stack);
  }

  #execute(r1: bigint, r2: bigint): bigint {
    const { insns } = this.program;
    const registers: Registers = Array<bigint>(11).fill(0n);
    registers[1] = r1;
    registers[2] = r2;
    registers[10] = BigInt(this.#stack.start + MAX_BPF_STACK);
    for (let slot = 0; ; slot++) {
      const insn = insns[slot]!;
      const { opcode, dst, src, off, imm } = insn;
      if (opcode === OP_EXIT) return registers[0]!;
      const operand = (opcode & BPF_SRC_MASK) !== 0 ? registers[src]! : BigInt.asUintN(64, BigInt(imm));
      switch (opcode & BPF_CLASS_MASK) {
        case BPF_ALU64:
          registers[dst] = BigInt.asUintN(64, ALU[opcode & BPF_OP_MASK]!(registers[dst]!, operand));
          break;
        case BPF_JMP:
          if (JUMPS[opcode & BPF_OP_MASK]!(registers[dst]!, operand)) slot += off;
          break;
        case BPF_LDX:
          registers[dst] = this.#read(Number(registers[src]) + off, SIZES[opcode & BPF_SIZE_MASK]!);
          break;
        case BPF_ST:
        case BPF_STX: {
          const value = (opcode & BPF_CLASS_MASK) === BPF_STX ? registers[src]! : BigInt(imm);
          this.#write(Number(registers[dst]) + off, SIZES[opcode & BPF_SIZE_MASK]!, value);
          break;
        }
        default: {
          // lddw: the upper half lies in the slot behind it.
          const low = BigInt.asUintN(32, BigInt(imm));
          registers[dst] = (BigInt.asUintN(32, BigInt(insns[++slot]!.imm)) << 32n) | low;
        }
      }
    }
  }

  #read(address: number, size: 1 | 2 | 4 | 8): bigint {
    const { view } = this.runtime.space;
    if (size === 8) return view.getBigUint64(address, true);
    if (size === 4) return BigInt(view.getUint32(address, true));
    return BigInt(size === 2 ? view.getUint16(address, true) : view.getUint8(address));
  }

  #write(address: number, size: 1 | 2 | 4 | 8, value: bigint): void {
    const { view } = this.runtime.space;
    if (size === 8) view.setBigUint64(address, BigInt.asUintN(64, value), true);
    else if (size === 4) view.setUint32(address, Number(BigInt.asUintN(32, value)), true);
    else if (size === 2) view.setUint16(address, Number(BigInt.asUintN(16, value)), true);
    else view.setUint8(address, Number(BigInt.asUintN(8, value)));
  }
}

export default definePlugin({
  name: 'plain',
  version: '1.0.0',
  role: 'executor',
  api: '^2',
  description: '64-bit arithmetic, jumps, loads and stores, and nothing else',
  configSchema: Type.Object({}, { additionalProperties: false }),
  register(scope) {
    scope.bindClass(EXECUTOR, PlainExecutor);
  },
});
