import { describe, expect, it } from 'vitest';
import { correlations, fit, leaveOneOut, type FitProblem } from './fit.js';

/** Frames per microsecond of a CPU that takes these nanoseconds for a frame. */
const rate = (nanoseconds: number): number => 1000 / nanoseconds;

/** Two cells with one part in common: a + b and a + c. */
const twoCells = (measured: readonly (number | undefined)[]): FitProblem => ({
  parameters: [
    { name: 'a', prior: 100, spread: 40 },
    { name: 'b', prior: 50, spread: 20 },
    { name: 'c', prior: 200, spread: 80 },
  ],
  measured,
  simulate: async ([a, b, c]) => [rate(a! + b!), rate(a! + c!)],
});

describe('fit', () => {
  it('finds the value that gives what was measured, when there is one parameter for one cell', async () => {
    const found = await fit({
      parameters: [{ name: 'a', prior: 100, spread: 60 }],
      measured: [rate(140)],
      simulate: async ([a]) => [rate(a!)],
    });
    // The prior pulls a little: two and a half per cent of the cell against sixty of the prior.
    expect(found.values[0]).toBeCloseTo(140, 0);
    expect(found.parameters[0]!.learnt).toBeGreaterThan(0.99);
    // d ln(rate) / d ln(a) is −1: what the cell is known to is what the parameter is.
    expect(found.parameters[0]!.deviation / found.values[0]!).toBeCloseTo(0.025, 3);
  });

  it('leaves at its prior what no cell depends on, and says that nothing was learnt', async () => {
    const found = await fit({
      parameters: [
        { name: 'a', prior: 100, spread: 60 },
        { name: 'idle', prior: 7, spread: 3 },
      ],
      measured: [rate(140)],
      simulate: async ([a]) => [rate(a!)],
    });
    expect(found.values[1]).toBeCloseTo(7, 9);
    expect(found.parameters[1]!.learnt).toBeCloseTo(0, 9);
    expect(found.parameters[1]!.deviation).toBeCloseTo(3, 9);
  });

  it('meets both cells, and shares what either would have alone by what is known of each', async () => {
    const problem = twoCells([rate(180), rate(330)]);
    const found = await fit(problem);
    expect(found.simulated[0]! / rate(180)).toBeCloseTo(1, 2);
    expect(found.simulated[1]! / rate(330)).toBeCloseTo(1, 2);
    // Three parameters and two cells: a and b are known by their sum.
    expect(correlations(problem, found, 0.5).map(({ a, b }) => [a, b])).toContainEqual(['a', 'b']);
    expect(found.parameters[0]!.learnt).toBeLessThan(0.9);
  });

  it('predicts a cell from the others: from the prior of what they do not tell', async () => {
    const problem = twoCells([rate(180), rate(500)]);
    const predicted = await leaveOneOut(problem, await fit(problem), 1);
    const alone = await fit(twoCells([rate(180), undefined]));
    // c is at its prior again, so the cell is some 120 + 200 ns and not 500.
    expect(alone.values[2]).toBeCloseTo(200, 6);
    expect(1000 / predicted).toBeGreaterThan(310);
    expect(1000 / predicted).toBeLessThan(330);
    expect(predicted).toBeCloseTo(alone.simulated[1]!, 1);
  });

  it('predicts a cell that is like another as that one says', async () => {
    const problem: FitProblem = {
      parameters: [{ name: 'a', prior: 100, spread: 60 }],
      measured: [rate(140), rate(140), rate(140)],
      simulate: async ([a]) => [rate(a!), rate(a!), rate(a!)],
    };
    expect(await leaveOneOut(problem, await fit(problem), 2)).toBeCloseTo(rate(140), 1);
  });

  it('finds its way where the first step would go too far', async () => {
    const found = await fit({
      parameters: [{ name: 'a', prior: 1, spread: 5 }],
      measured: [rate(400)],
      // Nothing but the wire limits it at first.
      simulate: async ([a]) => [Math.min(rate(100), rate(a! * a!))],
      start: [12],
    });
    expect(found.values[0]).toBeCloseTo(20, 0);
  });
});
