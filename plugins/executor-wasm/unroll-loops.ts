import type { Insn } from '../../src/bpf/insn.js';
import { OP_CALL } from '../../src/bpf/opcodes.js';
import type { BasicBlock, BpfFunction } from './control-flow-graph.js';
import { flowShape } from './structured-control-flow.js';

/** Copies of a loop's body that are laid one behind the other. */
const COPIES = 8;
/** A longer loop gains too little for what it grows. */
const MAX_LOOP_INSNS = 32;
/** Beyond this, a program is left as it is. */
const MAX_FUNCTION_INSNS = 4096;

/**
 * Repeats the body of each short innermost loop: a back edge of one copy leads to the next, that of the last to
 * the first. V8 checks for stack overflow and interrupts at each loop header and carries every local through it;
 * for a loop of ten insns that is a fifth of its time, and V8 11 unrolls only loops that are shorter still.
 */
export function unrollLoops(fn: BpfFunction, insns: readonly Insn[]): BpfFunction {
  const total = fn.blocks.reduce((sum, block) => sum + block.end - block.start, 0);
  if (total > MAX_FUNCTION_INSNS) return fn;
  const shape = flowShape(fn.blocks.map((block) => block.successors));
  if (!shape.reducible) return fn;
  const loops = new Map<number, Set<number>>();
  for (const node of shape.nodes) {
    for (const next of fn.blocks[node]!.successors) {
      if (shape.order[next]! > shape.order[node]!) continue;
      const body = loops.get(next) ?? new Set([next]);
      loops.set(next, body);
      collectBody(node, body, shape.predecessors);
    }
  }
  const blocks: BasicBlock[] = [...fn.blocks];
  for (const [header, body] of loops) {
    const innermost = [...loops.keys()].every((other) => other === header || !body.has(other));
    if (!innermost || !isShort(body, fn, insns)) continue;
    unroll(header, body, blocks);
  }
  return { ...fn, blocks };
}

function collectBody(from: number, body: Set<number>, predecessors: readonly (readonly number[])[]): void {
  const pending = [from];
  for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
    if (body.has(node)) continue;
    body.add(node);
    pending.push(...predecessors[node]!);
  }
}

function isShort(body: ReadonlySet<number>, fn: BpfFunction, insns: readonly Insn[]): boolean {
  let count = 0;
  for (const node of body) {
    const { start, end } = fn.blocks[node]!;
    count += end - start;
    for (let slot = start; slot < end; slot++) if (insns[slot]!.opcode === OP_CALL) return false;
  }
  return count <= MAX_LOOP_INSNS;
}

function unroll(header: number, body: ReadonlySet<number>, blocks: BasicBlock[]): void {
  const members = [...body];
  // places[c] leads from a block of the loop to its copy c; copy 0 is the loop itself.
  const places = Array.from({ length: COPIES }, (_, copy) => {
    return new Map(
      members.map((node, i) => [node, copy === 0 ? node : blocks.length + (copy - 1) * members.length + i]),
    );
  });
  const originals = members.map((node) => blocks[node]!);
  places.forEach((place, copy) => {
    const next = places[(copy + 1) % COPIES]!;
    members.forEach((node, i) => {
      const original = originals[i]!;
      const successors = original.successors.map((to) =>
        to === header ? next.get(to)! : (place.get(to) ?? to),
      );
      blocks[place.get(node)!] = { ...original, successors };
    });
  });
}
