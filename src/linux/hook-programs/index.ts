/**
 * XDP programs made to fit a hook: pure functions from a program to a program, with the maps that they need by handle. What
 * cannot be done is a value with the reason.
 */
export * from './bridge-early.js';
export { clearLeftovers, ZEROS_MAP } from './clear-leftovers.js';
export * from './constant-context.js';
export type { HopCount } from './hop-limit.js';
export { FRAME_MARK_SIZE, markSecret, type FrameMark } from './frame-mark.js';
export * from './redirect-by-tail-call.js';
export * from './replace-map.js';
export * from './rewriting.js';
export * from './route-verdicts.js';
export { NO_VERDICT_COUNTER, VERDICT_COUNTERS, VERDICT_COUNTERS_MAP } from './verdict-counters.js';
export { TCX_ACTION } from './tcx-action.js';
export { xdpToTcx, type TcxOptions } from './xdp-to-tcx.js';
