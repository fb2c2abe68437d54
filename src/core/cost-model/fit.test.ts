import { describe, expect, it } from 'vitest';
import { fit, leaveOneOut, misorderedPairs, posterior, type FitProblem } from './fit.js';

/** Rates of a server that works off parts one after the other: 1 ÷ the sum of what its parts cost. */
function serial(
  parts: readonly (readonly number[])[],
  truth: readonly number[],
  changes: Partial<FitProblem> = {},
): FitProblem & { readonly simulated: number[][] } {
  const rate = (values: readonly number[], cell: number): number =>
    1 / parts[cell]!.reduce((sum, count, index) => sum + count * values[index]!, 0);
  const simulated: number[][] = [];
  return {
    simulated,
    parameters: truth.map((value, index) => ({
      name: `p${index}`,
      start: value * 1.5,
      prior: value * 1.5,
      spread: value * 1000,
    })),
    cells: parts.map((_, cell) => ({ id: `c${cell}`, reference: rate(truth, cell) })),
    tolerance: 0.02,
    simulate: (values, cells) => {
      simulated.push([...values]);
      return Promise.resolve(cells.map((cell) => rate(values, cell)));
    },
    ...changes,
  };
}

const THREE = [
  [1, 1, 0],
  [0, 1, 1],
  [1, 0, 1],
  [1, 1, 1],
];
const exactly = { precision: 1e-14 };

describe('a fit', () => {
  it('finds what made the rates, when the priors hardly hold', async () => {
    const truth = [100, 250, 40];
    const { values, rates } = await fit(serial(THREE, truth), exactly);
    for (const [index, value] of values.entries()) expect(value / truth[index]!).toBeCloseTo(1, 4);
    expect(rates.get(3)! * 390).toBeCloseTo(1, 5);
  });

  it('finds it from far away', async () => {
    const problem = serial(THREE, [100, 250, 40]);
    const parameters = problem.parameters.map((parameter) => ({ ...parameter, start: 5000 }));
    const { values } = await fit({ ...problem, parameters }, exactly);
    expect(values[0]! / 100).toBeCloseTo(1, 4);
    expect(values[2]! / 40).toBeCloseTo(1, 4);
  });

  it('meets in the middle what prior and cell weigh the same for', async () => {
    // ln(rate) = -ln(value): the cell says 100 ± 2 %, the prior 102 ± 2.
    const problem = serial([[1]], [100], { parameters: [{ name: 'p', start: 90, prior: 102, spread: 2 }] });
    const found = await fit(problem, exactly);
    expect(found.values[0]).toBeGreaterThan(100.95);
    expect(found.values[0]).toBeLessThan(101.05);
    const { estimates } = posterior(problem, found);
    expect(estimates[0]!.told).toBeCloseTo(0.5, 1);
    expect(estimates[0]!.deviation).toBeCloseTo(Math.SQRT2, 1);
  });

  it('leaves a parameter that no cell depends on at its prior, and says so', async () => {
    const problem = serial(
      THREE.map((row) => [...row, 0]),
      [100, 250, 40, 7],
    );
    const parameters = problem.parameters.map((parameter, index) =>
      index === 3 ? { name: 'idle', start: 7, prior: 12, spread: 3 } : parameter,
    );
    const found = await fit({ ...problem, parameters }, exactly);
    expect(found.values[3]).toBeCloseTo(12, 5);
    expect(found.values[1]! / 250).toBeCloseTo(1, 4);
    const { estimates } = posterior({ ...problem, parameters }, found);
    expect(estimates[3]).toMatchObject({ name: 'idle', deviation: 3, told: 0 });
    expect(estimates[1]!.told).toBeGreaterThan(0.99);
  });

  it('names parameters that only their sum is known of', async () => {
    const parameters = ['a', 'b'].map((name) => ({ name, start: 60, prior: 60, spread: 30 }));
    const problem = serial([[1, 1]], [50, 50], { parameters });
    const found = await fit(problem, exactly);
    expect(found.values[0]).toBeCloseTo(found.values[1]!, 6);
    expect(found.values[0]! + found.values[1]!).toBeCloseTo(100, 0);
    const { correlations, estimates } = posterior(problem, found);
    expect(correlations).toHaveLength(1);
    expect(correlations[0]!.parameters).toEqual(['a', 'b']);
    expect(correlations[0]!.r).toBeLessThan(-0.99);
    // One of the two directions is known, the other not at all.
    expect(estimates[0]!.told).toBeCloseTo(0.5, 2);
  });

  it('keeps costs above 0, and tells which would go on', async () => {
    // No cost is so small that the rate is reached: the other cell holds the rest.
    const problem = serial(
      [
        [1, 1],
        [0, 1],
      ],
      [10, 100],
    );
    const cells = [{ id: 'c0', reference: 1 / 80 }, problem.cells[1]!];
    const found = await fit({ ...problem, cells }, exactly);
    expect(found.values[0]).toBeCloseTo(0.02 * problem.parameters[0]!.prior, 9);
    expect(found.atBound).toEqual([true, false]);
    expect(Math.min(...problem.simulated.flat())).toBeGreaterThan(0);
    // What is left is shared: rates 1/p of 1/80 and 1/100.
    expect(found.values[1]).toBeCloseTo(Math.sqrt(80 * 100), 0);
  });

  it('is not thrown off by a simulation of steps, and gives the same each time', async () => {
    const stepped = (): FitProblem => {
      const problem = serial(THREE, [100, 250, 40]);
      return {
        ...problem,
        simulate: async (values, cells) =>
          (await problem.simulate(values, cells)).map((rate) => Math.round(rate * 2e5) / 2e5),
      };
    };
    const first = await fit(stepped());
    expect(first.values[0]! / 100).toBeCloseTo(1, 1);
    expect(first.values[2]! / 40).toBeCloseTo(1, 0);
    expect(await fit(stepped())).toEqual(first);
  });

  it('meets only the cells that it is to meet', async () => {
    const problem = serial(THREE, [100, 250, 40]);
    const cells = problem.cells.map((cell, index) => (index === 3 ? { ...cell, reference: 1 } : cell));
    const found = await fit({ ...problem, cells }, { ...exactly, cells: [0, 1, 2] });
    expect(found.values[0]! / 100).toBeCloseTo(1, 4);
    expect([...found.rates.keys()]).toEqual([0, 1, 2]);
  });

  it('survives rates of 0', async () => {
    const problem = serial(THREE, [100, 250, 40]);
    const found = await fit({ ...problem, simulate: (_, cells) => Promise.resolve(cells.map(() => 0)) });
    expect(found.values.every(Number.isFinite)).toBe(true);
  });
});

describe('leaving one out', () => {
  it('predicts a cell that the others know all about, and not one that nothing else tells of', async () => {
    // The last parameter is only in the last cell.
    const problem = serial([...THREE.map((row) => [...row, 0]), [0, 0, 1, 1]], [100, 250, 40, 60]);
    const found = await fit(problem, exactly);
    const predicted = await leaveOneOut(problem, found, exactly);
    for (const cell of [0, 1, 2, 3]) {
      expect(predicted.get(cell)! / problem.cells[cell]!.reference).toBeCloseTo(1, 4);
    }
    // Back at the prior of 90: 1 / (40 + 90) instead of 1 / (40 + 60).
    expect(1 / predicted.get(4)!).toBeCloseTo(130, 2);
  });

  it('does not learn from the cell that it leaves out', async () => {
    const problem = serial(THREE, [100, 250, 40]);
    const cells = problem.cells.map((cell, index) =>
      index === 3 ? { ...cell, reference: cell.reference * 2 } : cell,
    );
    const bent = { ...problem, cells };
    const predicted = await leaveOneOut(bent, await fit(bent, exactly), exactly);
    expect(predicted.get(3)! * 390).toBeCloseTo(1, 3);
  });
});

describe('the order of cells', () => {
  it('is wrong for pairs that come out the other way round, or the same', () => {
    const cells = [3, 2, 2, 1].map((reference, index) => ({ id: `c${index}`, reference }));
    const wrong = misorderedPairs(cells, [5, 4, 6, 4]).map(([a, b]) => `${a.id} ${b.id}`);
    expect(wrong).toEqual(['c0 c2', 'c1 c3']);
  });
});
