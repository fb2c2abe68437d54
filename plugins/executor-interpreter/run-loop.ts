import { FRAME_SLOT, FRAME_SLOT_SIZE, PACKET_AREA } from '../../src/bpf/runtime/xdp-frame.js';
import { MAX_ADDRESS_SPACE, WASM_PAGE } from '../../src/bpf/runtime/address-space.js';
import { FRAME_POINTER } from '../../src/bpf/opcodes.js';
import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FunctionWriter, I32, ModuleWriter, OP } from '../../src/bpf/wasm-encoder.js';
import { XDP_MD } from '../../src/bpf/xdp.js';
import { HandlerWriter, LoopLocals } from './handler-writer.js';
import { HANDLERS, type Handler } from './handlers.js';
import { EXECUTED_UNIT, INSN, MACHINE, NOWHERE } from './machine-layout.js';
import { writeLookup, writeUpdate } from './map-lookup.js';
import { OP_SEQUENCES } from './op.js';
import { Stop } from './stop.js';

/**
 * Runs decoded insns until something ends that, which is then in the machine's `stop`.
 *
 * @param machine address of the machine
 * @param pc address of the first insn; 0 to begin a run on the frame at `frame`
 * @param frame of a batch the frame under way, else 0
 * @param end of a batch the address behind its last frame, else 0
 * @returns the frame at which the loop stopped, which is not finished; `end` if all are
 */
export type RunLoopFunction = (machine: number, pc: number, frame: number, end: number) => number;

/** Does what the loop does not, for the insn at code address `pc`: the address to go on at, or 0 to stop. */
export type LeaveFunction = (pc: number) => number;

let module: WebAssembly.Module | undefined;

/**
 * The run loop, for the memory of one machine. The code is the same for all, so that V8 compiles and optimizes it once in a
 * process; programs are data to it.
 */
export function instantiateRunLoop(memory: WebAssembly.Memory, leave: LeaveFunction): RunLoopFunction {
  module ??= new WebAssembly.Module(encodeRunLoop());
  const { exports } = new WebAssembly.Instance(module, { interpreter: { memory, leave } });
  return exports['run'] as RunLoopFunction;
}

/** The module, which is the same for all machines. */
export function encodeRunLoop(): Uint8Array<ArrayBuffer> {
  const writer = new ModuleWriter('interpreter');
  writer.importMemory('interpreter', 'memory', 2, MAX_ADDRESS_SPACE / WASM_PAGE);
  const leave = writer.importFunction('interpreter', 'leave', { parameters: [I32], results: [I32] });
  const index = writer.declare(RUN_TYPE);
  writer.define(index, writeRunLoop(leave));
  writer.export('run', index);
  return writer.encode().bytes;
}

const RUN_TYPE = { parameters: [I32, I32, I32, I32], results: [I32] };
const [FRAME, END] = [2, 3];

/**
 * ```
 *   loop frames
 *     begin the run, unless it is under way
 *     loop next
 *       dispatch: one block for each op, control falls out of its block into its handler
 *     finish the frame
 * ```
 * V8 makes of it one jump through a table for each op; registers, ranges and all that belongs to a run lie in memory, and few
 * locals are alive around the loop, so that they stay in the CPU's registers.
 */
function writeRunLoop(leaveFunction: number): FunctionWriter {
  const out = new FunctionWriter(RUN_TYPE);
  const locals = new LoopLocals(out);
  const { machine, pc, count } = locals;
  /** `executed` as the machine has it is what JavaScript sees and may change; `insns` more than what is before `pc`. */
  const storeExecuted = (to: HandlerWriter, insns: number): void => {
    out.get(machine);
    to.executed();
    if (insns > 0) out.i64(BigInt(insns * EXECUTED_UNIT)).op(OP.i64_add);
    out.memory(OP.i64_store, MACHINE.executed);
  };
  const takeState = (): void => {
    out.get(machine).memory(OP.i64_load, MACHINE.executed);
    out.get(pc).op(OP.i64_extend_i32_u).op(OP.i64_sub).set(count);
    out.get(machine).memory(OP.i64_load, MACHINE.packetStart).set(locals.packetStart);
    out.get(machine).memory(OP.i64_load, MACHINE.packetEnd).set(locals.packetEnd);
  };
  /** The run may go on in another program, frame or slice. */
  const touch = (): void => void out.get(machine).i32(1).memory(OP.i32_store, MACHINE.touched);

  const frames = out.loop();
  out.get(pc).op(OP.i32_eqz).if();
  writeBegin(out, locals);
  out.else();
  takeState();
  touch();
  out.end();
  const exit = out.block();
  const next = out.loop();
  const sliced = out.block();
  const leave = out.block();
  const update = out.block();
  const lookup = out.block();
  const to = new HandlerWriter(out, locals, { next, leave, sliced, exit, lookup, update });
  writeDispatch(to);
  for (const write of [writeLookup, writeUpdate]) {
    out.end();
    write(to);
    to.moveTo(1);
    out.br(next);
  }
  out.end();

  // The insn that is left to JavaScript counts.
  storeExecuted(to, 1);
  out.get(machine).get(locals.packetStart).memory(OP.i64_store, MACHINE.packetStart);
  out.get(machine).get(locals.packetEnd).memory(OP.i64_store, MACHINE.packetEnd);
  out.get(pc).call(leaveFunction).tee(pc).op(OP.i32_eqz).if();
  out.get(FRAME).op(OP.return).end();
  takeState();
  touch();
  out.br(next);
  out.end();

  storeExecuted(to, 0);
  out.get(machine).get(pc).memory(OP.i32_store, MACHINE.resume);
  out.get(machine).i32(Stop.SLICED).memory(OP.i32_store, MACHINE.stop);
  out.get(FRAME).op(OP.return);
  out.end();
  out.end();

  // EXIT itself is an insn as well.
  storeExecuted(to, 1);
  writeFinish(out, locals);
  out.get(FRAME).i32(FRAME_SLOT_SIZE).op(OP.i32_add).set(FRAME);
  out.i32(0).set(pc);
  out.get(FRAME).get(END).op(OP.i32_ne).brIf(frames);
  out.end();
  out.get(END);
  return out;
}

function writeDispatch(to: HandlerWriter): void {
  const { out, labels } = to;
  const blocks = OP_SEQUENCES.map(() => out.block()).reverse();
  to.field(INSN.op, OP.i32_load16_u);
  // No code has another number; the last block takes what is none.
  out.brTable(blocks.slice(0, -1), blocks.at(-1)!);
  for (const [first, ...others] of OP_SEQUENCES) {
    out.end();
    to.first();
    let handler: Handler = HANDLERS[first!.name];
    handler.write(to);
    for (const { name, sharing } of others) {
      to.next(handler.slots ?? 1, sharing);
      handler = HANDLERS[name];
      handler.write(to);
    }
    if (handler.ends === true) continue;
    to.moveTo(to.place + (handler.slots ?? 1));
    out.br(labels.next);
  }
  to.first();
}

/** From here the stack is cleared by the machine's own operation for it. */
const LONG_STACK = 128;

/** Makes ready for a run of the batch's program on a frame: what `Machine.begin` does for a run by itself. */
function writeBegin(out: FunctionWriter, locals: LoopLocals): void {
  const { machine, pc } = locals;
  const registers = locals.i32('registers');
  const [at, end] = [locals.i32('at'), locals.i32('end')];
  const field = (offset: number): void => void out.get(machine).memory(OP.i32_load, offset);
  const word = (offset: number) => (): void => void out.get(FRAME).memory(OP.i32_load, offset);
  const slot = (offset: number) => (): void => void out.get(FRAME).i32(offset).op(OP.i32_add);
  const choose = (pushA: () => void, pushB: () => void, comparison: number): void => {
    pushA();
    out.tee(at);
    pushB();
    out.tee(end).get(at).get(end).op(comparison).op(OP.select);
  };

  field(MACHINE.runState);
  out.get(FRAME).memory(OP.i32_store, RUN_STATE.context);
  field(MACHINE.firstRegisters);
  out
    .tee(registers)
    .get(FRAME)
    .op(OP.i64_extend_i32_u)
    .memory(OP.i64_store, 8 * 1);
  field(MACHINE.firstFramePointer);
  out.tee(end);
  field(MACHINE.firstStackBytes);
  out.op(OP.i32_sub).set(at);
  const cleared = out.block();
  out.get(at).get(end).op(OP.i32_eq).brIf(cleared);
  out.get(end).get(at).op(OP.i32_sub).i32(LONG_STACK).op(OP.i32_gt_u).if();
  out.get(at).i32(0).get(end).get(at).op(OP.i32_sub).memoryFill().br(cleared);
  out.end();
  const clear = out.loop();
  out.get(at).i64(0n).memory(OP.i64_store);
  out.get(at).i32(8).op(OP.i32_add).tee(at).get(end).op(OP.i32_ne).brIf(clear);
  out.end();
  out.end();

  // As `packetStart` and `packetEnd` of xdp-frame.ts.
  choose(word(XDP_MD.data_meta), slot(PACKET_AREA.start), OP.i32_gt_u);
  out.op(OP.i64_extend_i32_u).set(locals.packetStart);
  choose(word(XDP_MD.data_end), slot(PACKET_AREA.end), OP.i32_lt_u);
  out.op(OP.i64_extend_i32_u).set(locals.packetEnd);
  const setWide = (offset: number, push: () => void): void => {
    out.get(machine);
    push();
    out.memory(OP.i64_store, offset);
  };
  // The context is what most programs read first.
  setWide(MACHINE.readStart, () => out.get(FRAME).op(OP.i64_extend_i32_u));
  setWide(MACHINE.readEnd, () => {
    slot(FRAME_SLOT.hardStart)();
    out.op(OP.i64_extend_i32_u);
  });
  setWide(MACHINE.writeStart, () => out.i64(BigInt(NOWHERE)));

  field(MACHINE.firstCode);
  out.tee(pc);
  out.op(OP.i64_extend_i32_u).i64(-1n).op(OP.i64_mul).set(locals.count);

  field(MACHINE.touched);
  out.if();
  for (const offset of [MACHINE.touched, MACHINE.depth, MACHINE.baseDepth, MACHINE.tailCalls]) {
    out.get(machine).i32(0).memory(OP.i32_store, offset);
  }
  setWide(MACHINE.charged, () => out.i64(0n));
  setWide(MACHINE.sliceEnd, () => out.get(machine).memory(OP.i64_load, MACHINE.firstSliceEnd));
  out.get(machine).get(registers).memory(OP.i32_store, MACHINE.registers);
  out.get(registers).get(machine).memory(OP.i64_load32_u, MACHINE.firstFramePointer);
  out.memory(OP.i64_store, 8 * FRAME_POINTER);
  out.end();
}

/**
 * Returns unless the frame is one of a batch, and intact without frags (`frameIntact`; JavaScript looks at others). Of such a
 * one it stores the verdict.
 */
function writeFinish(out: FunctionWriter, { machine }: LoopLocals): void {
  const word = (offset: number): void => void out.get(FRAME).memory(OP.i64_load32_u, offset);
  const slot = (offset: number): void =>
    void out.get(FRAME).i32(offset).op(OP.i32_add).op(OP.i64_extend_i32_u);
  const packetWord = (field: number) => (): void => word(field);
  const bound = (offset: number) => (): void => slot(offset);
  // Not ascending where a difference is negative, of numbers of 32 bits.
  const ascending = [
    bound(PACKET_AREA.start),
    packetWord(XDP_MD.data_meta),
    packetWord(XDP_MD.data),
    packetWord(XDP_MD.data_end),
    bound(PACKET_AREA.end),
  ];
  for (let i = 1; i < ascending.length; i++) {
    ascending[i]!();
    ascending[i - 1]!();
    out.op(OP.i64_sub);
    if (i > 1) out.op(OP.i64_or);
  }
  out.i64(0n).op(OP.i64_lt_s);
  word(FRAME_SLOT.hardStart);
  slot(PACKET_AREA.start);
  out.op(OP.i64_ne).op(OP.i32_or);
  word(FRAME_SLOT.hardEnd);
  slot(PACKET_AREA.end);
  out.op(OP.i64_ne).op(OP.i32_or);
  out.get(FRAME).memory(OP.i32_load, FRAME_SLOT.fragsLength).op(OP.i32_or);
  out.get(FRAME).op(OP.i32_eqz).op(OP.i32_or).if();
  out.get(machine).i32(Stop.EXIT).memory(OP.i32_store, MACHINE.stop);
  out.get(FRAME).op(OP.return).end();

  out.get(FRAME).get(machine).memory(OP.i32_load, MACHINE.registers).memory(OP.i32_load);
  out.memory(OP.i32_store, FRAME_SLOT.verdict);
  out.get(machine).memory(OP.i32_load, MACHINE.work).if();
  out.get(machine).get(machine).memory(OP.i64_load, MACHINE.finished);
  out.get(machine).memory(OP.i64_load, MACHINE.executed).op(OP.i64_add);
  out.get(machine).memory(OP.i64_load, MACHINE.charged).op(OP.i64_sub);
  out.memory(OP.i64_store, MACHINE.finished).end();
}
