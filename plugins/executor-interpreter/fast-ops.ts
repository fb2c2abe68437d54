import { Op, OP_SEQUENCES } from './op.js';

/** Ops by the ones before them in a sequence. */
interface Sequence {
  /** What the sequence up to here is as one op, if it is one. */
  number: number | undefined;
  readonly next: Map<number, Sequence>;
}

let sequences: Sequence | undefined;

function allSequences(): Sequence {
  const root: Sequence = { number: undefined, next: new Map() };
  OP_SEQUENCES.forEach((names, number) => {
    let at = root;
    for (const name of names) {
      const op = Op[name];
      let next = at.next.get(op);
      if (next === undefined) at.next.set(op, (next = { number: undefined, next: new Map() }));
      at = next;
    }
    at.number = number;
  });
  return root;
}

/**
 * The ops for code that nobody steps through: lookups within the run loop, and in each slot the longest sequence of insns that
 * is one op. The insns that follow keep ops of their own: a jump may lead to them, and the op finds their operands there.
 *
 * @param ops of single insns, by slot
 */
export function fastOps(ops: Uint16Array): Uint16Array {
  sequences ??= allSequences();
  const single = ops.map((op) => (op === Op.CALL_LOOKUP ? Op.LOOKUP : op));
  const fast = single.slice();
  for (let slot = 0; slot < single.length; slot++) {
    let at: Sequence | undefined = sequences;
    for (let next = slot; ; next++) {
      // Of an lddw, which takes two slots, the second is none that a sequence could go on with.
      if (next > slot && single[next - 1] === Op.LDDW) next++;
      at = at.next.get(single[next] ?? Op.INVALID);
      if (at === undefined) break;
      if (at.number !== undefined) fast[slot] = at.number;
    }
  }
  return fast;
}
