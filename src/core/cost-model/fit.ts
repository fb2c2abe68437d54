/**
 * Fits parameters of a simulation to figures that somebody measured, within what is known of each parameter from
 * elsewhere. What is minimised is the sum, over cells, of (ln(simulated ÷ measured) ÷ CELL_SPREAD)² and, over
 * parameters, of (ln(value ÷ prior) ÷ (spread ÷ prior))²: a parameter that no cell says anything of stays at its prior.
 *
 * Gauss–Newton with Levenberg's damping, in the logarithms of the parameters, so that they stay above 0. Derivatives
 * are differences over steps of some per cent: a simulation of discrete events is no smooth function at smaller ones.
 */

export interface FreeParameter {
  readonly name: string;
  /** What was known before, and one standard deviation of it, in the parameter's unit; both above 0. */
  readonly prior: number;
  readonly spread: number;
}

/** Simulates every cell with these values of the parameters, in their order. Deterministic; results are above 0. */
export type Simulate = (values: readonly number[]) => Promise<readonly number[]>;

export interface FitProblem {
  readonly parameters: readonly FreeParameter[];
  /** What was measured in each cell; undefined for one that is to be predicted and not fitted to. */
  readonly measured: readonly (number | undefined)[];
  readonly simulate: Simulate;
  /** Where to begin; default: the priors. */
  readonly start?: readonly number[] | undefined;
}

export interface Fit {
  readonly values: readonly number[];
  /** What the simulation gives with them, cell by cell. */
  readonly simulated: readonly number[];
  /** By cell, then parameter: d ln(simulated) / d ln(value). */
  readonly jacobian: readonly (readonly number[])[];
  readonly parameters: readonly FittedParameter[];
}

export interface FittedParameter extends FreeParameter {
  readonly value: number;
  /** One standard deviation of what is known of it now, in its unit. */
  readonly deviation: number;
  /** What part of the doubt there was the cells took away: 0, nothing, to 1, all. */
  readonly learnt: number;
}

/**
 * How near a simulation can be expected to come to what was measured. With less, parameters are bent to explain what the
 * simulation leaves out, and what was left out of a fit is predicted badly.
 */
const CELL_SPREAD = 0.025;
const STEP = Math.log(1.05);
const MAX_ROUNDS = 5;
/** Relative change of all parameters at which a fit has come to rest. */
const AT_REST = 0.003;

export async function fit(problem: FitProblem): Promise<Fit> {
  const { parameters, measured, simulate } = problem;
  let x = (problem.start ?? parameters.map(({ prior }) => prior)).map(Math.log);
  let simulated = await simulate(x.map(Math.exp));
  let jacobian: number[][] = [];
  let damping = 1e-3;
  for (let round = 0; round < MAX_ROUNDS; round++) {
    jacobian = await derivatives(x, simulated, simulate);
    let moved = 0;
    for (let attempt = 0; attempt < 6; attempt++) {
      const step = gaussNewtonStep(parameters, measured, x, simulated, jacobian, damping);
      const next = x.map((value, index) => value + step[index]!);
      const found = await simulate(next.map(Math.exp));
      if (misfit(parameters, measured, next, found) < misfit(parameters, measured, x, simulated)) {
        moved = Math.max(...step.map(Math.abs));
        x = next;
        simulated = found;
        damping /= 4;
        break;
      }
      damping *= 8;
    }
    if (moved < AT_REST) break;
  }
  return { ...described(parameters, measured, x, jacobian), simulated, jacobian };
}

/**
 * What the simulation predicts for a cell when it is fitted to all others. Starts from the fit to all of them, whose
 * derivatives it goes on with.
 */
export async function leaveOneOut(problem: FitProblem, whole: Fit, cell: number): Promise<number> {
  const { parameters, simulate } = problem;
  const measured = problem.measured.map((value, index) => (index === cell ? undefined : value));
  let x = whole.values.map(Math.log);
  let simulated = whole.simulated;
  for (let round = 0; round < 2; round++) {
    const step = gaussNewtonStep(parameters, measured, x, simulated, whole.jacobian, 1e-6);
    x = x.map((value, index) => value + step[index]!);
    simulated = await simulate(x.map(Math.exp));
  }
  return simulated[cell]!;
}

/** Correlations of what is known of each two parameters, of more than `least` in size. */
export function correlations(
  problem: FitProblem,
  { jacobian }: Fit,
  least: number,
): { readonly a: string; readonly b: string; readonly r: number }[] {
  const { parameters, measured } = problem;
  const covariance = inverse(information(parameters, measured, jacobian));
  return parameters.flatMap((a, i) =>
    parameters.slice(i + 1).flatMap((b, offset) => {
      const j = i + 1 + offset;
      const r = covariance[i]![j]! / Math.sqrt(covariance[i]![i]! * covariance[j]![j]!);
      return Math.abs(r) > least ? [{ a: a.name, b: b.name, r }] : [];
    }),
  );
}

async function derivatives(
  x: readonly number[],
  simulated: readonly number[],
  simulate: Simulate,
): Promise<number[][]> {
  const jacobian = simulated.map((): number[] => []);
  for (let parameter = 0; parameter < x.length; parameter++) {
    const moved = await simulate(
      x.map((value, index) => Math.exp(index === parameter ? value + STEP : value)),
    );
    moved.forEach((value, cell) => jacobian[cell]!.push(Math.log(value / simulated[cell]!) / STEP));
  }
  return jacobian;
}

function misfit(
  parameters: readonly FreeParameter[],
  measured: FitProblem['measured'],
  x: readonly number[],
  simulated: readonly number[],
): number {
  let sum = 0;
  measured.forEach((value, cell) => {
    if (value !== undefined) sum += (Math.log(simulated[cell]! / value) / CELL_SPREAD) ** 2;
  });
  parameters.forEach(({ prior, spread }, index) => {
    sum += ((x[index]! - Math.log(prior)) / (spread / prior)) ** 2;
  });
  return sum;
}

/** JᵀJ of cells and priors. */
function information(
  parameters: readonly FreeParameter[],
  measured: FitProblem['measured'],
  jacobian: readonly (readonly number[])[],
): number[][] {
  return parameters.map(({ prior, spread }, i) =>
    parameters.map((_, j) => {
      let sum = i === j ? (prior / spread) ** 2 : 0;
      measured.forEach((value, cell) => {
        if (value !== undefined) sum += (jacobian[cell]![i]! * jacobian[cell]![j]!) / CELL_SPREAD ** 2;
      });
      return sum;
    }),
  );
}

function gaussNewtonStep(
  parameters: readonly FreeParameter[],
  measured: FitProblem['measured'],
  x: readonly number[],
  simulated: readonly number[],
  jacobian: readonly (readonly number[])[],
  damping: number,
): number[] {
  const matrix = information(parameters, measured, jacobian).map((row, i) =>
    row.map((value, j) => (i === j ? value * (1 + damping) : value)),
  );
  const gradient = parameters.map(({ prior, spread }, i) => {
    let sum = (Math.log(prior) - x[i]!) / (spread / prior) ** 2;
    measured.forEach((value, cell) => {
      if (value !== undefined)
        sum += (jacobian[cell]![i]! * Math.log(value / simulated[cell]!)) / CELL_SPREAD ** 2;
    });
    return sum;
  });
  const solved = inverse(matrix);
  return solved.map((row) => row.reduce((sum, value, index) => sum + value * gradient[index]!, 0));
}

function described(
  parameters: readonly FreeParameter[],
  measured: FitProblem['measured'],
  x: readonly number[],
  jacobian: readonly (readonly number[])[],
): Pick<Fit, 'values' | 'parameters'> {
  const covariance = inverse(information(parameters, measured, jacobian));
  const values = x.map(Math.exp);
  return {
    values,
    parameters: parameters.map((parameter, index) => {
      const before = (parameter.spread / parameter.prior) ** 2;
      const now = covariance[index]![index]!;
      const value = values[index]!;
      return { ...parameter, value, deviation: Math.sqrt(now) * value, learnt: 1 - now / before };
    }),
  };
}

/** Of a symmetric positive definite matrix (Gauss–Jordan with the largest pivot). */
function inverse(matrix: readonly (readonly number[])[]): number[][] {
  const size = matrix.length;
  const rows = matrix.map((row, i) => [...row, ...row.map((_, j) => (i === j ? 1 : 0))]);
  for (let column = 0; column < size; column++) {
    let pivot = column;
    for (let row = column + 1; row < size; row++) {
      if (Math.abs(rows[row]![column]!) > Math.abs(rows[pivot]![column]!)) pivot = row;
    }
    [rows[column], rows[pivot]] = [rows[pivot]!, rows[column]!];
    const divisor = rows[column]![column]!;
    rows[column] = rows[column]!.map((value) => value / divisor);
    for (let row = 0; row < size; row++) {
      if (row === column) continue;
      const factor = rows[row]![column]!;
      rows[row] = rows[row]!.map((value, index) => value - factor * rows[column]![index]!);
    }
  }
  return rows.map((row) => row.slice(size));
}
