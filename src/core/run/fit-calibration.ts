import { roundFitted } from '../cost-model/calibration-values.js';
import {
  fit,
  leaveOneOut,
  misorderedPairs,
  posterior,
  type FitParameter,
  type FitProblem,
} from '../cost-model/fit.js';
import { COST_PARAMETERS, type CostOverrides, type CostParameterName } from '../cost-model/index.js';
import { XdpbedError } from '../diagnostic.js';
import type { PredictedRates } from './predicted-rates.js';

/** Rates that somebody measured, to be met. */
export interface ReferenceRates {
  /** Whose they are. */
  readonly name: string;
  /** By the id of the run. */
  readonly runs: ReadonlyMap<string, ReferenceRate>;
}

export interface ReferenceRate {
  readonly framesPerSecond: number;
  /** Where programs on the host ran, if that is known. */
  readonly hook?: string | undefined;
  /** What played the guest, if that is known. */
  readonly guest?: string | undefined;
}

export interface CalibrationFitOptions {
  /** Ids of runs that are predicted and not fitted to; `*` stands for anything. */
  readonly holdOut: readonly string[];
  /** One standard deviation of how well a cell can be met, relative. */
  readonly tolerance: number;
  readonly leaveOneOut: boolean;
  /** `detail`: what is simulated now, of what was said last. */
  readonly onProgress: (text: string, detail?: string) => void;
  /** Called with the values that were found: what it gives is asked for the rates that are reported. */
  readonly settle: (values: ReadonlyMap<string, number>) => Promise<{
    readonly rates: PredictedRates;
    readonly costs: CostOverrides;
  }>;
}

/** A run whose rate is compared. Rates in frames per second, errors relative to the reference. */
export interface CalibratedCell {
  readonly run: string;
  readonly reference: number;
  readonly referenceHook?: string | undefined;
  readonly hook?: string | undefined;
  readonly heldOut: boolean;
  readonly rate: number;
  readonly error: number;
  /** As the other cells predict it; absent for a cell that was held out, and where that was not asked for. */
  readonly leaveOneOut?: { readonly rate: number; readonly error: number } | undefined;
}

export interface FittedParameter {
  readonly name: string;
  readonly unit: string;
  /** Before the fit. */
  readonly before: number;
  readonly prior: number;
  readonly spread: number;
  readonly value: number;
  /** One standard deviation of `value`, given the priors, the cells and their tolerance. */
  readonly deviation: number;
  /** How much of what is known of it comes from the cells, 0 to 1. */
  readonly told: number;
  /** Whether that is enough to say that the cells have determined it. */
  readonly identified: boolean;
  /** The fit would have gone on to less than a parameter may be. */
  readonly atBound: boolean;
}

export interface CalibrationFit {
  readonly cells: readonly CalibratedCell[];
  /** Runs that the reference has no figure for. */
  readonly withoutReference: readonly string[];
  /** What played the guests, as far as that is known. */
  readonly guests: { readonly reference: readonly string[]; readonly model: readonly string[] };
  readonly order: { readonly pairs: number; readonly wrong: readonly (readonly [string, string])[] };
  readonly parameters: readonly FittedParameter[];
  /** Pairs that the cells tell apart so little that it has to be said. */
  readonly correlations: readonly { readonly parameters: readonly [string, string]; readonly r: number }[];
  readonly tolerance: number;
  readonly simulations: number;
}

/** Below this part, the cells have not determined a parameter. */
const IDENTIFIED = 0.2;
/** From here on two parameters are told together. */
const CORRELATED = 0.9;

/** Simulations at the same time: while one waits for its programs to be judged, in other processes, another goes on. */
const AT_ONCE = 4;

/** All results, or the first failure once nothing is under way any more. */
async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

interface Cell {
  readonly run: number;
  readonly id: string;
  readonly reference: ReferenceRate;
  readonly heldOut: boolean;
}

/** Fits the free parameters of a testbed's calibration to rates that somebody measured. */
export async function fitCalibration(
  rates: PredictedRates,
  reference: ReferenceRates,
  options: CalibrationFitOptions,
): Promise<CalibrationFit> {
  const parameters = freeParameters(rates);
  const cells = cellsOf(rates, reference, options.holdOut);
  const fitted = cells.flatMap(({ heldOut }, index) => (heldOut ? [] : [index]));
  if (fitted.length === 0)
    throw new XdpbedError('usage', 'every run is held out: there is nothing to fit to');

  const known = new Map<string, number>();
  const problem: FitProblem = {
    parameters,
    cells: cells.map(({ id, reference: { framesPerSecond } }) => ({ id, reference: framesPerSecond })),
    tolerance: options.tolerance,
    simulate: async (values, indexes) => {
      const costs = Object.fromEntries(parameters.map(({ name }, index) => [name, values[index]!]));
      const rateOf = async (index: number): Promise<number> => {
        const { run, id } = cells[index]!;
        const key = JSON.stringify([run, values]);
        const found = known.get(key);
        if (found !== undefined) return found;
        options.onProgress('', `simulation ${known.size + 1}, ${id}`);
        const rate = (await rates.rate(run, costs, 'short')).framesPerSecond;
        known.set(key, rate);
        return rate;
      };
      const found: number[] = [];
      for (let first = 0; first < indexes.length; first += AT_ONCE) {
        found.push(...(await allOf(indexes.slice(first, first + AT_ONCE).map(rateOf))));
      }
      return found;
    },
  };

  options.onProgress(`fit, parameters: ${parameters.length}, runs: ${fitted.length}`);
  const found = await fit(problem, {
    cells: fitted,
    onStep: (step, _, sum) => options.onProgress(`step ${step}: sum of squares ${sum.toPrecision(4)}`),
  });
  const left = options.leaveOneOut
    ? await leaveOneOut(problem, found, {
        // Nearer than the fit itself: what leaving one out changes may be little of the sum.
        precision: 2e-3,
        maxSteps: 4,
        onCell: (cell) => options.onProgress(`without ${cells[cell]!.id}`),
      })
    : new Map<number, number>();

  const { estimates, correlations } = posterior(problem, found);
  const rounded = new Map(estimates.map(({ name, value }) => [name, roundFitted(value)]));
  const settled = await options.settle(rounded);
  options.onProgress('with the values that were found');
  const compared: CalibratedCell[] = [];
  const guests = { reference: new Set<string>(), model: new Set<string>() };
  for (const [index, { run, id, reference: theirs, heldOut }] of cells.entries()) {
    options.onProgress('', id);
    const { framesPerSecond: rate, hook, guest } = await settled.rates.rate(run, settled.costs, 'full');
    const errorOf = (predicted: number): number => predicted / theirs.framesPerSecond - 1;
    const alone = left.get(index);
    guests.model.add(guest);
    if (theirs.guest !== undefined) guests.reference.add(theirs.guest);
    compared.push({
      run: id,
      reference: theirs.framesPerSecond,
      ...(theirs.hook === undefined ? {} : { referenceHook: theirs.hook }),
      ...(hook === undefined ? {} : { hook }),
      heldOut,
      rate,
      error: errorOf(rate),
      ...(alone === undefined ? {} : { leaveOneOut: { rate: alone, error: errorOf(alone) } }),
    });
  }
  const wrong = misorderedPairs(
    problem.cells,
    compared.map(({ rate }) => rate),
  );
  return {
    cells: compared,
    withoutReference: rates.testbed.runs.map(({ plan }) => plan.id).filter((id) => !reference.runs.has(id)),
    guests: { reference: [...guests.reference], model: [...guests.model] },
    order: {
      pairs: (cells.length * (cells.length - 1)) / 2,
      wrong: wrong.map(([a, b]) => [a.id, b.id] as const),
    },
    parameters: estimates.map(({ name, deviation, told, atBound }, index) => ({
      name,
      unit: COST_PARAMETERS[name as CostParameterName].unit,
      before: parameters[index]!.start,
      prior: parameters[index]!.prior,
      spread: parameters[index]!.spread,
      value: rounded.get(name)!,
      deviation,
      told,
      identified: told >= IDENTIFIED,
      atBound,
    })),
    correlations: correlations.filter(({ r }) => Math.abs(r) > CORRELATED),
    tolerance: options.tolerance,
    simulations: known.size + cells.length,
  };
}

function freeParameters(rates: PredictedRates): FitParameter[] {
  const { calibration, testbed, calibrationFile } = rates;
  const parameters = Object.entries(calibration.parameters).flatMap(([name, { value, free }]) =>
    free === undefined ? [] : [{ name, start: value, prior: free.prior, spread: free.spread }],
  );
  if (parameters.length === 0) {
    throw new XdpbedError('usage', `${calibrationFile} has no parameter that may be fitted`, {
      hint: 'mark some: `free: { prior: 100, spread: 20 }` beside `value`',
    });
  }
  for (const { name } of parameters) {
    const { unit } = COST_PARAMETERS[name as CostParameterName];
    if (unit === 'frames' || unit === 'bytes') {
      throw new XdpbedError(
        'usage',
        `${calibrationFile}: ${name} is in whole ${unit}, which cannot be fitted`,
      );
    }
    const set = testbed.runs.find((_, run) => Object.hasOwn(rates.costsOf(run), name));
    if (set !== undefined) {
      throw new XdpbedError(
        'usage',
        `run ${set.plan.id} sets ${name} by itself (plugins.fabric.config.costs), so it cannot be fitted`,
      );
    }
  }
  return parameters;
}

function cellsOf(
  { testbed: { runs } }: PredictedRates,
  reference: ReferenceRates,
  holdOut: readonly string[],
): Cell[] {
  const held = new Set<string>();
  for (const pattern of holdOut) {
    const matching = runs.filter(({ plan }) => patternOf(pattern).test(plan.id));
    if (matching.length === 0) {
      throw new XdpbedError('usage', `--hold-out '${pattern}' is no run`, {
        hint: `there are: ${runs.map(({ plan }) => plan.id).join(', ')}`,
      });
    }
    for (const { plan } of matching) held.add(plan.id);
  }
  const cells = runs.flatMap(({ plan: { id } }, run): Cell[] => {
    const theirs = reference.runs.get(id);
    return theirs === undefined ? [] : [{ run, id, reference: theirs, heldOut: held.has(id) }];
  });
  if (cells.length === 0) {
    throw new XdpbedError('usage', `${reference.name} has no rate of any of these runs`, {
      hint: `rates are compared by the id of the run: ${runs.map(({ plan }) => plan.id).join(', ')}`,
    });
  }
  return cells;
}

/** `bridge/*` */
function patternOf(text: string): RegExp {
  const literal = text.split('*').map((part) => part.replaceAll(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${literal.join('.*')}$`);
}
