/** Why the run loop returned. */
export const Stop = {
  EXIT: 0,
  FAULT: 1,
  /** Before an insn, for a debugger or who counts coverage; `machine.pausedAt` is its slot. */
  PAUSED: 2,
  /** At a jump back, so that the limit is looked at, and code that V8 has optimized meanwhile is put in place. */
  SLICED: 3,
} as const;
export type Stop = (typeof Stop)[keyof typeof Stop];
