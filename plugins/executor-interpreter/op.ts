import { FUSED_INSNS, type FusedInsn } from './fused-insns.js';
import type { Sharing } from './handler-writer.js';
import { HANDLERS, type OpName } from './handlers.js';

/** One of the insns that an op executes. */
export interface SequencedInsn {
  readonly name: OpName;
  /** Which of its operands has to be what the insn before has as dst; any will do if nothing is said. */
  readonly sharing?: Sharing;
}

/** Names of ops of one insn, by number. */
export const OP_NAMES = Object.keys(HANDLERS) as readonly OpName[];

/** Numbers of ops of one insn, by name. */
export const Op = Object.fromEntries(OP_NAMES.map((name, number) => [name, number])) as Readonly<
  Record<OpName, number>
>;

/** What the run loop executes at a time, by number: those of one insn, and behind them the others. */
export const OP_SEQUENCES: readonly (readonly SequencedInsn[])[] = [
  ...OP_NAMES.map((name) => [{ name }]),
  ...FUSED_INSNS.map((sequence) => sequence.map(readInsn)),
];

function readInsn(text: FusedInsn): SequencedInsn {
  if (text.startsWith('=')) return { name: text.slice(1) as OpName, sharing: 'dst' };
  if (text.startsWith('<')) return { name: text.slice(1) as OpName, sharing: 'src' };
  return { name: text as OpName };
}
