import { RUN_STATE } from '../../src/bpf/runtime/run-state.js';
import { FRAME_SLOT, FRAME_SLOT_SIZE } from '../../src/bpf/runtime/xdp-frame.js';
import type { CodeEnvironment } from './code-environment.js';
import type { Translation } from './function-translator.js';
import { FunctionWriter, I32, OP } from './wasm-encoder.js';

export interface BatchOptions {
  readonly environment: CodeEnvironment;
  /**
   * Where the stack of a program with movable frames starts; undefined for other programs. Only such a program reads
   * the count of tail calls.
   */
  readonly dynamicFrame: number | undefined;
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
  { environment, dynamicFrame, insnLimit }: BatchOptions,
  body: (out: FunctionWriter, slot: number, leave: LeaveWithVerdict) => Translation | undefined,
): Translation {
  const out = new FunctionWriter({ parameters: [I32, I32], results: [] });
  const [slot, count] = [0, 1];
  const end = out.local(I32);
  out.get(count).i32(FRAME_SLOT_SIZE).op(OP.i32_mul).get(slot).op(OP.i32_add).set(end);
  const frames = out.loop();
  out.i32(environment.runState).get(slot).memory(OP.i32_store, RUN_STATE.context);
  if (dynamicFrame !== undefined) {
    out.i32(environment.dynamicFrame).i32(dynamicFrame).memory(OP.i32_store);
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
