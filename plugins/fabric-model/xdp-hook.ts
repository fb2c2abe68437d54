import type { FrameRedirect } from '../../src/core/contract/executor.js';
import { ProgramHook } from '../../src/core/offload/program-hook.js';
import type { XdpActionName } from '../../src/bpf/xdp.js';
import type { Frame } from './frame-accounting.js';

/** What a hook made of a frame. */
export interface HookOutcome {
  readonly action: XdpActionName;
  /** The frame as the program left it. */
  readonly frame: Frame;
  readonly redirect: FrameRedirect;
}

/** A place where an XDP program can be attached, in the model's path of a frame. */
export class XdpHook extends ProgramHook {
  /** Runs the attached program, or passes the frame on untouched when there is none. */
  run(frame: Frame, queue = 0): HookOutcome {
    const { action, bytes, redirect } = this.runOn(frame.bytes, queue);
    const hopsLeft = this.isEmpty ? frame.hopsLeft : frame.hopsLeft - 1;
    return { action, frame: { ...frame, bytes, hopsLeft }, redirect };
  }
}
