import { resolve as resolvePath } from 'node:path';
import type { RateResult, RunResult } from '../contract/result.js';
import type { RunSpec } from '../contract/run-spec.js';
import { readCalibration, type Calibration, type CostOverrides } from '../cost-model/index.js';
import { XdpbedError } from '../diagnostic.js';
import type { ResolvedTestbed } from '../testbed/resolve-testbed.js';
import { carryOutRun, failureOf } from './execute-run.js';
import { throwIfInterrupted } from './run-failures.js';

/** How long is simulated. `full`: as the testbed says; `short`: what suffices to see where a rate goes. */
export type Sampling = 'full' | 'short';

/** ms of virtual time: rates are within half a per cent of those over ten times as long. */
const SHORT = { sampleMs: 2, warmUpMs: 1 };

/** What the config of a fabric that predicts rates has to have. */
interface PredictingConfig {
  readonly calibration: string;
  readonly costs?: CostOverrides;
  readonly 'sample-ms'?: number;
  readonly 'warm-up-ms'?: number;
}

/** What a run has measured: its rate in frames per second, and where. */
export interface RunRate {
  /** Of several nics that are measured one after the other, the mean; of those loaded together, the sum. */
  readonly framesPerSecond: number;
  /** Where programs on the host ran; undefined when all ran in their guests. */
  readonly hook: string | undefined;
  /** What played the guests. */
  readonly guest: string;
  readonly measured: readonly RateResult[];
}

/** Undefined when the run has measured nothing. */
export function rateOfRun({ rates = [], totalRate }: RunResult): RunRate | undefined {
  if (rates.length === 0) return undefined;
  const sum = rates.reduce((all, rate) => all + rate.framesPerSecond.median, 0);
  const framesPerSecond = totalRate?.framesPerSecond.median ?? sum / rates.length;
  return {
    framesPerSecond,
    hook: rates.find(({ placement }) => placement === 'host')?.hook,
    guest: [...new Set(rates.map(({ guest }) => guest))].join(', '),
    measured: rates,
  };
}

/**
 * Predicts the rates of a testbed's runs with other costs. The testbed is resolved once; each prediction is a run as any
 * other.
 */
export class PredictedRates {
  /** The file that all runs take their costs from, as the testbed names it. */
  readonly calibrationFile: string;
  readonly calibrationPath: string;
  readonly calibration: Calibration;

  /** @throws XdpbedError `usage` for a testbed that predicts no rates, or not all with the same calibration */
  constructor(
    readonly testbed: ResolvedTestbed,
    readonly signal: AbortSignal | undefined,
  ) {
    const files = new Set(testbed.runs.map((spec) => configOf(spec).calibration));
    const [file] = files;
    if (file === undefined || files.size > 1) {
      const several = [...files].join(', ');
      throw new XdpbedError('usage', `the runs do not share one calibration: ${several}`, {
        hint: 'choose with --only',
      });
    }
    for (const { plan } of testbed.runs) {
      if (plan.measure === undefined)
        throw new XdpbedError('usage', `run ${plan.id} measures no rate`, {
          hint: 'the testbed needs `measure:`',
        });
    }
    const { objects } = testbed.runs[0]!;
    this.calibrationFile = file;
    this.calibrationPath = resolvePath(testbed.folder, file);
    this.calibration = readCalibration(this.calibrationPath, testbed.objects.get(objects[file]!)!);
  }

  /** Costs that the testbed itself sets for a run, beside its calibration. */
  costsOf(run: number): CostOverrides {
    return configOf(this.testbed.runs[run]!).costs ?? {};
  }

  /** The rate of a run by its index, with these costs instead of those that it has. */
  async rate(run: number, costs: CostOverrides, sampling: Sampling): Promise<RunRate> {
    const { registry, folder, objects } = this.testbed;
    const spec = withCosts(this.testbed.runs[run]!, costs, sampling);
    const end = await carryOutRun(spec, {
      registry,
      folder,
      object: (hash) => objects.get(hash)!,
      signal: this.signal,
    });
    throwIfInterrupted(end, this.signal);
    if (end.result === undefined || end.failures.length > 0) throw failureOf(end);
    const rate = rateOfRun(end.result);
    if (rate === undefined)
      throw new XdpbedError(
        'usage',
        `run ${spec.plan.id} has measured no rate: it has no program in a guest’s nic`,
      );
    return rate;
  }
}

function configOf({ plugins: { fabric } }: RunSpec): PredictingConfig {
  const config = fabric.config as Partial<PredictingConfig> | null | undefined;
  if (typeof config?.calibration !== 'string') {
    throw new XdpbedError(
      'usage',
      `fabric ${fabric.use} predicts no rates: its config names no calibration`,
      {
        hint: '--set "plugins.fabric={ use: model, config: { calibration: calibration/rfc-2019.yaml } }"',
      },
    );
  }
  return config as PredictingConfig;
}

function withCosts(spec: RunSpec, costs: CostOverrides, sampling: Sampling): RunSpec {
  const { plan, plugins } = spec;
  const config = configOf(spec);
  const short = sampling === 'short';
  return {
    ...spec,
    plan: short ? { ...plan, measure: { ...plan.measure!, samples: 1 } } : plan,
    plugins: {
      ...plugins,
      fabric: {
        ...plugins.fabric,
        config: {
          ...config,
          costs: { ...config.costs, ...costs },
          ...(short
            ? {
                'sample-ms': Math.min(config['sample-ms'] ?? Infinity, SHORT.sampleMs),
                'warm-up-ms': Math.min(config['warm-up-ms'] ?? Infinity, SHORT.warmUpMs),
              }
            : {}),
        },
      },
    },
  };
}
