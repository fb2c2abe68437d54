import { readFile, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { parseDocument } from 'yaml';
import { readCalibration, type Calibration } from '../core/cost-model/calibration.js';
import { COST_PARAMETERS, COST_PARAMETER_NAMES } from '../core/cost-model/cost-parameters.js';
import { correlations, fit, leaveOneOut, type Fit, type FitProblem } from '../core/cost-model/fit.js';
import type { ResultDocument } from '../core/contract/result.js';
import { EXIT, messageOf, XdpbedError, type ExitCode } from '../core/diagnostic.js';
import { executeRun } from '../core/run/execute-run.js';
import { runTestbed } from '../core/run/run-testbed.js';
import { loadTestbed, resolveTestbed, type ResolvedTestbed } from '../core/testbed/resolve-testbed.js';
import { VERSION } from '../version.js';
import type { CliContext } from './cli-context.js';
import { toResolveOptions, type TestbedOptions } from './testbed-options.js';

export interface CalibrateOptions extends TestbedOptions {
  readonly write?: boolean;
  readonly from?: string;
  readonly reference?: string;
  readonly holdOut?: string[];
  readonly within: string;
  readonly looWithin: string;
  readonly format: string;
}

/** A parameter of which the cells take away less of the doubt than this is not known from them. */
const LEARNT = 0.2;
const STRONG_CORRELATION = 0.9;

/** While it is fitted, a cell is simulated for a shorter time. */
const QUICK = [
  'measure.samples=1',
  'plugins.fabric.config.sample-ms=3',
  'plugins.fabric.config.warm-up-ms=1',
] as const;

interface CellReport {
  readonly id: string;
  readonly measured: number;
  readonly heldOut: boolean;
  readonly simulated: number;
  /** Per cent. */
  readonly error: number;
  /** The same, predicted by a fit to all others; absent for what was held out. */
  readonly leftOut?: { readonly simulated: number; readonly error: number };
}

/** `xdpbed calibrate`: fits the free parameters of the model's costs to rates that somebody measured. */
export async function calibrate(
  context: CliContext,
  file: string,
  options: CalibrateOptions,
): Promise<ExitCode> {
  const { terminal } = context;
  const within = percent('--within', options.within);
  const looWithin = percent('--loo-within', options.looWithin);
  const simulation = await Simulation.open(context, file, options);
  const { who, figures } = await reference(context, file, options, simulation.testbed);
  const ids = simulation.ids.filter((id) => figures.has(id));
  if (ids.length === 0) throw new XdpbedError('usage', `${who} has no rate of a run of this testbed`);
  const heldOut = new Set(options.holdOut ?? []);
  for (const id of heldOut) {
    if (!ids.includes(id)) throw new XdpbedError('usage', `--hold-out ${id}: no such run with a rate`);
  }
  const { free } = simulation;
  const costsOf = (values: readonly number[]): Record<string, number> =>
    Object.fromEntries(free.map(({ name }, index) => [name, values[index]!]));
  const simulate = (values: readonly number[]): Promise<number[]> =>
    simulation.rates(ids, costsOf(values), QUICK);
  const problem: FitProblem = {
    parameters: free,
    measured: ids.map((id) => (heldOut.has(id) ? undefined : figures.get(id)!)),
    simulate,
  };
  terminal.err(`fitting ${free.length} parameters to ${ids.length - heldOut.size} rates of ${who}\n`);
  const found = await fit(problem);
  const rounded = found.values.map((value) => Number(value.toPrecision(3)));
  // What is reported is what a user gets who writes these values down.
  const simulated = await simulation.rates(ids, costsOf(rounded));
  const cells: CellReport[] = [];
  for (const [index, id] of ids.entries()) {
    const measured = figures.get(id)!;
    const report = { id, measured, heldOut: heldOut.has(id), ...against(simulated[index]!, measured) };
    if (report.heldOut) cells.push(report);
    else {
      terminal.err(`predicting ${id} from all others\n`);
      const predicted = await leaveOneOut(problem, found, index);
      cells.push({ ...report, leftOut: against(predicted, measured) });
    }
  }
  if (options.write === true) await simulation.write(free.map(({ name }, index) => [name, rounded[index]!]));
  const report = {
    reference: who,
    cells,
    misordered: misordered(cells),
    parameters: found.parameters.map((parameter, index) => ({ ...parameter, value: rounded[index]! })),
    correlations: correlations(problem, found, STRONG_CORRELATION),
  };
  terminal.out(options.format === 'json' ? `${JSON.stringify(report, null, 2)}\n` : text(report, found));
  const good = cells.every(
    ({ error, leftOut }) => Math.abs(error) <= within && Math.abs(leftOut?.error ?? 0) <= looWithin,
  );
  return good && report.misordered.length === 0 ? EXIT.OK : EXIT.CHECK_FAILED;
}

type Report = {
  readonly reference: string;
  readonly cells: readonly CellReport[];
  readonly misordered: readonly string[];
  readonly parameters: Fit['parameters'];
  readonly correlations: ReturnType<typeof correlations>;
};

/** Runs the testbed's cells with costs changed, in this process. */
class Simulation {
  private constructor(
    readonly context: CliContext,
    readonly file: string,
    readonly options: TestbedOptions,
    readonly text: string,
    readonly testbed: ResolvedTestbed,
    readonly calibrationFile: string,
    readonly calibration: Calibration,
  ) {}

  static async open(context: CliContext, file: string, options: TestbedOptions): Promise<Simulation> {
    const testbed = await loadTestbed(file, context.registry, toResolveOptions(options));
    const { fabric } = testbed.runs[0]!.plugins;
    const name = (fabric.config as { calibration?: string }).calibration;
    if (fabric.use !== 'model' || name === undefined) {
      throw new XdpbedError('usage', `${file} is not on fabric model with a calibration`, {
        hint: 'plugins.fabric: { use: model, config: { calibration: FILE } }',
      });
    }
    const bytes = testbed.objects.get(testbed.runs[0]!.objects[name]!)!;
    const calibration = readCalibration(name, bytes);
    const text = await readFile(file, 'utf8');
    return new Simulation(context, file, options, text, testbed, resolve(testbed.folder, name), calibration);
  }

  get ids(): string[] {
    return this.testbed.runs.map(({ plan }) => plan.id);
  }

  get free(): { readonly name: string; readonly prior: number; readonly spread: number }[] {
    return COST_PARAMETER_NAMES.flatMap((name) => {
      const { free } = this.calibration.parameters[name];
      return free === undefined ? [] : [{ name, ...free }];
    });
  }

  /** Mpps of these runs. */
  async rates(
    ids: readonly string[],
    costs: Readonly<Record<string, number>>,
    more: readonly string[] = [],
  ): Promise<number[]> {
    const options = toResolveOptions(this.options);
    const set = [
      ...(options.set ?? []),
      // What the traffic of a run does is known; only its rates are of interest.
      'workload={ use: udp-flood, config: { frames: 1 } }',
      'plugins.executor={ use: wasm }',
      ...Object.entries(costs).map(([name, value]) => `plugins.fabric.config.costs.${name}=${value}`),
      ...more,
    ];
    const testbed = await resolveTestbed(this.file, this.text, this.context.registry, { ...options, set });
    const rates: number[] = [];
    for (const id of ids) {
      const spec = testbed.runs.find(({ plan }) => plan.id === id)!;
      const result = await executeRun(spec, {
        registry: testbed.registry,
        folder: testbed.folder,
        object: (hash) => testbed.objects.get(hash)!,
        signal: this.context.interruption(),
      });
      rates.push((result.rates?.[0]?.framesPerSecond.median ?? 0) / 1e6);
    }
    return rates;
  }

  /** Puts values into the calibration file and leaves everything else in it as it is. */
  async write(values: readonly (readonly [string, number])[]): Promise<void> {
    const document = parseDocument(await readFile(this.calibrationFile, 'utf8'));
    for (const [name, value] of values) document.setIn(['parameters', name, 'value'], value);
    await writeFile(this.calibrationFile, document.toString({ lineWidth: 0 }));
  }
}

/** Rates by the id of the run, and whose they are. */
async function reference(
  context: CliContext,
  file: string,
  options: CalibrateOptions,
  testbed: ResolvedTestbed,
): Promise<{ who: string; figures: ReadonlyMap<string, number> }> {
  if (options.from !== undefined && options.from !== 'linux')
    throw new XdpbedError('usage', `--from ${options.from}: rates are measured on fabric linux only`);
  if (options.from !== undefined) {
    const on = toResolveOptions({ ...options, fabric: 'linux' });
    const real = await loadTestbed(file, context.registry, on);
    context.terminal.err(`measuring ${real.runs.length} runs on fabric linux\n`);
    const result = await runTestbed(real, { version: VERSION, signal: context.interruption() });
    return { who: 'fabric linux on this machine', figures: ratesOf(result) };
  }
  if (options.reference !== undefined) {
    try {
      const result = JSON.parse(await readFile(options.reference, 'utf8')) as ResultDocument;
      return { who: options.reference, figures: ratesOf(result) };
    } catch (cause) {
      throw new XdpbedError('file-unreadable', `cannot read ${options.reference}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }
  const { name, mpps } = testbed.comparison?.reference ?? {};
  if (mpps === undefined) {
    throw new XdpbedError('usage', `${file} has no comparison.reference.mpps to fit to`, {
      hint: '--reference RESULT.json or --from linux',
    });
  }
  return { who: name!, figures: new Map(Object.entries(mpps)) };
}

function ratesOf({ runs }: ResultDocument): Map<string, number> {
  return new Map(
    runs.flatMap(({ id, rates }): [string, number][] =>
      rates?.[0] === undefined ? [] : [[id, rates[0].framesPerSecond.median / 1e6]],
    ),
  );
}

function against(simulated: number, measured: number): { simulated: number; error: number } {
  return { simulated, error: (simulated / measured - 1) * 100 };
}

/** Pairs of cells of which the slower one is predicted to be the faster. */
function misordered(cells: readonly CellReport[]): string[] {
  return cells.flatMap((a, index) =>
    cells
      .slice(index + 1)
      .filter(
        (b) => (a.measured - b.measured) * (a.simulated - b.simulated) <= 0 && a.measured !== b.measured,
      )
      .map((b) => `${a.id} and ${b.id}`),
  );
}

function text({ reference, cells, misordered, parameters, correlations }: Report, { jacobian }: Fit): string {
  const lines: string[] = [
    `cells of ${reference}, Mpps`,
    ...table([
      ['run', 'measured', 'model', 'off by', 'left out', 'off by'],
      ...cells.map(({ id, measured, heldOut, simulated, error, leftOut }) => [
        heldOut ? `${id} (held out)` : id,
        measured.toFixed(2),
        simulated.toFixed(2),
        signed(error),
        leftOut?.simulated.toFixed(2) ?? '',
        leftOut === undefined ? '' : signed(leftOut.error),
      ]),
    ]),
    misordered.length === 0
      ? 'of every two runs the faster one is predicted to be the faster'
      : `in the wrong order: ${misordered.join(', ')}`,
    '',
    'parameters',
    ...table([
      ['parameter', 'unit', 'prior', '±', 'fitted', '±', 'learnt'],
      ...parameters.map(({ name, prior, spread, value, deviation, learnt }) => [
        name,
        COST_PARAMETERS[name as keyof typeof COST_PARAMETERS].unit,
        String(prior),
        String(spread),
        String(value),
        deviation.toPrecision(2),
        `${(learnt * 100).toFixed(0)} %`,
      ]),
    ]),
  ];
  const unknown = parameters.filter(({ learnt }) => learnt < LEARNT).map(({ name }) => name);
  if (unknown.length > 0) lines.push(`not known from these cells: ${unknown.join(', ')}`);
  for (const { a, b, r } of correlations)
    lines.push(`hardly to be told apart: ${a} and ${b} (correlation ${r.toFixed(2)})`);
  lines.push(
    '',
    'per cent of a rate for one per cent of a parameter',
    ...table([
      ['run', ...parameters.map(({ name }) => name)],
      ...cells.map(({ id }, cell) => [id, ...jacobian[cell]!.map((value) => value.toFixed(2))]),
    ]),
  );
  return `${lines.join('\n')}\n`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    `  ${row.map((value, column) => (column === 0 ? value.padEnd(widths[0]!) : value.padStart(widths[column]!))).join('  ')}`.trimEnd(),
  );
}

const signed = (percent: number): string => `${percent < 0 ? '' : '+'}${percent.toFixed(1)} %`;

function percent(option: string, value: string): number {
  const number = Number(value);
  if (value.trim() === '' || !(number > 0))
    throw new XdpbedError('usage', `${option} '${value}' is no percentage`);
  return number;
}
