import type { Insn } from '../../src/bpf/insn.js';
import {
  BPF_ALU64,
  BPF_DW,
  BPF_JA,
  BPF_JMP,
  BPF_LDX,
  BPF_MEM,
  BPF_MOV,
  BPF_STX,
  BPF_X,
  FRAME_POINTER,
  OP_CALL,
  OP_EXIT,
} from '../../src/bpf/opcodes.js';
import type { Program } from '../../src/bpf/program.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { closeFd, mapUpdate, progTestRun } from '../../src/linux/bpf-syscall.js';
import { createKernelMap } from '../../src/linux/kernel-map.js';
import { loadKernelProgram } from '../../src/linux/kernel-program.js';
import type { EngineCase } from './engine-case.js';

/** Copies of the body in one program; fewer where the verifier gives up on a hundred. */
const COPIES = [100, 30, 10];
const ROUND_NANOSECONDS = 400_000;

/** Why the kernel cannot be measured here, or undefined. */
export function kernelBodyProblem(): string | undefined {
  const probe = probeBpf();
  return probe.status === 'supported' ? undefined : probe.reason;
}

/**
 * What a program takes as the kernel's JIT compiled it, without the way into it.
 *
 * `duration` of BPF_PROG_TEST_RUN carries about 29 ns of its own. So the body is repeated a hundred times in
 * one program, each copy with R1 restored and its exits leading to the next; a program of as many empty copies
 * is subtracted and the rest divided by a hundred. A program that makes tail calls cannot be copied: of it, the
 * duration of an empty program is subtracted.
 */
export class KernelBody {
  private constructor(
    readonly frame: Uint8Array,
    readonly fds: readonly number[],
    readonly full: number,
    readonly empty: number,
    readonly count: number,
  ) {}

  /** Loads the program into the kernel; undefined where the kernel refuses it. */
  static load(test: EngineCase): KernelBody | undefined {
    const maps = new Map<number, number>();
    const fds: number[] = [];
    const keep = (fd: number): number => {
      fds.push(fd);
      return fd;
    };
    try {
      for (const [handle, spec] of test.maps) {
        const fd = createKernelMap(spec);
        if (fd < 0) return undefined;
        maps.set(handle, keep(fd));
      }
      const load = (program: Program): number | undefined => {
        const verdict = loadKernelProgram(program, maps, { logLevel: 0 });
        return verdict.accepted ? keep(verdict.programFd) : undefined;
      };
      for (const { handle, index, program } of test.programArrays) {
        const fd = load(program);
        if (fd === undefined) return undefined;
        mapUpdate(maps.get(handle)!, u32(index), u32(fd));
      }
      const body = test.program.insns;
      const makesTailCalls = body.some(
        (insn) => insn.opcode === OP_CALL && insn.src === 0 && insn.imm === 12,
      );
      for (const count of makesTailCalls ? [1] : COPIES) {
        const full = load({ ...test.program, insns: copies(body, count, test), debug: undefined });
        const empty = load({ ...test.program, insns: copies(EMPTY, count, test), debug: undefined });
        if (full === undefined || empty === undefined) continue;
        return new KernelBody(test.frame(0), fds.splice(0), full, empty, count);
      }
      return undefined;
    } finally {
      for (const fd of fds) closeFd(fd);
    }
  }

  /** Nanoseconds of the body. */
  round(): number {
    return (this.#duration(this.full) - this.#duration(this.empty)) / this.count;
  }

  close(): void {
    for (const fd of this.fds) closeFd(fd);
  }

  #duration(fd: number): number {
    const run = (repeat: number): number => {
      const result = progTestRun(fd, { data: this.frame, repeat });
      return typeof result === 'number' ? NaN : result.duration;
    };
    return run(Math.max(20, Math.round(ROUND_NANOSECONDS / Math.max(1, run(5)))));
  }
}

const EMPTY: readonly Insn[] = [
  { opcode: BPF_ALU64 | BPF_MOV, dst: 0, src: 0, off: 0, imm: 2 },
  { opcode: OP_EXIT, dst: 0, src: 0, off: 0, imm: 0 },
];

/** The body `count` times over. */
function copies(body: readonly Insn[], count: number, test: EngineCase): Insn[] {
  if (count === 1) return [...body];
  // R1 is kept in a callee-saved register that the body leaves alone, or in the lowest stack slot.
  const spare = [9, 8, 7, 6].find((r) => body.every((insn) => insn.dst !== r && insn.src !== r));
  const [save, restore]: [Insn, Insn] =
    spare === undefined
      ? [
          { opcode: BPF_STX | BPF_MEM | BPF_DW, dst: FRAME_POINTER, src: 1, off: -512, imm: 0 },
          { opcode: BPF_LDX | BPF_MEM | BPF_DW, dst: 1, src: FRAME_POINTER, off: -512, imm: 0 },
        ]
      : [moveRegister(spare, 1), moveRegister(1, spare)];
  const out = [save];
  for (let copy = 0; copy < count; copy++) {
    // With many flows, each copy gets a packet of its own flow; the empty program changes the packet likewise.
    out.push(restore, ...(test.flows > 1 ? selectFlow(copy) : []));
    body.forEach((insn, slot) => {
      if (insn.opcode !== OP_EXIT || copy === count - 1) out.push(insn);
      else out.push({ opcode: BPF_JMP | BPF_JA, dst: 0, src: 0, off: body.length - 1 - slot, imm: 0 });
    });
  }
  return out;
}

/** `*(u16 *)(data + 34) = flow`, the UDP source port, bounds-checked. */
function selectFlow(flow: number): Insn[] {
  return [
    { opcode: 0x61, dst: 2, src: 1, off: 0, imm: 0 },
    { opcode: 0x61, dst: 3, src: 1, off: 4, imm: 0 },
    moveRegister(4, 2),
    { opcode: 0x07, dst: 4, src: 0, off: 0, imm: 36 },
    { opcode: 0x2d, dst: 4, src: 3, off: 1, imm: 0 },
    { opcode: 0x6a, dst: 2, src: 0, off: 34, imm: flow },
  ];
}

function moveRegister(dst: number, src: number): Insn {
  return { opcode: BPF_ALU64 | BPF_MOV | BPF_X, dst, src, off: 0, imm: 0 };
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}
