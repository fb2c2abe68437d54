import { describe, expect, it } from 'vitest';
import { emitStructured, flowShape, type FlowGraph } from './structured-control-flow.js';
import { FunctionWriter, I32, ModuleWriter, OP } from '../../src/bpf/wasm-encoder.js';

const MAX_STEPS = 60;
const EDGE = 0x1000;

/**
 * Turns a graph into wasm that logs each node and each edge it passes. A node with two successors takes the
 * first if the lowest bit of a number is set, which then moves on; a walk ends after MAX_STEPS nodes.
 */
function compile(
  graph: FlowGraph,
  edgeCode: (from: number, to: number) => boolean,
): (bits: number) => number[] {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1 });
  const module = new ModuleWriter('walk');
  module.importMemory('x', 'memory', 1);
  const type = { parameters: [I32], results: [] };
  const index = module.declare(type);
  const out = new FunctionWriter(type);
  const [bits, at, steps] = [0, out.local(I32), out.local(I32)];
  const log = (value: number): void => {
    out.get(at).i32(value).memory(OP.i32_store);
    out.get(at).i32(4).op(OP.i32_add).set(at);
  };
  const shape = flowShape(graph);
  emitStructured(graph, shape, out, {
    body(node) {
      out.get(steps).i32(1).op(OP.i32_add).tee(steps).i32(MAX_STEPS).op(OP.i32_gt_u).if();
      out.op(OP.return).end();
      log(node + 1);
    },
    condition() {
      out.get(bits).i32(1).op(OP.i32_and);
      out.get(bits).i32(1).op(OP.i32_shr_u).get(bits).i32(31).op(OP.i32_shl).op(OP.i32_or).set(bits);
    },
    hasEdgeCode: edgeCode,
    edge(from, to) {
      if (edgeCode(from, to)) log(EDGE + 64 * from + to);
    },
    exit() {
      out.op(OP.return);
    },
  });
  out.op(OP.unreachable);
  module.define(index, out);
  module.export('walk', index);
  const instance = new WebAssembly.Instance(new WebAssembly.Module(module.encode().bytes), { x: { memory } });
  return (start) => {
    const words = new Int32Array(memory.buffer).fill(0);
    (instance.exports['walk'] as (bits: number) => void)(start);
    return [...words.subarray(0, words.indexOf(0))];
  };
}

function walk(graph: FlowGraph, edgeCode: (from: number, to: number) => boolean, start: number): number[] {
  const trace: number[] = [];
  let bits = start;
  for (let node = 0, steps = 0; steps < MAX_STEPS; steps++) {
    trace.push(node + 1);
    const [first, second] = graph[node]!;
    if (first === undefined) break;
    let next = first;
    if (second !== undefined) {
      if ((bits & 1) === 0) next = second;
      bits = (bits >>> 1) | (bits << 31);
    }
    if (edgeCode(node, next)) trace.push(EDGE + 64 * node + next);
    node = next;
  }
  return trace;
}

/** `log` is cut at the step limit in the middle of an edge; compare what both have. */
function expectSameWalk(graph: FlowGraph, edgeCode: (from: number, to: number) => boolean): void {
  const run = compile(graph, edgeCode);
  for (const bits of [0, -1, 0x55555555, 0x33333333, 0x0f0f1234, 0x7531fedc, 0x1b3d5f79]) {
    expect(run(bits), JSON.stringify({ graph, bits })).toEqual(walk(graph, edgeCode, bits));
  }
}

const noEdges = (): boolean => false;
const someEdges = (from: number, to: number): boolean => (from * 7 + to) % 3 === 0;

describe('emitStructured', () => {
  it.each<[string, FlowGraph, boolean]>([
    ['a single node', [[]], true],
    ['a diamond', [[1, 2], [3], [3], []], true],
    ['a loop with two exits', [[1], [2, 4], [3, 5], [1], [5], []], true],
    ['nested loops', [[1], [2], [2, 3], [1, 4], []], true],
    ['a loop at the entry', [[1, 2], [0], []], true],
    ['two back edges to one header', [[1], [2, 3], [1], [1, 4], []], true],
    ['an edge from a loop to behind the next', [[1], [1, 2], [3, 4], [2], []], true],
    ['a loop entered in two places', [[1, 2], [2, 3], [1], []], false],
    ['both branches to one node', [[1, 1], []], true],
  ])('walks %s', (_, graph, reducible) => {
    expect(flowShape(graph).reducible).toBe(reducible);
    expectSameWalk(graph, noEdges);
    expectSameWalk(graph, someEdges);
  });

  it('walks random graphs as they are', () => {
    let state = 12345;
    const below = (limit: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) | 0;
      return (state >>> 8) % limit;
    };
    let irreducible = 0;
    for (let round = 0; round < 700; round++) {
      const size = 2 + below(14);
      // Half of the graphs have few edges backwards, so that many are reducible.
      const mostlyForward = round % 2 === 0;
      const target = (node: number): number =>
        mostlyForward && below(8) > 0 && node < size - 1 ? node + 1 + below(size - node - 1) : below(size);
      const graph = Array.from({ length: size }, (_, node) =>
        Array.from({ length: node === size - 1 ? 0 : [1, 2, 2, 2, 0][below(node === 0 ? 4 : 5)]! }, () =>
          target(node),
        ),
      );
      if (!flowShape(graph).reducible) irreducible++;
      expectSameWalk(graph, round % 3 === 0 ? noEdges : someEdges);
    }
    expect(irreducible).toBeGreaterThan(30);
    expect(irreducible).toBeLessThan(650);
  });

  it('nests deep graphs flat and does not recurse', () => {
    // 30 000 conditional blocks, each of which may leave for the end; and as many arms of an if-else chain.
    const count = 30_000;
    const exits: FlowGraph = Array.from({ length: count }, (_, i) =>
      i === count - 1 ? [] : [count - 1, i + 1],
    );
    const arms: FlowGraph = Array.from({ length: 2 * count + 1 }, (_, i) =>
      i === 2 * count ? [] : i % 2 === 1 ? [2 * count] : [i + 1, i + 2],
    );
    for (const graph of [exits, arms]) expect(compile(graph, noEdges)(0)[0]).toBe(1);
  });
});

describe('flowShape', () => {
  it('finds the dominators that removing each node shows', () => {
    let state = 99;
    const below = (limit: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) | 0;
      return (state >>> 8) % limit;
    };
    for (let round = 0; round < 400; round++) {
      const size = 2 + below(20);
      const graph = Array.from({ length: size }, () => Array.from({ length: below(3) }, () => below(size)));
      const { nodes, order, dominator } = flowShape(graph);
      const reach = (without: number): Set<number> => {
        const seen = new Set<number>();
        const pending = without === 0 ? [] : [0];
        for (let node = pending.pop(); node !== undefined; node = pending.pop()) {
          if (seen.has(node)) continue;
          seen.add(node);
          pending.push(...graph[node]!.filter((next) => next !== without));
        }
        return seen;
      };
      for (const node of nodes.slice(1)) {
        // The immediate dominator is the last in reverse postorder of those without which the node is lost.
        const dominators = nodes.filter((other) => other !== node && !reach(other).has(node));
        const immediate = dominators.reduce((a, b) => (order[a]! > order[b]! ? a : b));
        expect(dominator[node], JSON.stringify(graph)).toBe(immediate);
      }
    }
  });
});
