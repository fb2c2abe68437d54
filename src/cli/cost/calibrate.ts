import { readFile, writeFile } from 'node:fs/promises';
import { EXIT, XdpbedError, type ExitCode } from '../../core/diagnostic.js';
import { withValues } from '../../core/cost-model/calibration-values.js';
import { fitCalibration, type CalibrationFit, type ReferenceRates } from '../../core/run/fit-calibration.js';
import { PredictedRates } from '../../core/run/predicted-rates.js';
import { loadTestbed, type ResolvedTestbed } from '../../core/testbed/resolve-testbed.js';
import type { CliContext } from '../cli-context.js';
import { Progress } from '../progress.js';
import { toResolveOptions, type TestbedOptions } from '../testbed-options.js';
import { checkFormat, percent } from './cost-options.js';
import { referenceOfFabric, referenceOfFile, referenceOfTestbed } from './reference-rates.js';
import type { CalibrationReport } from './reports.js';
import { renderCalibration } from './render-calibration.js';

interface CalibrateOptions extends TestbedOptions {
  readonly write?: boolean;
  readonly from?: string;
  readonly reference?: string;
  readonly holdOut?: string[];
  readonly within: string;
  readonly looWithin: string;
  readonly cellSpread: string;
  readonly leaveOneOut: boolean;
  readonly format: string;
}

/**
 * `xdpbed calibrate`: fits the free parameters of the calibration that a testbed's runs share, and says how well. Exit
 * code 1 when a run is further off than it may be.
 */
export async function calibrate(
  context: CliContext,
  file: string,
  options: CalibrateOptions,
): Promise<ExitCode> {
  checkFormat(options.format);
  const limits = {
    within: percent('--within', options.within),
    leaveOneOut: percent('--loo-within', options.looWithin),
  };
  const tolerance = percent('--cell-spread', options.cellSpread);
  const progress = new Progress(context.terminal);
  const signal = context.interruption();
  const load = async (): Promise<PredictedRates> =>
    new PredictedRates(await loadTestbed(file, context.registry, toResolveOptions(options)), signal);
  const rates = await load();
  const written = options.write === true;
  let fit: CalibrationFit;
  let reference: ReferenceRates;
  try {
    reference = await findReference(context, file, options, rates.testbed, progress);
    fit = await fitCalibration(rates, reference, {
      holdOut: options.holdOut ?? [],
      tolerance,
      leaveOneOut: options.leaveOneOut,
      onProgress: (text, detail) => {
        if (detail === undefined) progress.say(text);
        else progress.mention(detail);
      },
      settle: async (values) => {
        if (!written) return { rates, costs: Object.fromEntries(values) };
        const { calibrationPath: path } = rates;
        await writeFile(path, withValues(path, await readFile(path, 'utf8'), values));
        return { rates: await load(), costs: {} };
      },
    });
  } finally {
    progress.clear();
  }
  const report: CalibrationReport = {
    schema: 'xdpbed.calibration-fit/1',
    testbed: rates.testbed.name,
    calibration: rates.calibrationFile,
    reference: reference.name,
    ...fit,
    limits,
    passed: fit.cells.every(
      ({ error, heldOut, leaveOneOut }) =>
        heldOut ||
        (Math.abs(error) <= limits.within && Math.abs(leaveOneOut?.error ?? 0) <= limits.leaveOneOut),
    ),
    written,
  };
  context.terminal.out(
    options.format === 'json' ? `${JSON.stringify(report, null, 2)}\n` : renderCalibration(report),
  );
  return report.passed ? EXIT.OK : EXIT.CHECK_FAILED;
}

async function findReference(
  context: CliContext,
  file: string,
  options: CalibrateOptions,
  testbed: ResolvedTestbed,
  progress: Progress,
): Promise<ReferenceRates> {
  const { from, reference } = options;
  if (from !== undefined && reference !== undefined)
    throw new XdpbedError('usage', '--from and --reference both say what to fit to');
  if (reference !== undefined) return referenceOfFile(reference);
  if (from === undefined) return referenceOfTestbed(testbed);
  if (from !== 'linux') throw new XdpbedError('usage', `--from '${from}' is not linux`);
  return referenceOfFabric(context, from, file, options, progress);
}
