import { functionStarts, isFunctionReference } from '../bpf/function-starts.js';
import { helperName } from '../bpf/helper-ids.js';
import { isLddw, type Insn } from '../bpf/insn.js';
import { BPF_CALL_HELPER, BPF_JA, BPF_JMP, BPF_JMP32, OP_CALL, OP_EXIT } from '../bpf/opcodes.js';
import type { Program } from '../bpf/program.js';
import { fetchKept, findKeeper, keepRegister } from '../bpf/rewrite/keeper.js';
import { errnoName } from '../bpf/errno.js';
import { closeFd, progInfo, progTestRun } from './bpf-syscall.js';
import { loadKernelProgram, type KernelMapFds } from './kernel-program.js';

export interface KernelBodyOptions {
  /** Copies of the body in one program; default 100, fewer when the verifier does not cope with so many. */
  readonly copies?: number | undefined;
  /** Runs of that program in one measurement; default: as many as take some 20 ms. */
  readonly repeat?: number | undefined;
  /** Measurements, of which the median counts; default 7. */
  readonly rounds?: number | undefined;
}

export type KernelBody =
  | {
      /** Nanoseconds that one execution of the body takes. */
      readonly nanoseconds: number;
      readonly copies: number;
      /** Of the program as it is, by BPF_PROG_TEST_RUN: the body and what the kernel's own loop takes. */
      readonly testRunNanoseconds: number;
    }
  | { readonly nanoseconds: undefined; readonly reason: string };

/**
 * What a program costs by itself, without the floor of some 29 ns that BPF_PROG_TEST_RUN's duration carries: `n`
 * copies of its body are put one after the other into one program, each `exit` becoming a jump to the next copy;
 * the difference to one copy, divided by n - 1, is the cost of one.
 *
 * Every copy works on the same packet and maps, as the copies before it left them. So there is no figure for a
 * program whose later copies would do something else: one that moves the packet's ends, or leaves by a tail call.
 * The packet has to be long enough not to be refused, see {@link progTestRun}.
 */
export function measureKernelBody(
  program: Program,
  maps: KernelMapFds,
  packet: Uint8Array,
  options: KernelBodyOptions = {},
): KernelBody {
  const obstacle = findObstacle(program.insns);
  if (obstacle !== undefined) return { nanoseconds: undefined, reason: obstacle };
  const single = loadCopies(program, maps, 1);
  if (typeof single === 'string') return { nanoseconds: undefined, reason: single };
  let many: number | string = 'no copies';
  try {
    let copies = options.copies ?? DEFAULT_COPIES;
    for (; copies >= MIN_COPIES; copies = Math.floor(copies / 2)) {
      many = loadCopies(program, maps, copies);
      if (typeof many === 'number') break;
    }
    if (typeof many === 'string') {
      return { nanoseconds: undefined, reason: `even ${MIN_COPIES} copies of it are refused: ${many}` };
    }
    return measure(single, many, copies, packet, options);
  } finally {
    closeFd(single);
    if (typeof many === 'number') closeFd(many);
  }
}

const DEFAULT_COPIES = 100;
const MIN_COPIES = 4;
const DEFAULT_ROUNDS = 7;
/** Nanoseconds that a measurement shall take, and runs that warm up caches and branch predictors. */
const MEASUREMENT_NS = 20_000_000;
const WARM_UP = 1000;

/** Helpers after which a copy's successor would find another packet, or not run at all. */
const UNREPEATABLE: ReadonlyMap<number, string> = new Map([
  [12, 'leaves the program, so that the copies after it would not run'],
  [44, 'moves the start of the packet, so that each copy would find another one'],
  [54, 'moves the metadata, so that each copy would find more of it'],
  [65, 'moves the end of the packet, so that each copy would find another one'],
]);

function findObstacle(insns: readonly Insn[]): string | undefined {
  for (const insn of insns) {
    if (insn.opcode !== OP_CALL || insn.src !== BPF_CALL_HELPER) continue;
    const why = UNREPEATABLE.get(insn.imm);
    if (why !== undefined) return `${helperName(insn.imm)} ${why}`;
  }
  return undefined;
}

function measure(
  single: number,
  many: number,
  copies: number,
  packet: Uint8Array,
  options: KernelBodyOptions,
): KernelBody {
  const info = progInfo(many);
  if (typeof info !== 'number' && info.jitedBytes === 0) {
    return { nanoseconds: undefined, reason: 'the kernel interprets it (net.core.bpf_jit_enable is 0)' };
  }
  const duration = (fd: number, repeat: number): number => {
    const result = progTestRun(fd, { data: packet, outputSize: packet.length + 4096, repeat });
    return typeof result === 'number' ? result : result.duration;
  };
  const warm = duration(many, WARM_UP);
  if (warm < 0) {
    return { nanoseconds: undefined, reason: `BPF_PROG_TEST_RUN refused the packet: ${errnoName(warm)}` };
  }
  duration(single, WARM_UP);
  const repeatFor = (ns: number): number =>
    options.repeat ?? Math.max(WARM_UP, Math.round(MEASUREMENT_NS / Math.max(1, ns)));
  const repeats = { many: repeatFor(warm), single: repeatFor(FLOOR_NS + warm / copies) };
  // Interleaved, so that a slow phase of the machine falls on both.
  const rounds = Array.from({ length: options.rounds ?? DEFAULT_ROUNDS }, () => ({
    single: duration(single, repeats.single),
    many: duration(many, repeats.many),
  }));
  const one = median(rounds.map((round) => round.single));
  const all = median(rounds.map((round) => round.many));
  return { nanoseconds: (all - one) / (copies - 1), copies, testRunNanoseconds: one };
}

/** What a run of an empty program takes. */
const FLOOR_NS = 29;

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1]!;
}

/** A program's file descriptor, or why there is none. */
function loadCopies(program: Program, maps: KernelMapFds, copies: number): number | string {
  const insns = repeatBody(program.insns, copies);
  if (typeof insns === 'string') return insns;
  // Names and lines are those of the original.
  const verdict = loadKernelProgram({ ...program, insns, debug: undefined }, maps);
  if (verdict.accepted) return verdict.programFd;
  const lines = verdict.log.trimEnd().split('\n');
  const message = lines.findLast((line) => !/^(processed |stack depth |verification time )/.test(line));
  return `${errnoName(verdict.errno)}${message === undefined ? '' : `, ${message}`}`;
}

/**
 * The program with its main function's body `copies` times in a row, or why that cannot be done. The functions that
 * it calls stay as they are, behind it.
 *
 * ```
 *   *(u64 *)(r10 -N) = r1        keeps ctx: below the body's own stack, or in a register that it leaves alone
 *   copy 0:  body, each exit → goto copy 1
 *   r1 = *(u64 *)(r10 -N)
 *   copy 1:  body, each exit → goto copy 2
 *   …
 *   exit
 *   functions
 * ```
 */
export function repeatBody(insns: readonly Insn[], copies: number): Insn[] | string {
  const starts = functionStarts(insns);
  const bodyEnd = starts[1] ?? insns.length;
  const body = insns.slice(0, bodyEnd);
  const keeper = findKeeper(body);
  if (keeper === undefined) return 'it leaves neither a register nor 8 bytes of stack to keep ctx in';

  const stride = body.length + 1;
  /** Slot where the first function behind the body comes to lie. */
  const functionsAt = copies * stride + 1;
  const shift = functionsAt - bodyEnd;
  const out: Insn[] = [];
  for (let copy = 0; copy < copies; copy++) {
    const base = copy * stride + 1;
    out.push(copy === 0 ? keepRegister(keeper, 1) : fetchKept(keeper, 1));
    let second = false;
    for (const [slot, insn] of body.entries()) {
      if (second) {
        out.push(insn);
        second = false;
        continue;
      }
      second = isLddw(insn);
      if (insn.opcode === OP_EXIT) {
        // The next copy's first insn, or the exit behind the last one, is at base + body.length.
        out.push(goto(body.length - slot - 1));
      } else if (isFunctionReference(insn)) {
        const target = slot + insn.imm + 1;
        out.push({ ...insn, imm: target < bodyEnd ? insn.imm : target + shift - (base + slot) - 1 });
      } else {
        out.push(insn);
      }
    }
  }
  out.push({ opcode: OP_EXIT, dst: 0, src: 0, off: 0, imm: 0 });
  // Calls among the functions behind the body keep their distance.
  out.push(...insns.slice(bodyEnd));
  return out;
}

/** `goto pc+distance`: with a 16-bit offset where that will do, for kernels before 6.6. */
function goto(distance: number): Insn {
  return distance <= 0x7fff
    ? { opcode: BPF_JMP | BPF_JA, dst: 0, src: 0, off: distance, imm: 0 }
    : { opcode: BPF_JMP32 | BPF_JA, dst: 0, src: 0, off: 0, imm: distance };
}
