import type { FrameSlots, LoadedProgram } from '../../src/core/contract/executor.js';
import { XDP_PASS } from '../../src/bpf/xdp.js';

/**
 * A program as it is in place when it was attached to the first queue of a tap: frames of other queues do not meet it and
 * pass (defect 10).
 */
export function firstQueueOnly(program: LoadedProgram): LoadedProgram {
  const inner = new WeakMap<FrameSlots, FrameSlots>();
  const queues = new WeakMap<FrameSlots, Int32Array>();
  const meets = (frames: FrameSlots, slot: number): boolean => queues.get(frames)![slot] === 0;
  const run = (frames: FrameSlots, slot: number): ReturnType<LoadedProgram['run']> =>
    meets(frames, slot) ? program.run(inner.get(frames)!, slot) : { verdict: XDP_PASS };
  return {
    name: program.name,
    executor: program.executor,
    id: program.id,
    openFrames(slots, longest) {
      const frames = program.openFrames(slots, longest);
      const queue = new Int32Array(slots);
      const wrapped: FrameSlots = {
        slots: frames.slots,
        longestFrame: frames.longestFrame,
        load: (slot, frame, metadata) => {
          queue[slot] = metadata?.rxQueueIndex ?? 0;
          frames.load(slot, frame, metadata);
        },
        packet: (slot) => frames.packet(slot),
        metadata: (slot) => frames.metadata(slot),
        verdict: (slot) => (queue[slot] === 0 ? frames.verdict(slot) : XDP_PASS),
        redirect: (slot) => frames.redirect(slot),
        close: () => frames.close(),
      };
      inner.set(wrapped, frames);
      queues.set(wrapped, queue);
      return wrapped;
    },
    run,
    runBatch(frames, first, count) {
      let aborted = 0;
      for (let n = 0; n < count; n++) {
        const slot = (first + n) % frames.slots;
        if (meets(frames, slot)) aborted += program.runBatch(inner.get(frames)!, slot, 1);
      }
      return aborted;
    },
    get lastFault() {
      return program.lastFault;
    },
    get work() {
      return program.work;
    },
    close: () => program.close(),
  };
}
