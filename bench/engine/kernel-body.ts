import { readFileSync } from 'node:fs';
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
import { messageOf } from '../../src/core/diagnostic.js';
import { probeBpf } from '../../src/linux/bpf-probe.js';
import { closeFd, mapUpdate, progInfo, progTestRun } from '../../src/linux/bpf-syscall.js';
import { createKernelMap, PAGE_SIZE } from '../../src/linux/kernel-map.js';
import { KernelRingBuffer } from '../../src/linux/kernel-ring-buffer.js';
import { loadKernelProgram } from '../../src/linux/kernel-program.js';
import { BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { EngineCase } from './engine-case.js';
import { RouteNamespace } from './route-namespace.js';

/** How the kernel is measured: by so many copies of the body in one program. */
export const KERNEL_METHODS = ['×1', '×4', 'half L1i', '×100'] as const;
export type KernelMethod = (typeof KERNEL_METHODS)[number];

/**
 * Runs for one figure, in nanoseconds: the duration is told in whole nanoseconds, and each call of BPF_PROG_TEST_RUN waits
 * some 20 ms for RCU, twice, to take the program into the XDP dispatcher and out of it again.
 */
const ROUND_NANOSECONDS = 2_000_000;
const TAIL_CALL = 12;

/** Why the kernel cannot be measured here, or undefined. */
export function kernelBodyProblem(): string | undefined {
  const probe = probeBpf();
  return probe.status === 'supported' ? undefined : probe.reason;
}

interface Copies {
  readonly count: number;
  readonly full: TimedProgram;
  readonly empty: TimedProgram;
}

/**
 * What a program takes as the kernel's JIT compiled it, without the way into it.
 *
 * The duration that BPF_PROG_TEST_RUN tells carries 15 to 30 ns of its own. So the body is repeated in one program, each
 * copy with R1 restored and its exits leading to the next; a program of as many empty copies is subtracted and the rest
 * divided by their number. One copy is closest to what a packet meets and has the whole error of the subtraction; a
 * hundred copies have next to none, but may not fit the instruction cache, which makes the kernel look slow: so there are
 * several numbers of them, one of which fills half of that cache. A program that makes tail calls cannot be copied.
 */
export class KernelBody {
  private constructor(
    readonly frame: Uint8Array,
    readonly fds: readonly number[],
    readonly copies: ReadonlyMap<KernelMethod, Copies>,
    readonly rings: readonly KernelRingBuffer[],
    readonly routes: RouteNamespace | undefined,
  ) {}

  /** Loads the program into the kernel; undefined where the kernel refuses it, or there can be no routes for it. */
  static load(test: EngineCase): KernelBody | undefined {
    const maps = new Map<number, number>();
    const fds: number[] = [];
    const rings: KernelRingBuffer[] = [];
    const keep = (fd: number): number => {
      fds.push(fd);
      return fd;
    };
    try {
      for (const [handle, spec] of test.maps) {
        const fd = createKernelMap(spec);
        if (fd < 0) return undefined;
        maps.set(handle, keep(fd));
        if (spec.type === BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF)
          rings.push(new KernelRingBuffer(fd, spec.maxEntries, PAGE_SIZE));
      }
      for (const { handle, key, value } of test.content) mapUpdate(maps.get(handle)!, key, value);
      const load = (program: Program): number | undefined => {
        const verdict = loadKernelProgram(program, maps, { logLevel: 0 });
        return verdict.accepted ? keep(verdict.programFd) : undefined;
      };
      for (const { handle, index, program } of test.programArrays) {
        const fd = load(program);
        if (fd === undefined) return undefined;
        mapUpdate(maps.get(handle)!, u32(index), u32(fd));
      }
      const frame = test.frame(0);
      const loadCopies = (count: number): Copies | undefined => {
        const bodies = [test.program.insns, EMPTY].map((insns) =>
          load({ ...test.program, insns: copies(insns, count, test), debug: undefined }),
        );
        const [full, empty] = bodies.map((fd) =>
          fd === undefined ? undefined : new TimedProgram(fd, frame),
        );
        return full === undefined || empty === undefined ? undefined : { count, full, empty };
      };
      const one = loadCopies(1);
      if (one === undefined) return undefined;
      const measured = new Map<KernelMethod, Copies>([['×1', one]]);
      const isTailCall = ({ opcode, src, imm }: Insn): boolean =>
        opcode === OP_CALL && src === 0 && imm === TAIL_CALL;
      if (!test.program.insns.some(isTailCall)) {
        const counts = { '×4': 4, 'half L1i': copiesInHalfCache(one.full.fd), '×100': 100 };
        for (const method of KERNEL_METHODS.slice(1)) {
          const more = loadCopies(counts[method as keyof typeof counts]);
          // The verifier gives up on many copies of what it has to walk through.
          if (more !== undefined) measured.set(method, more);
        }
      }
      let routes: RouteNamespace | undefined;
      try {
        if (test.routes !== undefined) routes = new RouteNamespace(test.routes.commands);
      } catch (error) {
        console.error(`kernel columns of ${test.name}: n/a (${messageOf(error)})`);
        return undefined;
      }
      return new KernelBody(frame, fds.splice(0), measured, rings.splice(0), routes);
    } finally {
      for (const ring of rings) ring.close();
      for (const fd of fds) closeFd(fd);
    }
  }

  /** Copies in the program of a method; undefined where it is not measured. */
  count(method: KernelMethod): number | undefined {
    return this.copies.get(method)?.count;
  }

  /** Nanoseconds of the body, by each method: whole ones where there is one copy. */
  round(): Map<KernelMethod, number> {
    return this.routes === undefined ? this.#round() : this.routes.run(() => this.#round());
  }

  #round(): Map<KernelMethod, number> {
    return new Map(
      [...this.copies].map(([method, { full, empty, count }]) => {
        const ns = full.nanoseconds();
        for (const ring of this.rings) while (ring.next !== undefined) ring.skip();
        return [method, (ns - empty.nanoseconds()) / count];
      }),
    );
  }

  close(): void {
    this.routes?.close();
    for (const ring of this.rings) ring.close();
    for (const fd of this.fds) closeFd(fd);
  }
}

/** A program of the kernel and about how long it takes. */
class TimedProgram {
  #last = 100;

  constructor(
    readonly fd: number,
    readonly frame: Uint8Array,
  ) {}

  nanoseconds(): number {
    const repeat = Math.max(20, Math.round(ROUND_NANOSECONDS / this.#last));
    const result = progTestRun(this.fd, { data: this.frame, repeat });
    if (typeof result === 'number') return NaN;
    this.#last = Math.max(1, result.duration);
    return result.duration;
  }
}

/** Copies of a program of one that fill half of a CPU's first cache of instructions. */
function copiesInHalfCache(fd: number): number {
  const info = progInfo(fd);
  const bytes = typeof info === 'number' ? 0 : info.jitedBytes;
  return bytes === 0 ? 1 : Math.max(1, Math.floor(instructionCacheBytes() / 2 / bytes));
}

function instructionCacheBytes(): number {
  for (const index of [0, 1, 2]) {
    const file = (name: string): string =>
      readFileSync(`/sys/devices/system/cpu/cpu0/cache/index${index}/${name}`, 'utf8').trim();
    try {
      if (file('type') === 'Instruction' && file('level') === '1') return parseInt(file('size'), 10) * 1024;
    } catch {
      break;
    }
  }
  // What x86 has had for twenty years.
  return 32 * 1024;
}

const EMPTY: readonly Insn[] = [
  { opcode: BPF_ALU64 | BPF_MOV, dst: 0, src: 0, off: 0, imm: 2 },
  { opcode: OP_EXIT, dst: 0, src: 0, off: 0, imm: 0 },
];

/** The body `count` times over. */
function copies(body: readonly Insn[], count: number, test: EngineCase): Insn[] {
  const prologue = test.flows > 1 ? nextFlow(test.flows) : [];
  if (count === 1) return [...prologue, ...body];
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
    out.push(restore, ...prologue);
    body.forEach((insn, slot) => {
      if (insn.opcode !== OP_EXIT || copy === count - 1) out.push(insn);
      else out.push({ opcode: BPF_JMP | BPF_JA, dst: 0, src: 0, off: body.length - 1 - slot, imm: 0 });
    });
  }
  return out;
}

/**
 * `port = (port + 1) & (flows - 1)` on the UDP source port, bounds-checked: each run, and each copy, gets the next flow, as the
 * frames in the ring of the other engines do. The empty program does the same.
 */
function nextFlow(flows: number): Insn[] {
  return [
    { opcode: 0x61, dst: 2, src: 1, off: 0, imm: 0 },
    { opcode: 0x61, dst: 3, src: 1, off: 4, imm: 0 },
    moveRegister(4, 2),
    { opcode: 0x07, dst: 4, src: 0, off: 0, imm: 36 },
    { opcode: 0x2d, dst: 4, src: 3, off: 4, imm: 0 },
    { opcode: 0x69, dst: 3, src: 2, off: 34, imm: 0 },
    { opcode: 0x07, dst: 3, src: 0, off: 0, imm: 1 },
    { opcode: 0x57, dst: 3, src: 0, off: 0, imm: flows - 1 },
    { opcode: 0x6b, dst: 2, src: 3, off: 34, imm: 0 },
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
