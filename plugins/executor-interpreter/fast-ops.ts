import { Op, OP_SEQUENCES, type SequencedInsn } from './op.js';

/** A way to go on with a sequence, and what it is as one op up to there, if it is one. */
interface Sequence {
  readonly insn: SequencedInsn | undefined;
  number: number | undefined;
  /** By the op that follows. */
  readonly next: Map<number, Sequence[]>;
}

/** Calls that the loop may do by itself. */
const WITHIN_LOOP: ReadonlyMap<number, number> = new Map([
  [Op.CALL_LOOKUP, Op.LOOKUP],
  [Op.CALL_UPDATE, Op.UPDATE],
]);

let sequences: Sequence | undefined;

function allSequences(): Sequence {
  const root: Sequence = { insn: undefined, number: undefined, next: new Map() };
  OP_SEQUENCES.forEach((insns, number) => {
    let at = root;
    for (const insn of insns) {
      const op = Op[insn.name];
      const ways = at.next.get(op) ?? [];
      at.next.set(op, ways);
      let next = ways.find((way) => way.insn!.sharing === insn.sharing);
      if (next === undefined) {
        next = { insn, number: undefined, next: new Map() };
        // Of two that are as long, the one that shares is taken.
        if (insn.sharing === undefined) ways.push(next);
        else ways.unshift(next);
      }
      at = next;
    }
    at.number = number;
  });
  return root;
}

/**
 * The ops for code that nobody steps through: lookups and updates within the run loop, and in each slot the longest sequence of insns that
 * is one op. The insns that follow keep ops of their own: a jump may lead to them, and the op finds their operands there.
 *
 * @param ops of single insns, by slot
 * @param operands dst, src and another of each slot
 */
export function fastOps(ops: Uint16Array, operands: Int32Array): Uint16Array {
  sequences ??= allSequences();
  const single = ops.map((op) => WITHIN_LOOP.get(op) ?? op);
  const fast = single.slice();
  let longest = 0;
  const follow = (start: number, from: Sequence, slot: number, before: number, length: number): void => {
    for (const way of from.next.get(single[slot] ?? Op.INVALID) ?? []) {
      const { sharing } = way.insn!;
      if (sharing !== undefined && operands[3 * slot + (sharing === 'dst' ? 0 : 1)] !== operands[3 * before])
        continue;
      if (way.number !== undefined && length > longest) {
        fast[start] = way.number;
        longest = length;
      }
      // An lddw takes two slots.
      follow(start, way, slot + (single[slot] === Op.LDDW ? 2 : 1), slot, length + 1);
    }
  };
  for (let slot = 0; slot < single.length; slot++) {
    longest = 0;
    follow(slot, sequences, slot, slot, 1);
  }
  return fast;
}
