import { FUSED_INSNS } from './fused-insns.js';
import { HANDLERS, type OpName } from './handlers.js';

/** What the run loop does at a time, by number: the handlers one behind the other. */
export const OP_SEQUENCES: readonly (readonly OpName[])[] = [
  ...(Object.keys(HANDLERS) as OpName[]).map((name) => [name]),
  ...FUSED_INSNS,
];

/** Numbers of ops of one insn, by name. */
export const Op = Object.fromEntries(
  (Object.keys(HANDLERS) as OpName[]).map((name, number) => [name, number]),
) as Readonly<Record<OpName, number>>;

/** Names of ops of one insn, by number. */
export const OP_NAMES = Object.keys(HANDLERS) as readonly OpName[];
