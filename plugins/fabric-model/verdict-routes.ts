import type { Frame, FrameAccounting } from './frame-accounting.js';
import type { HookOutcome, XdpHook } from './xdp-hook.js';

/** Where a frame goes from a hook, by what its program said. */
export interface VerdictRoutes {
  /** Where it is said to end when it ends here. */
  readonly node: string;
  /** XDP_PASS: on the way it was on. */
  pass(frame: Frame): void;
  /** XDP_TX: out by the interface that it came in by. */
  transmit(frame: Frame): void;
  /** XDP_REDIRECT */
  redirect(outcome: HookOutcome): void;
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
    accounting.end(routes.node, refusal);
    return;
  }
  const outcome = hook.run(frame, queue);
  switch (outcome.action) {
    case 'XDP_PASS':
      routes.pass(outcome.frame);
      return;
    case 'XDP_DROP':
      accounting.end(routes.node, 'xdp-drop');
      return;
    case 'XDP_TX':
      routes.transmit(outcome.frame);
      return;
    case 'XDP_REDIRECT':
      routes.redirect(outcome);
      return;
    case 'XDP_ABORTED':
      accounting.end(routes.node, 'xdp-aborted');
      return;
  }
}
