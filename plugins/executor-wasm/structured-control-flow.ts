import { I32, OP, type FunctionWriter, type BlockLabel } from '../../src/bpf/wasm-encoder.js';

/**
 * WebAssembly has no goto: a control-flow graph must become nested blocks, loops and ifs. This follows Ramsey,
 * "Beyond Relooper: recursive translation of unstructured control flow to structured control flow" (ICFP
 * 2022): the code of a node is the node itself, followed by what it dominates. A node that several forward
 * edges lead to is placed behind a block, and those edges are branches out of that block; a node that a back
 * edge leads to is a loop. It needs a reducible graph; an irreducible one, which no compiler emits from
 * structured source, runs in a loop around a jump table, one entry per node.
 *
 * Two changes keep the nesting shallow for programs of thousands of blocks: of two inline branches only the
 * smaller is nested in an `if`, the other follows it; and nothing here recurses.
 */

/** A graph with entry 0. Each node has at most two successors, the one for a true condition first. */
export type FlowGraph = readonly (readonly number[])[];

/** What a graph's nodes are made of. */
export interface NodeEmitter {
  /** The straight-line code of a node. */
  body(node: number): void;
  /** Pushes an i32 for a node with two successors: not zero for the first. */
  condition(node: number): void;
  /** Whether `edge` would write anything. */
  hasEdgeCode(from: number, to: number): boolean;
  /** Code that runs on the way from one node to another. */
  edge(from: number, to: number): void;
  /** Ends a node without successors: a return, a branch out of everything, or a trap. */
  exit(node: number): void;
}

/** What is known of a graph's shape. Nodes that the entry does not reach have order -1. */
export interface FlowShape {
  /** Reachable nodes in reverse postorder. */
  readonly nodes: readonly number[];
  /** Position of each node in `nodes`. */
  readonly order: Int32Array;
  /** Immediate dominator of each node; the entry's is itself. */
  readonly dominator: Int32Array;
  readonly predecessors: readonly (readonly number[])[];
  readonly reducible: boolean;
}

export function flowShape(graph: FlowGraph): FlowShape {
  const nodes = reversePostorder(graph);
  const order = new Int32Array(graph.length).fill(-1);
  nodes.forEach((node, position) => (order[node] = position));
  const predecessors: number[][] = graph.map(() => []);
  for (const node of nodes) for (const next of graph[node]!) predecessors[next]!.push(node);

  const tree = new DominatorTree(graph.length, order);
  for (let changed = true; changed;) {
    changed = false;
    for (const node of nodes) {
      if (node !== 0 && tree.place(node, predecessors[node]!)) changed = true;
    }
  }
  const { dominator } = tree;
  let reducible = true;
  for (const node of nodes) {
    for (const next of graph[node]!) {
      if (order[next]! <= order[node]! && !tree.dominates(next, node)) reducible = false;
    }
  }
  return { nodes, order, dominator, predecessors, reducible };
}

/** Writes the whole graph. Control never falls off its end. */
export function emitStructured(
  graph: FlowGraph,
  shape: FlowShape,
  out: FunctionWriter,
  emitter: NodeEmitter,
): void {
  if (shape.reducible) new StructuredEmission(graph, shape, out, emitter).run();
  else emitDispatchLoop(graph, shape, out, emitter);
}

/** A step that is still to be done; the last one pushed is next. */
type Task =
  | { readonly kind: 'tree' | 'node'; readonly node: number }
  | { readonly kind: 'go'; readonly from: number; readonly to: number }
  | { readonly kind: 'end' };

const END: Task = { kind: 'end' };

class StructuredEmission {
  readonly #merges: Uint8Array;
  readonly #headers: Uint8Array;
  /** Nodes each node dominates immediately and that are merge nodes, in reverse postorder. */
  readonly #mergeChildren: number[][];
  readonly #subtreeSize: Int32Array;
  /** The label to branch to in order to reach a merge node or a loop header. */
  readonly #labels: Int32Array;
  readonly #tasks: Task[] = [{ kind: 'tree', node: 0 }];

  constructor(
    readonly graph: FlowGraph,
    readonly shape: FlowShape,
    readonly out: FunctionWriter,
    readonly emitter: NodeEmitter,
  ) {
    const { nodes, order, dominator, predecessors } = shape;
    this.#merges = new Uint8Array(graph.length);
    this.#headers = new Uint8Array(graph.length);
    this.#labels = new Int32Array(graph.length).fill(-1);
    this.#mergeChildren = graph.map(() => []);
    this.#subtreeSize = new Int32Array(graph.length).fill(1);
    for (const node of nodes) {
      let forward = 0;
      for (const before of predecessors[node]!) {
        if (order[before]! >= order[node]!) this.#headers[node] = 1;
        else forward++;
      }
      if (forward > 1) {
        this.#merges[node] = 1;
        this.#mergeChildren[dominator[node]!]!.push(node);
      }
    }
    for (let i = nodes.length - 1; i > 0; i--) {
      const node = nodes[i]!;
      this.#subtreeSize[dominator[node]!]! += this.#subtreeSize[node]!;
    }
  }

  run(): void {
    for (let task = this.#tasks.pop(); task !== undefined; task = this.#tasks.pop()) {
      if (task.kind === 'tree') this.#openTree(task.node);
      else if (task.kind === 'node') this.#node(task.node);
      else if (task.kind === 'go') this.#go(task.from, task.to);
      else this.out.end();
    }
  }

  /** Opens the blocks of the merge nodes that `node` dominates, and its loop if it is a header. */
  #openTree(node: number): void {
    const children = this.#mergeChildren[node]!;
    if (this.#headers[node] === 0) {
      const after = this.#openBlocks(children);
      this.#push({ kind: 'node', node }, after);
      return;
    }
    // What the loop leads out to lies behind it: a smaller loop, which V8 treats better.
    const body = children.length === 0 ? undefined : this.#loopBody(node);
    const inside = children.filter((child) => body!.has(child));
    const outside = children.filter((child) => !body!.has(child));
    const afterLoop = this.#openBlocks(outside);
    this.#labels[node] = this.out.loop();
    const afterNode = this.#openBlocks(inside);
    this.#push({ kind: 'node', node }, [...afterNode, END, ...afterLoop]);
  }

  /** Opens a block per merge node, the one to be placed last outermost; returns what follows in order. */
  #openBlocks(children: readonly number[]): Task[] {
    const after: Task[] = [];
    for (let i = children.length - 1; i >= 0; i--) this.#labels[children[i]!] = this.out.block();
    for (const child of children) after.push(END, { kind: 'tree', node: child });
    return after;
  }

  #push(first: Task, after: readonly Task[]): void {
    for (let i = after.length - 1; i >= 0; i--) this.#tasks.push(after[i]!);
    this.#tasks.push(first);
  }

  #node(node: number): void {
    const { out, emitter } = this;
    emitter.body(node);
    const successors = this.graph[node]!;
    if (successors.length === 0) {
      emitter.exit(node);
    } else if (successors.length === 1) {
      this.#go(node, successors[0]!);
    } else {
      const [taken, other] = successors as readonly [number, number];
      emitter.condition(node);
      const takenInline = this.#isInline(node, taken);
      const otherInline = this.#isInline(node, other);
      if (!takenInline && !emitter.hasEdgeCode(node, taken)) {
        out.brIf(this.#labels[taken]!);
        this.#go(node, other);
        return;
      }
      const nestTaken =
        !takenInline || (otherInline && this.#subtreeSize[taken]! <= this.#subtreeSize[other]!);
      if (!nestTaken) out.op(OP.i32_eqz);
      const [nested, behind] = nestTaken ? [taken, other] : [other, taken];
      if (!this.#isInline(node, nested) && !emitter.hasEdgeCode(node, nested)) {
        out.brIf(this.#labels[nested]!);
        this.#go(node, behind);
        return;
      }
      out.if();
      if (this.#isInline(node, nested)) {
        emitter.edge(node, nested);
        this.#tasks.push({ kind: 'go', from: node, to: behind }, END, { kind: 'tree', node: nested });
      } else {
        this.#go(node, nested);
        out.end();
        this.#go(node, behind);
      }
    }
  }

  #go(from: number, to: number): void {
    this.emitter.edge(from, to);
    if (this.#isInline(from, to)) this.#tasks.push({ kind: 'tree', node: to });
    else this.out.br(this.#labels[to]!);
  }

  /** Whether the target's code follows right here: one forward edge leads to it, and this is it. */
  #isInline(from: number, to: number): boolean {
    return this.#merges[to] === 0 && this.shape.order[to]! > this.shape.order[from]!;
  }

  /** The natural loop of a header: nodes that reach one of its back edges without passing it. */
  #loopBody(header: number): Set<number> {
    const { predecessors, order } = this.shape;
    const body = new Set([header]);
    const pending = predecessors[header]!.filter((before) => order[before]! >= order[header]!);
    for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
      if (body.has(node)) continue;
      body.add(node);
      pending.push(...predecessors[node]!);
    }
    return body;
  }
}

/** `loop { switch (next) { … } }`: works for every graph, at the price of an indirect jump per edge. */
function emitDispatchLoop(
  graph: FlowGraph,
  { nodes, order }: FlowShape,
  out: FunctionWriter,
  emitter: NodeEmitter,
): void {
  const next = out.local(I32);
  // The local is 0 at first, but the code may stand in a loop of the caller's.
  out.i32(0).set(next);
  const again = out.loop();
  const labels: BlockLabel[] = new Array<BlockLabel>(nodes.length);
  for (let i = nodes.length - 1; i >= 0; i--) labels[i] = out.block();
  const goTo = (from: number, to: number): void => {
    emitter.edge(from, to);
    out.i32(order[to]!).set(next).br(again);
  };
  out.get(next).brTable(labels.slice(0, -1), labels.at(-1)!);
  for (const node of nodes) {
    out.end();
    emitter.body(node);
    const [first, second] = graph[node]!;
    if (first === undefined) {
      emitter.exit(node);
    } else if (second === undefined) {
      goTo(node, first);
    } else {
      emitter.condition(node);
      out.if();
      goTo(node, first);
      out.end();
      goTo(node, second);
    }
  }
  out.end();
}

function reversePostorder(graph: FlowGraph): number[] {
  const order: number[] = [];
  const seen = new Uint8Array(graph.length);
  seen[0] = 1;
  // Depth-first without recursion: the path, and for each node how many successors were followed.
  const followed = new Uint8Array(graph.length);
  const path = [0];
  while (path.length > 0) {
    const node = path[path.length - 1]!;
    const next = graph[node]![followed[node]!++];
    if (next === undefined) {
      order.push(node);
      path.pop();
    } else if (seen[next] === 0) {
      seen[next] = 1;
      path.push(next);
    }
  }
  return order.reverse();
}

/**
 * Cooper, Harvey and Kennedy, "A simple, fast dominance algorithm", with skip pointers: where thousands of
 * branches lead to one place, climbing the tree step by step would be quadratic.
 */
class DominatorTree {
  readonly dominator: Int32Array;
  readonly #depth: Int32Array;
  /** Some ancestor, so that ancestors are reached in a logarithmic number of steps. */
  readonly #skip: Int32Array;

  constructor(
    size: number,
    readonly order: Int32Array,
  ) {
    this.dominator = new Int32Array(size).fill(-1);
    this.#depth = new Int32Array(size);
    this.#skip = new Int32Array(size);
    this.dominator[0] = 0;
  }

  /** Recomputes a node's dominator, in reverse postorder; whether it changed. */
  place(node: number, predecessors: readonly number[]): boolean {
    const { dominator, order } = this;
    let common = -1;
    for (const before of predecessors) {
      if (dominator[before] === -1) continue;
      if (common === -1) common = before;
      // What comes later in the order still has the skip pointers of the last round.
      else if (order[before]! >= order[node]!) common = this.#commonByOrder(before, common);
      else
        common =
          order[common]! >= order[node]! ? this.#commonByOrder(common, before) : this.#common(before, common);
    }
    const changed = dominator[node] !== common;
    dominator[node] = common;
    this.#depth[node] = this.#depth[common]! + 1;
    const far = this.#skip[common]!;
    const [near, middle, end] = [this.#depth[common]!, this.#depth[far]!, this.#depth[this.#skip[far]!]!];
    this.#skip[node] = near - middle === middle - end ? this.#skip[far]! : common;
    return changed;
  }

  /** Once nothing changes any more. */
  dominates(ancestor: number, node: number): boolean {
    return this.#climb(node, this.#depth[ancestor]!) === ancestor;
  }

  #climb(node: number, depth: number): number {
    while (this.#depth[node]! > depth) {
      const skip = this.#skip[node]!;
      node = this.#depth[skip]! >= depth ? skip : this.dominator[node]!;
    }
    return node;
  }

  #common(a: number, b: number): number {
    const depth = Math.min(this.#depth[a]!, this.#depth[b]!);
    a = this.#climb(a, depth);
    b = this.#climb(b, depth);
    while (a !== b) {
      const apart = this.#skip[a] !== this.#skip[b];
      a = apart ? this.#skip[a]! : this.dominator[a]!;
      b = apart ? this.#skip[b]! : this.dominator[b]!;
    }
    return a;
  }

  #commonByOrder(a: number, b: number): number {
    const { dominator, order } = this;
    while (a !== b) {
      while (order[a]! > order[b]!) a = dominator[a]!;
      while (order[b]! > order[a]!) b = dominator[b]!;
    }
    return a;
  }
}
