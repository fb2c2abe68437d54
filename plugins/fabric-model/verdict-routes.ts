import type { FrameRedirect } from '../../src/core/contract/executor.js';
import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { XdpHook } from './xdp-hook.js';

/** Where a frame goes from a hook, by what its program said. */
export interface VerdictRoutes {
  /** Where it is said to end when it ends here. */
  readonly node: string;
  /** XDP_PASS: on the way it was on. */
  pass(frame: Frame): void;
  /** XDP_TX: out by the interface that it came in by. */
  transmit(frame: Frame): void;
  /** XDP_REDIRECT */
  redirect(frame: Frame, redirect: FrameRedirect): void;
}

/** Runs a hook on a frame, unless the frame can go no further or is too long for it, and sends it on or ends it. */
export function runHook(
  hook: XdpHook,
  frame: Frame,
  queue: number,
  routes: VerdictRoutes,
  accounting: FrameAccounting,
): void {
  const refusal = accounting.refusal(frame, hook.longestFrame);
  if (refusal !== undefined) {
    accounting.end(frame, routes.node, refusal);
    return;
  }
  const { action, redirect } = hook.run(frame, queue);
  switch (action) {
    case 'XDP_PASS':
      routes.pass(frame);
      return;
    case 'XDP_DROP':
      accounting.end(frame, routes.node, 'xdp-drop');
      return;
    case 'XDP_TX':
      routes.transmit(frame);
      return;
    case 'XDP_REDIRECT':
      routes.redirect(frame, redirect);
      return;
    case 'XDP_ABORTED':
      accounting.end(frame, routes.node, 'xdp-aborted');
      return;
  }
}
