import { ProgramHook, type ProgramOutcome } from '../../src/core/offload/program-hook.js';
import type { Frame } from './frame-accounting.js';
import type { Timing } from './timing.js';

/** A place where an XDP program can be attached, in the model's path of a frame. */
export class XdpHook extends ProgramHook {
  constructor(
    node: string,
    ifindex: number,
    readonly timing: Timing,
  ) {
    super(node, ifindex);
  }

  /** Runs the attached program on the frame, which then is what the program made of it; passes it where there is none. */
  run(frame: Frame, queue = 0): ProgramOutcome {
    const { timing } = this;
    const meter = timing.meter(this.work);
    const outcome = this.runOn(frame.bytes, queue);
    if (this.isEmpty) return outcome;
    frame.bytes = outcome.bytes;
    frame.hopsLeft--;
    timing.charge(timing.costs['xdp-run']);
    if (meter !== undefined) timing.charge(meter.take());
    return outcome;
  }
}
