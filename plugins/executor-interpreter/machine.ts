import { BPF_FUNC } from '../../src/bpf/helper-ids.js';
import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import {
  HelperFault,
  helperFaultReason,
  packetAccessFault,
  TAIL_CALL,
} from '../../src/bpf/runtime/helpers/helper-table.js';
import { BYTES_PER_INSN, BYTES_WITHIN_CALL, insnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import type { WorkCounters } from '../../src/bpf/runtime/work-counters.js';
import { FRAME_SLOT, packetEnd, packetStart } from '../../src/bpf/runtime/xdp-frame.js';
import {
  BPF_ADD,
  BPF_AND,
  BPF_CMPXCHG,
  BPF_DW,
  BPF_FETCH,
  BPF_OR,
  BPF_SIZE_MASK,
  BPF_XCHG,
  BPF_XOR,
  MAX_BPF_STACK,
  MAX_CALL_FRAMES,
  MAX_TAIL_CALL_CNT,
} from '../../src/bpf/opcodes.js';
import { BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG, BPF_MAP_TYPE } from '../../src/bpf/map-spec.js';
import type { ProgramFault } from '../../src/core/contract/executor.js';
import { FP, type DecodedProgram } from './decoded-program.js';

/** Why the run loop returned. */
export const Stop = {
  EXIT: 0,
  FAULT: 1,
  /** Before an insn, for a debugger; `machine.pausedAt` is its word. */
  PAUSED: 2,
} as const;
export type Stop = (typeof Stop)[keyof typeof Stop];

/** `interpret` of run-loop.ts. */
export type RunLoop = (machine: Machine, program: DecodedProgram, pc: number, baseDepth: number) => Stop;

/**
 * Frames where tail calls are made out of local functions: the program that is called starts with frames of its
 * own above those that are still in use.
 */
const DEEP_FRAMES = MAX_TAIL_CALL_CNT * (MAX_CALL_FRAMES - 1) + MAX_CALL_FRAMES;

/** R6 … R9: what a local call keeps for its caller. */
const SAVED_FIRST = 12;
const SAVED_WORDS = 8;

/** Called for each access, before it is made. */
export type AccessObserver = (address: number, size: number, write: boolean) => void;

/**
 * What the programs of one runtime run on, one at a time: stack frames, the state of the run under way, and the
 * table of programs in which tail calls look.
 */
export class Machine {
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  readonly view: DataView;
  stack: Region;
  /** Live programs by their id in the runtime. */
  readonly programs = new Map<number, DecodedProgram>();

  /** Address of the frame slot being processed, 0 outside an XDP run. */
  frame = 0;
  /** Number of frames below the current one. */
  depth = 0;
  tailCalls = 0;
  /** Words of insns executed in this run, two per insn, and what helpers charged; `limit` is in the same unit. */
  executed = 0;
  limit = 0;
  /** How much of `executed` helpers charged. */
  charged = 0;
  fault: ProgramFault | undefined;
  /** Why the access, call or insn under way is at fault, until `failWith` makes a fault of it. */
  reason = '';
  /** The object that the last access of the slow path lies in. */
  rangeStart = 0;
  rangeEnd = 0;
  /** The value that `lookupElem` found, as far as the program may read and write it. */
  readableStart = 0;
  readableEnd = 0;
  writableStart = 0;
  writableEnd = 0;
  /** Word to go on at, after `popFrame` and between two slices of the run loop. */
  resumeAt = 0;
  /** Word of the insn before which a debugger got control. */
  pausedAt = 0;
  /** What programs do is counted here, if it is. */
  work: WorkCounters | undefined;
  /** The program under way, when control is outside `interpret`. */
  program!: DecodedProgram;
  /** Run a program's code that pauses where a debugger, or who counts coverage, wants it to. */
  pausing: ((program: DecodedProgram) => Int32Array) | undefined;
  /** While coverage is counted: the block under way, whose first insn is not a pause for the time being. */
  openBlock: { readonly code: Int32Array; readonly pc: number; readonly pause: number } | undefined;
  /** Told of the accesses that helpers make, while debugging. */
  onAccess: AccessObserver | undefined;

  readonly #savedRegisters = new Int32Array(SAVED_WORDS * DEEP_FRAMES);
  readonly #contextWord: number;
  readonly #savedPc = new Int32Array(DEEP_FRAMES);
  /** Depth at which the program under way started, and those of the programs below it, by frame. */
  #base = 0;
  readonly #savedBase = new Int32Array(DEEP_FRAMES);
  readonly #savedProgram: DecodedProgram[] = [];

  /** @param runLoop what callbacks run on; a debugger puts its own in its place for a while. */
  constructor(
    readonly runtime: BpfRuntime,
    public runLoop: RunLoop,
  ) {
    const { space } = runtime;
    this.i32 = space.i32;
    this.u8 = space.u8;
    this.view = space.view;
    this.#contextWord = (runtime.state.address + RUN_STATE.context) >> 2;
    this.stack = allocateStack(space, MAX_CALL_FRAMES);
  }

  /** Makes room for tail calls out of local functions. Not while a program runs. */
  deepenStack(): void {
    if (this.stack.size >= DEEP_FRAMES * MAX_BPF_STACK) return;
    const { space } = this.runtime;
    const deep = allocateStack(space, DEEP_FRAMES);
    space.free(this.stack);
    this.stack = deep;
  }

  close(): void {
    this.runtime.space.free(this.stack);
  }

  /** Makes ready for a run; `limit` as the field. */
  begin(program: DecodedProgram, frame: number, limit: number): void {
    this.i32[this.#contextWord] = frame;
    this.frame = frame;
    this.depth = 0;
    this.#base = 0;
    this.tailCalls = 0;
    this.executed = 0;
    this.charged = 0;
    this.limit = limit;
    this.fault = undefined;
    this.program = program;
    this.#enterStack(program, 0);
  }

  /** Insns of the run, those of callbacks and of the targets of tail calls included. */
  get executedInsns(): number {
    return (this.executed - this.charged) / 2;
  }

  /** A run has ended. */
  end(): void {
    this.work?.addInsns(this.executedInsns);
  }

  /** Counts work that is worth so many insns. Throws HelperFault when that is more than the run has left. */
  charge(insns: number): void {
    this.executed += 2 * insns;
    this.charged += 2 * insns;
    if (this.executed > this.limit) throw new HelperFault(insnLimitReason(this.limit / 2));
  }

  packetStart(): number {
    return this.frame === 0 ? 0 : packetStart(this.i32, this.frame);
  }

  packetEnd(): number {
    return this.frame === 0 ? 0 : packetEnd(this.i32, this.frame);
  }

  /**
   * Judges an access and, when it is one a program may make, leaves the object's bounds in `rangeStart` and
   * `rangeEnd`: whatever lies in them may be accessed in the same way.
   */
  accessFault(address: number, size: number, write: boolean): string | undefined {
    const { stack, frame } = this;
    const inStack = address - stack.start;
    if (inStack >= 0 && inStack < stack.size) {
      const depth = Math.floor(inStack / MAX_BPF_STACK);
      const within = inStack - depth * MAX_BPF_STACK;
      if (depth > this.depth) return `the stack frame at 0x${address.toString(16)} is not in use`;
      if (within + size > MAX_BPF_STACK) {
        const verb = write ? 'write' : 'read';
        return `${verb} of ${size} bytes at fp${within - MAX_BPF_STACK} overruns the stack frame (${MAX_BPF_STACK} bytes)`;
      }
      this.rangeStart = address - within;
      this.rangeEnd = this.rangeStart + MAX_BPF_STACK;
      return undefined;
    }
    const region = this.runtime.space.regionAt(address);
    if (region === undefined) return this.runtime.space.accessFault(address, size, write);
    if (region.kind === 'packet') {
      const fault = packetAccessFault(this.runtime, frame, address, size, write);
      if (fault !== undefined) return fault;
      const inContext = address < frame + FRAME_SLOT.hardStart;
      this.rangeStart = inContext ? frame : this.packetStart();
      this.rangeEnd = inContext ? frame + FRAME_SLOT.hardStart : this.packetEnd();
      return undefined;
    }
    const fault = this.runtime.space.accessFault(address, size, write);
    if (fault !== undefined) return fault;
    const { start, end } = this.runtime.space.boundsAt(address);
    this.rangeStart = start;
    this.rangeEnd = end;
    return undefined;
  }

  pushFrame(program: DecodedProgram, returnTo: number): boolean {
    const { depth } = this;
    if (depth + 1 - this.#base >= MAX_CALL_FRAMES) {
      this.reason = `a local call exceeds the limit of ${MAX_CALL_FRAMES} frames`;
      return false;
    }
    const { registers } = program;
    for (let i = 0; i < SAVED_WORDS; i++) {
      this.#savedRegisters[depth * SAVED_WORDS + i] = registers[SAVED_FIRST + i]!;
    }
    this.#savedPc[depth] = returnTo;
    this.#savedBase[depth] = this.#base;
    this.#savedProgram[depth] = program;
    this.#enterStack(program, ++this.depth);
    return true;
  }

  /** Back to the calling frame: restores its registers, and `resumeAt`. */
  popFrame(): DecodedProgram {
    const depth = --this.depth;
    const program = this.#savedProgram[depth]!;
    const { registers } = program;
    for (let i = 0; i < SAVED_WORDS; i++) {
      registers[SAVED_FIRST + i] = this.#savedRegisters[depth * SAVED_WORDS + i]!;
    }
    registers[FP] = this.#framePointer(depth);
    this.resumeAt = this.#savedPc[depth]!;
    this.#base = this.#savedBase[depth]!;
    return program;
  }

  /** Gives `program`, which a tail call put in place of the current one, its frame. */
  replaceProgram(program: DecodedProgram): void {
    this.#base = this.depth;
    this.#enterStack(program, this.depth);
  }

  #framePointer(depth: number): number {
    return this.stack.start + (depth + 1) * MAX_BPF_STACK;
  }

  /**
   * Points R10 at the frame's end and clears what the program names of it, so that a run never depends on what
   * an earlier one left on the stack.
   */
  #enterStack(program: DecodedProgram, depth: number): void {
    const pointer = this.#framePointer(depth);
    const { i32 } = this;
    const end = pointer >> 2;
    const start = (pointer - program.stackBytes) >> 2;
    if (end - start > 32) i32.fill(0, start, end);
    else for (let i = start; i < end; i++) i32[i] = 0;
    program.registers[FP] = pointer;
    program.registers[FP + 1] = 0;
  }
}

function allocateStack(space: AddressSpace, frames: number): Region {
  return space.allocate(MAX_BPF_STACK * frames, {
    kind: 'stack',
    label: 'the stack',
    access: 'read-write',
    elements: { first: 0, stride: MAX_BPF_STACK, size: MAX_BPF_STACK, count: frames },
  });
}

/**
 * Judges an access of `size` bytes at register `base` plus `offset` that missed the ranges at hand. True when a
 * program may make it; the object's bounds are then in the machine's range. False leaves `reason`.
 */
export function addressSlowPath(
  machine: Machine,
  regs: Int32Array,
  base: number,
  offset: number,
  size: number,
  write: boolean,
  aligned = false,
): boolean {
  const verb = write ? 'write' : 'read';
  // The sum as a 64-bit register would hold it, and no further than doubles are exact: pointers are small.
  const address = regs[base + 1]! * 0x1_0000_0000 + (regs[base]! >>> 0) + offset;
  if (address < 0 || address > 0xffffffff) {
    machine.reason = `${verb} of ${size} bytes at ${hex(regs[base]!, regs[base + 1]!)}${signed(offset)}, which is no address`;
    return false;
  }
  if (aligned && address % size !== 0) {
    machine.reason = `atomic operation on ${size} bytes at 0x${address.toString(16)}, which is not a multiple of ${size}`;
    return false;
  }
  const fault = machine.accessFault(address, size, write);
  if (fault === undefined) return true;
  machine.reason = fault;
  return false;
}

/**
 * Makes a fault of `machine.reason`, at the insn at word `pc`.
 *
 * @param words words of insns that were executed and are not in `machine.executed`
 */
export function failWith(machine: Machine, program: DecodedProgram, pc: number, words: number): Stop {
  machine.executed += words;
  recordFault(machine, program, pc);
  return Stop.FAULT;
}

function recordFault(machine: Machine, program: DecodedProgram, pc: number): void {
  machine.fault ??= { insn: pc >> 1, reason: machine.reason };
  machine.runtime.discardReservations();
  machine.program = program;
}

/** Calls a helper. False after a fault, which is then recorded. */
export function callHelper(machine: Machine, program: DecodedProgram, id: number, pc: number): boolean {
  const { i32, runtime } = machine;
  const { registers } = program;
  const state = runtime.state.address >> 2;
  for (let i = 2; i < 12; i++) i32[state + i] = registers[i]!;
  machine.program = program;
  machine.work?.addCall(id);
  try {
    program.helpers[id]!();
  } catch (error) {
    // A fault within a callback has been recorded where it happened.
    if (machine.fault === undefined) {
      machine.reason = helperFaultReason(error);
      recordFault(machine, program, pc);
    }
    return false;
  }
  registers[0] = i32[state]!;
  registers[1] = i32[state + 1]!;
  return true;
}

/**
 * bpf_map_lookup_elem, the helper that programs call most: without a detour by the run state, and with the
 * bounds of what was found left in the machine. False after a fault, with its `reason`.
 */
export function lookupElem(machine: Machine, regs: Int32Array): boolean {
  machine.work?.addCall(BPF_FUNC.map_lookup_elem);
  const map = machine.runtime.maps.get(regs[2]!);
  if (map === undefined || regs[3] !== 0) {
    machine.reason = `r1 = ${hex(regs[2]!, regs[3]!)} is not a map`;
    return false;
  }
  const { type, keySize, valueSize, flags } = map.attributes;
  const key = regs[4]!;
  // Nearly always in the current stack frame, then in the packet.
  const frameEnd = regs[FP]!;
  const inFrame = regs[5] === 0 && key >= frameEnd - MAX_BPF_STACK && key <= frameEnd - keySize;
  if (!inFrame && !addressSlowPath(machine, regs, 4, 0, keySize, false)) {
    machine.reason = `argument r2: ${machine.reason}`;
    return false;
  }
  machine.onAccess?.(key, keySize, false);
  machine.work?.addBytes(keySize);
  if (keySize > BYTES_WITHIN_CALL && !paid(machine, Math.ceil(keySize / BYTES_PER_INSN))) return false;
  const found = map.lookupElem(key);
  const { runtime } = machine;
  if (runtime.owedInsns !== 0 && !paid(machine, runtime.takeOwedInsns())) return false;
  regs[0] = found;
  regs[1] = 0;
  const end = found + valueSize;
  // Of other kinds, what is found is not the value.
  const isValue = found !== 0 && (map.layout.kind === 'array' || map.layout.kind === 'hash');
  const readable = isValue && (flags & BPF_F_WRONLY_PROG) === 0;
  const writable =
    isValue && (flags & BPF_F_RDONLY_PROG) === 0 && type !== BPF_MAP_TYPE.BPF_MAP_TYPE_DEVMAP_HASH;
  machine.readableStart = readable ? found : 0;
  machine.readableEnd = readable ? end : 0;
  machine.writableStart = writable ? found : 0;
  machine.writableEnd = writable ? end : 0;
  return true;
}

/** Charges for work of `lookupElem`. False when that uses up what the run has left, with its `reason`. */
function paid(machine: Machine, insns: number): boolean {
  try {
    machine.charge(insns);
    return true;
  } catch (error) {
    machine.reason = helperFaultReason(error);
    return false;
  }
}

/** Runs a callback for a helper: arguments and result are in the run state. */
export function invokeCallback(machine: Machine, slot: number): void {
  const { i32, runtime, program } = machine;
  const { registers } = program;
  // A callback without a jump backwards would not be stopped otherwise.
  machine.charge(0);
  if (slot * 2 >= program.code.length) throw new HelperFault(`there is no function at insn ${slot}`);
  if (!machine.pushFrame(program, 0)) throw new HelperFault(machine.reason);
  const state = runtime.state.address >> 2;
  for (let i = 2; i < 12; i++) registers[i] = i32[state + i]!;
  const stop = machine.runLoop(machine, program, slot * 2, machine.depth);
  if (stop !== Stop.EXIT) throw new HelperFault('the callback ended in a fault');
  // A tail call in the callback's frame may have left another program behind.
  const low = machine.program.registers[0]!;
  const high = machine.program.registers[1]!;
  machine.popFrame();
  machine.program = program;
  i32[state] = low;
  i32[state + 1] = high;
}

/**
 * bpf_tail_call(ctx, prog_array, index): the program to go on with, or undefined to fall through (no program
 * under the index, or the limit of 33 reached) or after a fault. As in the kernel the target takes the current
 * frame's place: in a local function it returns to the function's caller.
 */
export function tailCall(machine: Machine, program: DecodedProgram, pc: number): DecodedProgram | undefined {
  machine.work?.addCall(TAIL_CALL);
  const { registers } = program;
  const map = machine.runtime.maps.get(registers[4]! >>> 0);
  if (map?.programAt === undefined || registers[5] !== 0) {
    machine.reason = `r2 = ${hex(registers[4]!, registers[5]!)} is not a PROG_ARRAY`;
    recordFault(machine, program, pc);
    return undefined;
  }
  const target = machine.programs.get(map.programAt(registers[6]! >>> 0));
  if (target === undefined || machine.tailCalls >= MAX_TAIL_CALL_CNT) return undefined;
  machine.tailCalls++;
  const [low, high] = [registers[2]!, registers[3]!];
  machine.replaceProgram(target);
  target.registers[2] = low;
  target.registers[3] = high;
  return target;
}

/** Any atomic operation (RFC 9669 section 5.3); d and s index registers. False after a fault. */
export function atomic(machine: Machine, program: DecodedProgram, pc: number, d: number, s: number): boolean {
  const insn = program.program.insns[pc >> 1]!;
  const regs = program.registers;
  const { i32 } = machine;
  const isWide = (insn.opcode & BPF_SIZE_MASK) === BPF_DW;
  if (!addressSlowPath(machine, regs, d, insn.off, isWide ? 8 : 4, true, true)) return false;
  const at = ((regs[d]! + insn.off) | 0) >> 2;
  const oldLow = i32[at]!;
  const oldHigh = isWide ? i32[at + 1]! : 0;
  const low = regs[s]!;
  const high = regs[s + 1]!;
  let newLow: number;
  let newHigh: number;
  switch (insn.imm & ~BPF_FETCH) {
    case BPF_ADD:
      newLow = (oldLow + low) | 0;
      newHigh = oldHigh + high + (newLow >>> 0 < oldLow >>> 0 ? 1 : 0);
      break;
    case BPF_OR:
      newLow = oldLow | low;
      newHigh = oldHigh | high;
      break;
    case BPF_AND:
      newLow = oldLow & low;
      newHigh = oldHigh & high;
      break;
    case BPF_XOR:
      newLow = oldLow ^ low;
      newHigh = oldHigh ^ high;
      break;
    case BPF_XCHG & ~BPF_FETCH:
      newLow = low;
      newHigh = high;
      break;
    default: {
      // CMPXCHG: R0 takes the old value whether or not it matched.
      const matches = oldLow === regs[0] && (!isWide || oldHigh === regs[1]);
      newLow = matches ? low : oldLow;
      newHigh = matches ? high : oldHigh;
    }
  }
  i32[at] = newLow;
  if (isWide) i32[at + 1] = newHigh;
  if ((insn.imm & BPF_FETCH) !== 0) {
    const into = insn.imm === BPF_CMPXCHG ? 0 : s;
    regs[into] = oldLow;
    regs[into + 1] = oldHigh;
  }
  return true;
}

function hex(low: number, high: number): string {
  const digits = (low >>> 0).toString(16);
  return high === 0 ? `0x${digits}` : `0x${(high >>> 0).toString(16)}${digits.padStart(8, '0')}`;
}

function signed(offset: number): string {
  return offset < 0 ? ` - ${-offset}` : ` + ${offset}`;
}
