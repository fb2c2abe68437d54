import { EXIT, XdpbedError, type ExitCode } from '../../core/diagnostic.js';
import { costSensitivity, type RunSensitivity, type Variation } from '../../core/run/cost-sensitivity.js';
import { PredictedRates } from '../../core/run/predicted-rates.js';
import { loadTestbed } from '../../core/testbed/resolve-testbed.js';
import type { CliContext } from '../cli-context.js';
import { Progress } from '../progress.js';
import { toResolveOptions, type TestbedOptions } from '../testbed-options.js';
import { checkFormat, percent } from './cost-options.js';
import type { SensitivityReport } from './reports.js';
import { renderSensitivity } from './render-sensitivity.js';

interface SensitivityOptions extends TestbedOptions {
  readonly by: string;
  readonly top: string;
  readonly cost?: string[];
  readonly vary?: string[];
  readonly format: string;
}

/**
 * `xdpbed sensitivity`: which cost, or which value of the testbed, moves the rate of each run most.
 * Interrupted, it prints what is known of the runs before the one that was under way.
 */
export async function sensitivity(
  context: CliContext,
  file: string,
  options: SensitivityOptions,
): Promise<ExitCode> {
  checkFormat(options.format);
  const by = percent('--by', options.by);
  if (by >= 1) throw new XdpbedError('usage', `--by '${options.by}': a cost cannot fall by all of it`);
  if (!/^[1-9]\d{0,3}$/.test(options.top))
    throw new XdpbedError('usage', `--top '${options.top}' is not a number from 1 to 9999`);
  const signal = context.interruption();
  const load = async (...set: string[]): Promise<PredictedRates> => {
    const resolve = toResolveOptions({ ...options, set: [...(options.set ?? []), ...set] });
    return new PredictedRates(await loadTestbed(file, context.registry, resolve), signal);
  };
  const rates = await load();
  const variations: Variation[] = [];
  for (const text of options.vary ?? []) {
    const [, path, low, high] = /^([^=]+)=([^,]+),([^,]+)$/.exec(text) ?? [];
    if (path === undefined || low === undefined || high === undefined) {
      throw new XdpbedError('usage', `--vary '${text}' is not path=low,high`, {
        hint: '--vary measure.size=60,128',
      });
    }
    variations.push({
      path,
      low: { value: low, rates: await load(`${path}=${low}`) },
      high: { value: high, rates: await load(`${path}=${high}`) },
    });
  }
  const progress = new Progress(context.terminal);
  const runs: RunSensitivity[] = [];
  let interruption: Error | undefined;
  try {
    const inquiry = costSensitivity(rates, {
      by,
      costs: options.cost,
      variations,
      onProgress: (text, detail) => {
        if (detail === undefined) progress.say(text);
        else progress.mention(detail);
      },
    });
    for await (const run of inquiry) runs.push(run);
  } catch (error) {
    if (!signal.aborted || !(error instanceof Error)) throw error;
    interruption = error;
  } finally {
    progress.clear();
  }
  const report: SensitivityReport = {
    schema: 'xdpbed.sensitivity/1',
    testbed: rates.testbed.name,
    calibration: rates.calibrationFile,
    by,
    runs,
    ...(interruption === undefined ? {} : { interrupted: rates.testbed.runs[runs.length]!.plan.id }),
  };
  context.terminal.out(
    options.format === 'json'
      ? `${JSON.stringify(report, null, 2)}\n`
      : renderSensitivity(report, Number(options.top)),
  );
  if (interruption !== undefined) throw interruption;
  return EXIT.OK;
}
