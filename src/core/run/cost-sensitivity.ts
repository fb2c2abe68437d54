import { COST_PARAMETERS, type CostOverrides, type CostParameterName } from '../cost-model/index.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { PredictedRates, RunRate } from './predicted-rates.js';

/** A value that is moved, and what that does to a run's rate. */
export interface Effect {
  /** A parameter of the cost model, `helper.` and its name, or a path of the testbed. */
  readonly what: string;
  readonly unit?: string | undefined;
  readonly low: Move;
  readonly high: Move;
}

export interface Move {
  readonly value: number | string;
  /** Of the rate, relative: 0.1 is a tenth more. */
  readonly change: number;
}

export interface RunSensitivity {
  readonly run: string;
  readonly framesPerSecond: number;
  /** What moves the rate most comes first. */
  readonly effects: readonly Effect[];
}

/** The testbed with another value at a path of it. */
export interface Variation {
  readonly path: string;
  readonly low: { readonly value: string; readonly rates: PredictedRates };
  readonly high: { readonly value: string; readonly rates: PredictedRates };
}

export interface SensitivityOptions {
  /** How far each cost is moved, relative. */
  readonly by: number;
  /** Only these costs; left out, all that the calibration has. */
  readonly costs?: readonly string[] | undefined;
  readonly variations: readonly Variation[];
  readonly onProgress: (text: string, detail?: string) => void;
}

/** Moves each cost of each run up and down, one at a time: gives run by run what that does. Costs of 0 stay. */
export async function* costSensitivity(
  rates: PredictedRates,
  options: SensitivityOptions,
): AsyncGenerator<RunSensitivity> {
  const { runs } = rates.testbed;
  for (const [run, { plan }] of runs.entries()) {
    options.onProgress(`run ${run + 1} of ${runs.length}: ${plan.id}`);
    yield await new RunInquiry(rates, run, options).ask();
  }
}

/** One run under inquiry. */
class RunInquiry {
  readonly #id: string;
  readonly #values: ReadonlyMap<string, number>;

  constructor(
    readonly rates: PredictedRates,
    readonly run: number,
    readonly options: SensitivityOptions,
  ) {
    this.#id = rates.testbed.runs[run]!.plan.id;
    this.#values = costsOf(rates, run, options.costs);
  }

  async ask(): Promise<RunSensitivity> {
    const base = await this.#rate({}, 'as it is');
    if (base.framesPerSecond === 0)
      throw new XdpbedError('usage', `run ${this.#id} has a rate of 0: there is nothing to be moved`);
    const { by } = this.options;
    const effects: Effect[] = [];
    const idle: string[] = [];
    for (const [what, value] of this.#values) {
      const raised = await this.#rate({ [what]: value * (1 + by) }, `${what} up`);
      if (isSame(raised, base)) {
        idle.push(what);
        continue;
      }
      effects.push(this.#effect(what, base, await this.#rate(this.#lowered([what]), `${what} down`), raised));
    }
    // What made no difference at all upwards makes hardly one downwards: all of it is tried at once.
    const mayMatter =
      idle.length > 0 && !isSame(await this.#rate(this.#lowered(idle), 'the rest down'), base);
    for (const what of idle) {
      const lowered = mayMatter ? await this.#rate(this.#lowered([what]), `${what} down`) : base;
      effects.push(this.#effect(what, base, lowered, base));
    }
    for (const { path, low, high } of this.options.variations) {
      const change = async ({ value, rates }: Variation['low']): Promise<Move> => {
        this.options.onProgress('', `${this.#id}, ${path}=${value}`);
        const { framesPerSecond } = await rates.rate(this.run, {}, 'short');
        return { value, change: framesPerSecond / base.framesPerSecond - 1 };
      };
      effects.push({ what: path, low: await change(low), high: await change(high) });
    }
    return {
      run: this.#id,
      framesPerSecond: base.framesPerSecond,
      // Stable: what does the same stays in the order of a frame's way.
      effects: effects.sort((a, b) => size(b) - size(a)),
    };
  }

  #lowered(names: readonly string[]): CostOverrides {
    return Object.fromEntries(names.map((name) => [name, this.#values.get(name)! * (1 - this.options.by)]));
  }

  #rate(costs: CostOverrides, what: string): Promise<RunRate> {
    this.options.onProgress('', `${this.#id}, ${what}`);
    return this.rates.rate(this.run, costs, 'short');
  }

  #effect(what: string, base: RunRate, low: RunRate, high: RunRate): Effect {
    const { by } = this.options;
    const value = this.#values.get(what)!;
    const move = (factor: number, { framesPerSecond }: RunRate): Move => ({
      value: value * factor,
      change: framesPerSecond / base.framesPerSecond - 1,
    });
    const unit = Object.hasOwn(COST_PARAMETERS, what)
      ? COST_PARAMETERS[what as CostParameterName].unit
      : 'ns';
    return { what, unit, low: move(1 - by, low), high: move(1 + by, high) };
  }
}

/** Not only the same rate: the same work of each CPU, the same queues, the same latencies. */
function isSame(a: RunRate, b: RunRate): boolean {
  return JSON.stringify(a.measured) === JSON.stringify(b.measured);
}

const size = ({ low, high }: Effect): number => Math.max(Math.abs(low.change), Math.abs(high.change));

/** Costs above 0 by their name, as the run has them. */
function costsOf(
  rates: PredictedRates,
  run: number,
  names: readonly string[] | undefined,
): ReadonlyMap<string, number> {
  const { parameters, helpers } = rates.calibration;
  const values = new Map<string, number>(
    Object.entries(parameters).map(([name, { value }]) => [name, value]),
  );
  for (const [name, { value }] of Object.entries(helpers)) values.set(`helper.${name}`, value);
  for (const [name, value] of Object.entries(rates.costsOf(run))) values.set(name, value);
  for (const name of names ?? []) {
    if (values.has(name)) continue;
    const near = nearest(name, [...values.keys()]);
    throw new XdpbedError('usage', `the calibration has no cost '${name}'`, {
      hint: near === undefined ? `there are: ${[...values.keys()].join(', ')}` : `did you mean '${near}'?`,
    });
  }
  return new Map([...values].filter(([name, value]) => value > 0 && (names?.includes(name) ?? true)));
}
