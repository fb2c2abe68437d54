import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_SLOT, FRAME_SLOT_SIZE, PACKET_AREA } from '../../src/bpf/runtime/xdp-frame.js';
import { XDP_MD } from '../../src/bpf/xdp.js';
import type { CodeEnvironment } from './code-environment.js';
import type { Translation } from './function-translator.js';
import { FunctionWriter, I32, OP, type FunctionType } from '../../src/bpf/wasm-encoder.js';

export interface BatchOptions {
  readonly environment: CodeEnvironment;
  /**
   * The program makes tail calls: one with movable frames, which takes the stack and the count of tail calls from memory,
   * may be their target if it is not the program itself.
   */
  readonly tailCalls: boolean;
  /** What each frame's budget starts from; undefined for a program that nothing is charged for. */
  readonly insnLimit: number | undefined;
}

/** Leaves the program for this frame with the verdict that `pushVerdict` pushes. */
export type LeaveWithVerdict = (pushVerdict: () => void) => void;

/**
 * `batch(slot: i32, count: i32)`: runs the program on `count` (at least one) frame slots that lie behind one
 * another, the program's body within the loop. Each slot gets its verdict. Before a frame its address goes to
 * the run state: there helpers find it, and whoever catches a trap.
 *
 * @param body writes the program's code; control must leave through the function it is given
 */
export function defineBatchEntry(
  { environment, tailCalls, insnLimit }: BatchOptions,
  body: (out: FunctionWriter, slot: number, leave: LeaveWithVerdict) => Translation | undefined,
): Translation {
  const out = new FunctionWriter({ parameters: [I32, I32], results: [] });
  const [slot, count] = [0, 1];
  const end = out.local(I32);
  out.get(count).i32(FRAME_SLOT_SIZE).op(OP.i32_mul).get(slot).op(OP.i32_add).set(end);
  const frames = out.loop();
  out.i32(environment.runState).get(slot).memory(OP.i32_store, RUN_STATE.context);
  if (tailCalls) {
    out.i32(environment.dynamicFrame);
    out.i32(environment.firstDynamicFrame).memory(OP.i32_load).memory(OP.i32_store);
    out.i32(environment.tailCalls).i32(0).memory(OP.i32_store);
  }
  if (insnLimit !== undefined) out.i32(insnLimit).globalSet(environment.budget);
  const done = out.block();
  const translator = body(out, slot, (pushVerdict) => {
    out.get(slot);
    pushVerdict();
    out.memory(OP.i32_store, FRAME_SLOT.verdict).br(done);
  });
  out.end();
  out.get(slot).i32(FRAME_SLOT_SIZE).op(OP.i32_add).tee(slot);
  out.get(end).op(OP.i32_ne).brIf(frames);
  out.end();
  return translator ?? { out, readsStackMemory: false };
}

export const SINGLE_TYPE: FunctionType = { parameters: [I32], results: [I32] };

/**
 * `single(slot: i32): i32`: the batch of one slot. Returns the verdict where it is below 2^31 and what is in the slot is a
 * frame in one buffer with its bounds as they should be (`frameIntact`); -1 says that somebody has to look. In JavaScript
 * the same takes three times as long.
 */
export function defineSingleEntry(batch: number): FunctionWriter {
  const out = new FunctionWriter(SINGLE_TYPE);
  const slot = 0;
  const [data, dataEnd, dataMeta] = [out.local(I32), out.local(I32), out.local(I32)];
  const load = (offset: number): FunctionWriter => out.get(slot).memory(OP.i32_load, offset);
  const bound = (offset: number): FunctionWriter => out.get(slot).i32(offset).op(OP.i32_add);
  out.get(slot).i32(1).call(batch);
  load(FRAME_SLOT.verdict).i32(-1);
  load(FRAME_SLOT.fragsLength).op(OP.i32_eqz);
  load(FRAME_SLOT.hardStart);
  bound(PACKET_AREA.start).op(OP.i32_eq).op(OP.i32_and);
  load(FRAME_SLOT.hardEnd);
  bound(PACKET_AREA.end).op(OP.i32_eq).op(OP.i32_and);
  load(XDP_MD.data_meta).tee(dataMeta);
  bound(PACKET_AREA.start).op(OP.i32_ge_u).op(OP.i32_and);
  load(XDP_MD.data).tee(data).get(dataMeta).op(OP.i32_ge_u).op(OP.i32_and);
  load(XDP_MD.data_end).tee(dataEnd).get(data).op(OP.i32_ge_u).op(OP.i32_and);
  out.get(dataEnd);
  bound(PACKET_AREA.end).op(OP.i32_le_u).op(OP.i32_and);
  // A verdict from 2^31 on is negative.
  out.op(OP.select);
  return out;
}
