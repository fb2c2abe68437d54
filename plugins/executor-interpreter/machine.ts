import type { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import type { AddressSpace, Region } from '../../src/bpf/runtime/address-space.js';
import { HelperFault, packetAccessFault } from '../../src/bpf/runtime/helpers/helper-table.js';
import { insnLimitReason } from '../../src/bpf/runtime/insn-budget.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import type { WorkCounters } from '../../src/bpf/runtime/work-counters.js';
import { FRAME_SLOT, packetEnd, packetStart } from '../../src/bpf/runtime/xdp-frame.js';
import { MAX_BPF_STACK, MAX_CALL_FRAMES, MAX_TAIL_CALL_CNT } from '../../src/bpf/opcodes.js';
import type { ProgramFault } from '../../src/core/contract/executor.js';
import { FP, type DecodedProgram } from './decoded-program.js';
import { EXECUTED_UNIT, MACHINE, MACHINE_SIZE, NOWHERE } from './machine-layout.js';
import { MapCache } from './map-cache.js';
import type { LeaveFunction, RunLoopFunction } from './run-loop.js';
import type { Stop } from './stop.js';

/** `interpret` of interpret.ts. */
export type RunLoop = (machine: Machine, program: DecodedProgram, slot: number, baseDepth: number) => Stop;

/** What a machine consists of besides what lies in memory. */
export interface MachineParts {
  /** What callbacks run on; a debugger puts its own in its place for a while. */
  readonly runLoop: RunLoop;
  instantiate(memory: WebAssembly.Memory, leave: LeaveFunction): RunLoopFunction;
  /** What the loop leaves to JavaScript. */
  leave(machine: Machine, pc: number): number;
}

/** Insns after which the run loop returns at the next jump back. */
const SLICE = 1 << 16;

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
  stack: Region;
  /** Live programs by their id in the runtime. */
  readonly programs = new Map<number, DecodedProgram>();
  readonly maps: MapCache;

  /** What callbacks run on. */
  runLoop: RunLoop;
  /** Insns that a run may execute. */
  limit = 0;
  fault: ProgramFault | undefined;
  /** Why the access, call or insn under way is at fault, until `failWith` makes a fault of it. */
  reason = '';
  /** The object that the last access that was judged lies in. */
  rangeStart = 0;
  rangeEnd = 0;
  /** Slot of the insn before which a debugger got control. */
  pausedAt = 0;
  /** Address in the code to go on at, after `popFrame`. */
  returnTo = 0;
  /** Which copy of a program's code is run, where that is one that pauses. */
  pausing: ((program: DecodedProgram) => number) | undefined;
  /** While coverage is counted: the block under way, whose first insn is not a pause for the time being. */
  openBlock: { readonly program: DecodedProgram; readonly slot: number } | undefined;
  /** Told of the accesses that helpers make, while debugging. */
  onAccess: AccessObserver | undefined;

  readonly #region: Region;
  /** Index in `i32` of what is at `MACHINE` in memory. */
  readonly #word: number;
  readonly #contextWord: number;
  readonly #run: RunLoopFunction;
  #work: WorkCounters | undefined;
  /** Loaded programs by the address of their registers. */
  readonly #byRegisters = new Map<number, DecodedProgram>();
  /** The one that was under way when somebody asked. */
  #lastProgram: DecodedProgram | undefined;
  readonly #savedRegisters = new Int32Array(SAVED_WORDS * DEEP_FRAMES);
  readonly #savedPc = new Int32Array(DEEP_FRAMES);
  /** Depth at which the program under way started, and those of the programs below it, by frame. */
  #base = 0;
  readonly #savedBase = new Int32Array(DEEP_FRAMES);
  readonly #savedProgram: DecodedProgram[] = [];
  #running = 0;
  readonly #whenIdle: (() => void)[] = [];

  constructor(
    readonly runtime: BpfRuntime,
    parts: MachineParts,
  ) {
    const { space, state } = runtime;
    this.i32 = space.i32;
    this.runLoop = parts.runLoop;
    this.#contextWord = (state.address + RUN_STATE.context) >> 2;
    this.stack = allocateStack(space, MAX_CALL_FRAMES);
    try {
      this.#region = space.allocate(MACHINE_SIZE, {
        kind: 'scratch',
        label: 'executor interpreter',
        access: 'none',
      });
    } catch (error) {
      space.free(this.stack);
      throw error;
    }
    this.#word = this.#region.start >> 2;
    this.maps = new MapCache(space, this.#region.start);
    this.#set(MACHINE.runState, state.address);
    this.#run = parts.instantiate(space.memory, (pc) => parts.leave(this, pc));
  }

  /** Whoever runs programs says so; what is to go meanwhile goes when none runs any more. */
  enter(): void {
    this.#running++;
  }

  leave(): void {
    if (--this.#running > 0) return;
    for (const effect of this.#whenIdle.splice(0)) effect();
  }

  whenIdle(effect: () => void): void {
    if (this.#running === 0) effect();
    else this.#whenIdle.push(effect);
  }

  add(id: number, program: DecodedProgram): void {
    this.programs.set(id, program);
    this.#byRegisters.set(program.registersAt, program);
  }

  /** Gives back the memory of one that is no longer in `programs`. */
  remove(program: DecodedProgram): void {
    this.#byRegisters.delete(program.registersAt);
    if (this.#lastProgram === program) this.#lastProgram = undefined;
    program.close();
  }

  #get(field: number): number {
    return this.i32[this.#word + (field >> 2)]!;
  }

  #set(field: number, value: number): void {
    this.i32[this.#word + (field >> 2)] = value;
  }

  /** Fields of 64 bits are whole numbers that doubles are exact for. */
  #getWide(field: number): number {
    return this.#get(field + 4) * 0x1_0000_0000 + (this.#get(field) >>> 0);
  }

  #setWide(field: number, value: number): void {
    this.#set(field, value | 0);
    this.#set(field + 4, Math.floor(value / 0x1_0000_0000));
  }

  /** Insns executed in this run, and what helpers charged. */
  get executed(): number {
    return this.#getWide(MACHINE.executed) / EXECUTED_UNIT;
  }

  set executed(insns: number) {
    this.#setWide(MACHINE.executed, insns * EXECUTED_UNIT);
  }

  get stop(): Stop {
    return this.#get(MACHINE.stop) as Stop;
  }

  set stop(stop: Stop) {
    this.#set(MACHINE.stop, stop);
  }

  /** Address in the code to go on at, behind a slice. */
  get resumeAt(): number {
    return this.#get(MACHINE.resume);
  }

  /** Address of the frame slot being processed, 0 outside an XDP run. */
  get frame(): number {
    return this.i32[this.#contextWord]!;
  }

  /** Number of frames below the current one. */
  get depth(): number {
    return this.#get(MACHINE.depth);
  }

  set depth(depth: number) {
    this.#set(MACHINE.depth, depth);
  }

  /** Depth of the frame whose EXIT ends the loop. */
  get baseDepth(): number {
    return this.#get(MACHINE.baseDepth);
  }

  set baseDepth(depth: number) {
    this.#set(MACHINE.baseDepth, depth);
  }

  get tailCalls(): number {
    return this.#get(MACHINE.tailCalls);
  }

  set tailCalls(count: number) {
    this.#set(MACHINE.tailCalls, count);
  }

  /** The program under way. */
  get program(): DecodedProgram {
    const at = this.#get(MACHINE.registers);
    if (this.#lastProgram?.registersAt !== at) this.#lastProgram = this.#byRegisters.get(at);
    return this.#lastProgram!;
  }

  set program(program: DecodedProgram) {
    this.#set(MACHINE.registers, program.registersAt);
  }

  /** What programs do is counted here, if it is. */
  get work(): WorkCounters | undefined {
    return this.#work;
  }

  set work(work: WorkCounters | undefined) {
    this.#work = work;
    this.#set(MACHINE.work, work?.address ?? 0);
  }

  /** Address of a program's code, of the copy that is to be run. */
  codeOf(program: DecodedProgram): number {
    return this.pausing === undefined ? program.code : this.pausing(program);
  }

  /** Runs from an address in the code on, until something ends that: see `Stop`. */
  runFrom(pc: number): void {
    this.#run(this.#region.start, pc, 0, 0);
  }

  /** The same in a batch, 0 to begin with the frame at `frame`: see `RunLoopFunction`. */
  runFrames(pc: number, frame: number, end: number): number {
    return this.#run(this.#region.start, pc, frame, end);
  }

  /** Has the loop return at the next jump back behind a slice, or behind the limit. */
  startSlice(): void {
    this.#setWide(MACHINE.sliceEnd, EXECUTED_UNIT * Math.min(this.limit, this.executed + SLICE));
  }

  /** Whatever the program may touch without being judged: the packet, and to begin with the context. */
  resetRanges(): void {
    const { frame } = this;
    this.#setRange(MACHINE.packetStart, this.packetStart(), this.packetEnd());
    this.forgetObjects();
    if (frame !== 0) this.#setRange(MACHINE.readStart, frame, frame + FRAME_SLOT.hardStart);
  }

  /** The packet as it lies now. */
  renewPacket(): void {
    this.#setRange(MACHINE.packetStart, this.packetStart(), this.packetEnd());
  }

  /** The next access to what is not the packet will be judged. */
  forgetObjects(): void {
    this.#setRange(MACHINE.readStart, 0, 0);
    this.#setRange(MACHINE.writeStart, 0, 0);
  }

  /** What lies in a range may be read, or written, without being judged. */
  allow(write: boolean, start: number, end: number): void {
    this.#setRange(write ? MACHINE.writeStart : MACHINE.readStart, start, end);
  }

  /** Nothing lies in an empty range, nor in one below 0. */
  #setRange(field: number, start: number, end: number): void {
    const holds = start < end;
    this.#set(field, holds ? start : NOWHERE);
    this.#set(field + 8, holds ? end : 0);
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
    this.maps.close();
    this.runtime.space.free(this.#region);
    this.runtime.space.free(this.stack);
  }

  /** Makes ready for a run; `limit` as the field. */
  begin(program: DecodedProgram, frame: number, limit: number): void {
    this.i32[this.#contextWord] = frame;
    this.depth = 0;
    this.#base = 0;
    this.tailCalls = 0;
    this.executed = 0;
    this.#setWide(MACHINE.charged, 0);
    this.limit = limit;
    this.fault = undefined;
    this.program = program;
    this.#enterStack(program, 0);
  }

  /** Makes ready for runs of a program on frames, which the loop itself begins. */
  beginBatch(program: DecodedProgram, limit: number): void {
    this.#base = 0;
    this.limit = limit;
    this.fault = undefined;
    this.#set(MACHINE.firstCode, program.code);
    this.#set(MACHINE.firstRegisters, program.registersAt);
    this.#set(MACHINE.firstFramePointer, this.#framePointer(0));
    this.#set(MACHINE.firstStackBytes, program.stackBytes);
    this.#setWide(MACHINE.firstSliceEnd, EXECUTED_UNIT * Math.min(limit, SLICE));
    this.#setWide(MACHINE.finished, 0);
    this.#set(MACHINE.touched, 1);
    program.registers[FP + 1] = 0;
  }

  /** The loop has finished runs of a batch by itself. */
  endBatch(): void {
    this.work?.addInsns(this.#getWide(MACHINE.finished) / EXECUTED_UNIT);
  }

  /** A run of a batch has ended in a fault, and the next begins. */
  clearFault(): void {
    this.fault = undefined;
    this.#base = 0;
  }

  /** Insns of the run, those of callbacks and of the targets of tail calls included. */
  get executedInsns(): number {
    return this.executed - this.#getWide(MACHINE.charged) / EXECUTED_UNIT;
  }

  /** A run has ended. */
  end(): void {
    this.work?.addInsns(this.executedInsns);
  }

  /** Counts work that is worth so many insns. Throws HelperFault when that is more than the run has left. */
  charge(insns: number): void {
    this.executed += insns;
    this.#setWide(MACHINE.charged, this.#getWide(MACHINE.charged) + insns * EXECUTED_UNIT);
    if (this.executed > this.limit) throw new HelperFault(insnLimitReason(this.limit));
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

  /** Back to the calling frame: restores its registers, and `returnTo`. */
  popFrame(): DecodedProgram {
    const depth = --this.depth;
    const program = this.#savedProgram[depth]!;
    const { registers } = program;
    for (let i = 0; i < SAVED_WORDS; i++) {
      registers[SAVED_FIRST + i] = this.#savedRegisters[depth * SAVED_WORDS + i]!;
    }
    registers[FP] = this.#framePointer(depth);
    this.returnTo = this.#savedPc[depth]!;
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
