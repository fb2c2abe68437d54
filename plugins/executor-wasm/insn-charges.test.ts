import { describe, expect, it } from 'vitest';
import { chargeInsns } from './insn-charges.js';
import { flowShape, type FlowGraph } from './structured-control-flow.js';

function charges(graph: FlowGraph, counts: readonly number[], isMain = true) {
  const { insns, checked } = chargeInsns(graph, flowShape(graph), counts, isMain);
  return { insns: [...insns], checked: [...checked] };
}

describe('chargeInsns', () => {
  it('charges a main program without loops for nothing', () => {
    expect(charges([[1, 2], [3], [3], []], [1, 2, 4, 8])).toEqual({
      insns: [0, 0, 0, 0],
      checked: [0, 0, 0, 0],
    });
  });

  it('charges a local function for each way through it', () => {
    const { insns, checked } = charges([[1, 2], [3], [3], [4], []], [1, 2, 4, 8, 16], false);
    expect(insns).toEqual([1, 2, 4, 24, 0]);
    expect(checked).toEqual([1, 0, 0, 0, 0]);
  });

  it('charges for a round of a loop at once', () => {
    // 1: header, may leave to 3; 2: body, may leave to 3 or go back.
    expect(charges([[1], [3, 2], [1, 3], []], [1, 2, 4, 8])).toEqual({
      insns: [0, 6, 0, 0],
      checked: [0, 1, 0, 0],
    });
  });

  it('charges for the branches of a loop by themselves', () => {
    expect(charges([[1], [2, 3], [4], [4], [1, 5], []], [1, 2, 4, 8, 16, 32])).toEqual({
      insns: [0, 2, 4, 8, 16, 0],
      checked: [0, 1, 0, 0, 0, 0],
    });
  });

  it('keeps a loop in a loop apart from what surrounds it', () => {
    // 1 to 4: outer loop; 2 and 3: inner loop, which leaves from 2.
    expect(charges([[1], [2], [4, 3], [2], [1, 5], []], [1, 2, 4, 8, 16, 32])).toEqual({
      insns: [0, 2, 4, 8, 16, 0],
      checked: [0, 1, 1, 0, 0, 0],
    });
  });

  it('checks a node that jumps to itself, and every cycle of an irreducible graph', () => {
    expect(charges([[0, 1], []], [3, 1])).toEqual({ insns: [3, 0], checked: [1, 0] });
    const { insns, checked } = charges([[1, 2], [2, 3], [1], []], [1, 2, 4, 8]);
    expect(insns).toEqual([0, 2, 4, 0]);
    expect(checked[1]! + checked[2]!).toBe(1);
  });
});
