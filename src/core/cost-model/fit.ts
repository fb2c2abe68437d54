import { inverse, solve } from './symmetric-matrix.js';

/**
 * Fits parameters of a simulation to rates that somebody measured: the values for which
 *
 *     Σ (ln(simulated / reference) / tolerance)²  +  Σ ((value − prior) / spread)²
 *
 * is smallest, by Levenberg–Marquardt. The first sum is over the cells, in logarithms, so that a slow one weighs as much
 * as a fast one; the second over the parameters, as they are: a prior says what was known before, and keeps a
 * parameter that the cells say nothing of where it was. No randomness: the same problem gives the same fit.
 */
export interface FitProblem {
  readonly parameters: readonly FitParameter[];
  readonly cells: readonly FitCell[];
  /** One standard deviation of how well a cell can be met, the reference's own error included; relative, e.g. 0.02. */
  readonly tolerance: number;
  /**
   * The rates of these cells (indexes) at these values of the parameters, in the same orders. Need not be smooth at
   * small steps.
   */
  simulate(values: readonly number[], cells: readonly number[]): Promise<readonly number[]>;
}

export interface FitParameter {
  readonly name: string;
  /** Where the fit starts. */
  readonly start: number;
  readonly prior: number;
  /** One standard deviation of the prior, in the parameter's unit. */
  readonly spread: number;
}

export interface FitCell {
  readonly id: string;
  /** Above 0, in the unit of the simulation's rates. */
  readonly reference: number;
}

export interface FitOptions {
  /** Indexes of the cells to be met; left out, all. */
  readonly cells?: readonly number[] | undefined;
  /** A fit of the same problem to begin with. Its derivatives are taken as they are, and only mended. */
  readonly from?: Fit | undefined;
  /**
   * Ends when a step makes half the sum smaller by no more than this part of it, or than this where little is left:
   * 0.005, as the rates of a simulation have steps of their own.
   */
  readonly precision?: number | undefined;
  readonly maxSteps?: number | undefined;
  readonly onStep?: ((step: number, values: readonly number[], sum: number) => void) | undefined;
}

export interface Fit {
  /** In the order of the problem's parameters. */
  readonly values: readonly number[];
  /** What the simulation gave for them, by the index of the cell; absent for cells that were not to be met. */
  readonly rates: ReadonlyMap<number, number>;
  /** Derivatives of ln(rate) by the parameter, in the parameter's spread: a row for each of `rates`. */
  readonly derivatives: ReadonlyMap<number, readonly number[]>;
  /** The sum that was to become small. */
  readonly sum: number;
  /** Parameters that would go on below the least value that they may have. */
  readonly atBound: readonly boolean[];
  readonly steps: number;
}

/**
 * How far a parameter is moved to see what that does: a part of its spread, but within these parts of its value. Far
 * enough that it is more than the steps of a discrete-event simulation, near enough that it is nearly straight.
 */
const DIFFERENCE = { ofSpread: 0.2, ofValue: { least: 0.05, most: 0.2 } } as const;
/** Part of the prior that a parameter does not fall below. */
const LEAST = 0.02;
/** A rate of nothing has no logarithm. */
const LEAST_RATIO = 1e-6;
const FIRST_DAMPING = 1e-3;
/** Steps after each other that lead up, each shorter than the one before: what is left is the steps of the simulation. */
const MOST_MISSES = 4;
/** Steps that gain less than they would have to. */
const MOST_STALLS = 1;

export async function fit(problem: FitProblem, options: FitOptions = {}): Promise<Fit> {
  return new Fitting(problem, options).run();
}

/** One fit under way. Works in units of the priors' spreads: 0 is the prior. */
class Fitting {
  readonly #cells: readonly number[];
  readonly #least: readonly number[];
  #at: number[];
  #rates: readonly number[] = [];
  #residuals: number[] = [];
  /** Of the residuals: a row for each cell. */
  #jacobian: number[][] = [];
  /** The jacobian was taken where we are. */
  #exact = false;

  constructor(
    readonly problem: FitProblem,
    readonly options: FitOptions,
  ) {
    const { parameters, cells } = problem;
    this.#cells = options.cells ?? cells.map((_, index) => index);
    this.#least = parameters.map(
      ({ prior, spread }) => (LEAST * (prior > 0 ? prior : spread) - prior) / spread,
    );
    const start = options.from?.values ?? parameters.map((parameter) => parameter.start);
    this.#at = start.map((value, index) => {
      const { prior, spread } = parameters[index]!;
      return Math.max((value - prior) / spread, this.#least[index]!);
    });
  }

  async run(): Promise<Fit> {
    const { precision = 5e-3, maxSteps = 30, from, onStep } = this.options;
    const { tolerance } = this.problem;
    await this.#move(this.#at);
    if (from === undefined) {
      await this.#differentiate();
    } else {
      this.#jacobian = this.#cells.map((cell) =>
        from.derivatives.get(cell)!.map((slope) => slope / tolerance),
      );
    }
    let damping = FIRST_DAMPING;
    let [steps, misses, stalls] = [0, 0, 0];
    const spent = (): boolean => steps >= maxSteps || misses > MOST_MISSES || stalls > MOST_STALLS;
    for (;;) {
      const step = this.#step(damping);
      const before = half(this.#residuals, this.#at);
      const least = precision * (before + 1);
      if (spent() || this.#gain(step) <= least) {
        if (this.#exact || from !== undefined) break;
        // What is said of the parameters is said of where they are now; and it may yet show a way.
        await this.#differentiate();
        damping = FIRST_DAMPING;
        continue;
      }
      steps++;
      const trial = this.#at.map((value, index) => value + step[index]!);
      const rates = await this.#simulate(trial);
      const residuals = this.#residualsOf(rates);
      const after = half(residuals, trial);
      if (after < before) {
        this.#mend(step, residuals);
        [this.#at, this.#rates, this.#residuals, this.#exact] = [trial, rates, residuals, false];
        damping = Math.max(damping / 10, 1e-9);
        misses = 0;
        if (before - after <= least) stalls++;
      } else if (this.#exact || from !== undefined) {
        damping = Math.max(damping * 10, 1);
        misses++;
      } else {
        await this.#differentiate();
      }
      onStep?.(steps, this.#values(this.#at), 2 * half(this.#residuals, this.#at));
    }
    const gradient = this.#gradient();
    return {
      values: this.#values(this.#at),
      rates: new Map(this.#cells.map((cell, row) => [cell, this.#rates[row]!])),
      derivatives: new Map(
        this.#cells.map((cell, row) => [cell, this.#jacobian[row]!.map((slope) => slope * tolerance)]),
      ),
      sum: 2 * half(this.#residuals, this.#at),
      atBound: this.#at.map((value, index) => value <= this.#least[index]! && gradient[index]! > 0),
      steps,
    };
  }

  #values(at: readonly number[]): number[] {
    return this.problem.parameters.map(({ prior, spread }, index) => prior + at[index]! * spread);
  }

  #simulate(at: readonly number[]): Promise<readonly number[]> {
    return this.problem.simulate(this.#values(at), this.#cells);
  }

  #residualsOf(rates: readonly number[]): number[] {
    const { cells, tolerance } = this.problem;
    return this.#cells.map((cell, row) => {
      const ratio = rates[row]! / cells[cell]!.reference;
      return Math.log(Math.max(ratio, LEAST_RATIO)) / tolerance;
    });
  }

  async #move(at: number[]): Promise<void> {
    this.#at = at;
    this.#rates = await this.#simulate(at);
    this.#residuals = this.#residualsOf(this.#rates);
  }

  async #differentiate(): Promise<void> {
    const columns: number[][] = [];
    for (const [index, { prior, spread }] of this.problem.parameters.entries()) {
      const value = prior + this.#at[index]! * spread;
      const difference = differenceOf(value, spread) / spread;
      const moved = this.#at.map((each, other) => (other === index ? each + difference : each));
      const residuals = this.#residualsOf(await this.#simulate(moved));
      columns.push(residuals.map((residual, row) => (residual - this.#residuals[row]!) / difference));
    }
    this.#jacobian = this.#cells.map((_, row) => columns.map((column) => column[row]!));
    this.#exact = true;
  }

  /** What the step has shown, put into the derivatives (Broyden's rank-one update): a simulation less for each. */
  #mend(step: readonly number[], residuals: readonly number[]): void {
    const length = dot(step, step);
    if (length === 0) return;
    this.#jacobian = this.#jacobian.map((slopes, row) => {
      const surprise = residuals[row]! - this.#residuals[row]! - dot(slopes, step);
      return slopes.map((slope, index) => slope + (surprise * step[index]!) / length);
    });
  }

  #gradient(): number[] {
    return this.#at.map(
      (value, index) =>
        value + this.#residuals.reduce((sum, r, row) => sum + r * this.#jacobian[row]![index]!, 0),
    );
  }

  /** Of the damped model; parameters at their least value that would fall further stay. */
  #step(damping: number): number[] {
    const gradient = this.#gradient();
    const matrix = precisionMatrix(this.#jacobian, this.#at.length);
    const held = new Set(
      gradient.flatMap((slope, index) =>
        this.#at[index]! <= this.#least[index]! && slope > 0 ? [index] : [],
      ),
    );
    const free = gradient.map((_, index) => index).filter((index) => !held.has(index));
    const step = gradient.map(() => 0);
    if (free.length === 0) return step;
    const solution = solve(
      free.map((row) => free.map((column) => matrix[row]![column]! * (row === column ? 1 + damping : 1))),
      free.map((index) => -gradient[index]!),
    );
    for (const [position, index] of free.entries()) {
      step[index] = Math.max(solution[position]!, this.#least[index]! - this.#at[index]!);
    }
    return step;
  }

  /** By how much half the sum would fall, if the rates were as linear as they look. */
  #gain(step: readonly number[]): number {
    const there = this.#residuals.map((residual, row) => residual + dot(this.#jacobian[row]!, step));
    const at = this.#at.map((value, index) => value + step[index]!);
    return half(this.#residuals, this.#at) - half(there, at);
  }
}

function differenceOf(value: number, spread: number): number {
  const { ofSpread, ofValue } = DIFFERENCE;
  const size = Math.max(value, LEAST * spread);
  return Math.min(Math.max(ofSpread * spread, ofValue.least * size), ofValue.most * size);
}

/** What the cells and the priors say of the parameters together, in units of the priors' spreads: JᵀJ + 1. */
function precisionMatrix(jacobian: readonly (readonly number[])[], size: number): number[][] {
  return Array.from({ length: size }, (_, row) =>
    Array.from({ length: size }, (_, column) =>
      jacobian.reduce((sum, slopes) => sum + slopes[row]! * slopes[column]!, row === column ? 1 : 0),
    ),
  );
}

function half(residuals: readonly number[], at: readonly number[]): number {
  return (dot(residuals, residuals) + dot(at, at)) / 2;
}

function dot(a: readonly number[], b: readonly number[]): number {
  return a.reduce((sum, value, index) => sum + value * b[index]!, 0);
}

/** What is known of a parameter after the fit. */
export interface Estimate {
  readonly name: string;
  readonly value: number;
  /** One standard deviation, in the parameter's unit. */
  readonly deviation: number;
  /**
   * How much of what is known of it comes from the cells: 1 − its variance after the fit ÷ that of the prior. 0: they
   * say nothing; 1: the prior could have been left out.
   */
  readonly told: number;
  readonly atBound: boolean;
}

/** Two parameters of which the cells tell only something together. */
export interface Correlation {
  readonly parameters: readonly [string, string];
  /** −1 to 1. Above 0: both may be larger together. */
  readonly r: number;
}

/**
 * What the cells that were fitted say of the parameters, taken linear around the fit: the covariance is the inverse of
 * JᵀJ + prior. All of it stands and falls with the tolerance, and with the model.
 */
export function posterior(
  { parameters, tolerance }: FitProblem,
  { values, derivatives, atBound }: Fit,
): { readonly estimates: Estimate[]; readonly correlations: Correlation[] } {
  const jacobian = [...derivatives.values()].map((slopes) => slopes.map((slope) => slope / tolerance));
  const covariance = inverse(precisionMatrix(jacobian, parameters.length));
  const variance = parameters.map((_, index) => covariance[index]![index]!);
  const estimates = parameters.map(({ name, spread }, index) => ({
    name,
    value: values[index]!,
    deviation: spread * Math.sqrt(variance[index]!),
    told: 1 - variance[index]!,
    atBound: atBound[index]!,
  }));
  const correlations = parameters.flatMap(({ name }, index) =>
    parameters.slice(index + 1).map((other, offset): Correlation => {
      const at = index + 1 + offset;
      return {
        parameters: [name, other.name],
        r: covariance[index]![at]! / Math.sqrt(variance[index]! * variance[at]!),
      };
    }),
  );
  return { estimates, correlations };
}

/**
 * Each cell that was fitted, as the others predict it: fitted without it, from where the fit of all ended, then
 * simulated. Indexes of cells with rates.
 */
export async function leaveOneOut(
  problem: FitProblem,
  from: Fit,
  options: Pick<FitOptions, 'precision' | 'maxSteps'> & {
    readonly onCell?: ((cell: number) => void) | undefined;
  } = {},
): Promise<Map<number, number>> {
  const predicted = new Map<number, number>();
  for (const cell of from.rates.keys()) {
    options.onCell?.(cell);
    const cells = [...from.rates.keys()].filter((other) => other !== cell);
    const { values } = await fit(problem, { ...options, cells, from });
    const [rate] = await problem.simulate(values, [cell]);
    predicted.set(cell, rate!);
  }
  return predicted;
}

/** Pairs of cells that the reference orders and the rates do not order in the same way. */
export function misorderedPairs(
  cells: readonly FitCell[],
  rates: readonly number[],
): (readonly [FitCell, FitCell])[] {
  return cells.flatMap((a, index) =>
    cells.slice(index + 1).flatMap((b, offset) => {
      const other = index + 1 + offset;
      const theirs = Math.sign(a.reference - b.reference);
      return theirs !== 0 && theirs !== Math.sign(rates[index]! - rates[other]!) ? [[a, b] as const] : [];
    }),
  );
}
