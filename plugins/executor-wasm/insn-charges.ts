import type { FlowGraph, FlowShape } from './structured-control-flow.js';

/** Where code takes insns off the budget of a run, and where it looks whether any are left. */
export interface InsnCharges {
  /** By node: insns to take off where the node begins. */
  readonly insns: Int32Array;
  /** By node: 1 where the run ends if the budget is used up. */
  readonly checked: Uint8Array;
}

/**
 * Places the charges of a function so that few are needed. What a run executes once is as long as the program at most,
 * so the main program is charged for its loops only; a local function, which may be called from a loop, for all of it.
 *
 * Every cycle passes a node that an edge leads back to; those are checked, and the entry of a local function. A node
 * is charged for together with the one before it where no other way leads there and the only other way from there
 * leaves what is charged for: a loop of one body then costs one subtraction a round, at the price that the round in
 * which a loop of the main program ends may be charged in full.
 *
 * @param insnCounts insns of each node
 */
export function chargeInsns(
  graph: FlowGraph,
  shape: FlowShape,
  insnCounts: readonly number[],
  isMain: boolean,
): InsnCharges {
  const { nodes, order, predecessors } = shape;
  const insns = new Int32Array(graph.length);
  const checked = new Uint8Array(graph.length);
  for (const node of nodes) {
    for (const next of graph[node]!) if (order[next]! <= order[node]!) checked[next] = 1;
  }
  if (!isMain) checked[nodes[0]!] = 1;
  const region = isMain ? cycles(graph, shape) : new Int32Array(graph.length);
  const payer = new Int32Array(graph.length);
  for (const node of nodes) {
    if (region[node] === NO_CYCLE) continue;
    const [before, another] = predecessors[node]!;
    const joins =
      before !== undefined &&
      another === undefined &&
      checked[node] === 0 &&
      region[before] === region[node] &&
      graph[before]!.every((next) => next === node || region[next] !== region[node]);
    payer[node] = joins ? payer[before]! : node;
    insns[payer[node]]! += insnCounts[node]!;
  }
  return { insns, checked };
}

const NO_CYCLE = -1;

/**
 * By node: a number that it shares with the nodes it can reach and be reached from, NO_CYCLE when there are none, not
 * even itself. (Tarjan, "Depth-first search and linear graph algorithms", 1972; without recursion.)
 */
function cycles(graph: FlowGraph, { nodes }: FlowShape): Int32Array {
  const component = new Int32Array(graph.length).fill(NO_CYCLE);
  const index = new Int32Array(graph.length).fill(-1);
  const low = new Int32Array(graph.length);
  const onStack = new Uint8Array(graph.length);
  const nextEdge = new Uint8Array(graph.length);
  const stack: number[] = [];
  const path = [nodes[0]!];
  let count = 0;
  for (let node = path.at(-1); node !== undefined; node = path.at(-1)) {
    if (index[node] === -1) {
      index[node] = low[node] = count++;
      stack.push(node);
      onStack[node] = 1;
    }
    const next = graph[node]![nextEdge[node]!];
    if (next !== undefined) {
      nextEdge[node]!++;
      if (index[next] === -1) path.push(next);
      else if (onStack[next] === 1) low[node] = Math.min(low[node]!, index[next]!);
      continue;
    }
    path.pop();
    const parent = path.at(-1);
    if (parent !== undefined) low[parent] = Math.min(low[parent]!, low[node]!);
    if (low[node] !== index[node]) continue;
    const members = stack.splice(stack.lastIndexOf(node));
    const isCycle = members.length > 1 || graph[node]!.includes(node);
    for (const member of members) {
      onStack[member] = 0;
      if (isCycle) component[member] = node;
    }
  }
  return component;
}
