import { readFile } from 'node:fs/promises';
import { ResultDocument } from '../../core/contract/result.js';
import { XdpbedError, messageOf } from '../../core/diagnostic.js';
import type { ReferenceRates } from '../../core/run/fit-calibration.js';
import { rateOfRun } from '../../core/run/predicted-rates.js';
import { runTestbed } from '../../core/run/run-testbed.js';
import { loadTestbed, type ResolvedTestbed } from '../../core/testbed/resolve-testbed.js';
import { SchemaValidator } from '../../core/testbed/schema-validator.js';
import { VERSION } from '../../version.js';
import type { CliContext } from '../cli-context.js';
import type { Progress } from '../progress.js';
import { toResolveOptions, type TestbedOptions } from '../testbed-options.js';

/** The figures that the testbed itself compares with. */
export function referenceOfTestbed({ comparison, file }: ResolvedTestbed): ReferenceRates {
  const reference = comparison?.reference;
  if (reference?.mpps === undefined) {
    throw new XdpbedError('usage', `${file} has no figures to fit to (comparison.reference.mpps)`, {
      hint: '--reference RESULT.json or --from linux',
    });
  }
  const runs = new Map(
    Object.entries(reference.mpps).map(([id, mpps]) => [id, { framesPerSecond: mpps * 1e6 }]),
  );
  return { name: reference.name, runs };
}

/** The rates of a result that `run --format json` has printed. */
export async function referenceOfFile(file: string): Promise<ReferenceRates> {
  let result: unknown;
  try {
    result = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    throw new XdpbedError('file-unreadable', `cannot read ${file}: ${messageOf(cause)}`, { cause });
  }
  const [violation] = new SchemaValidator().validate(ResultDocument, result);
  if (violation !== undefined) {
    const at = violation.path.length === 0 ? '' : `${violation.path.join('.')}: `;
    throw new XdpbedError(
      'usage',
      `${file} is no result of \`run --format json\`: ${at}${violation.message}`,
    );
  }
  return referenceOfResult(file, result as ResultDocument);
}

/** The rates of the same runs on another fabric, measured now. All of them come to their end, or this throws. */
export async function referenceOfFabric(
  context: CliContext,
  fabric: string,
  file: string,
  options: TestbedOptions,
  progress: Progress,
): Promise<ReferenceRates> {
  // What is set of the model's config means nothing to another fabric.
  const set = (options.set ?? []).filter((text) => !text.startsWith('plugins.fabric'));
  const testbed = await loadTestbed(file, context.registry, toResolveOptions({ ...options, fabric, set }));
  const errors: unknown[] = [];
  const result = await runTestbed(testbed, {
    version: VERSION,
    signal: context.interruption(),
    bail: true,
    onEvent: (event) => {
      if (event.event === 'run-started')
        progress.say(`on ${fabric}, run ${event.index + 1} of ${event.of}: ${event.run}`);
    },
    onFailure: (_, error) => void errors.push(error),
  });
  progress.clear();
  if (result.interrupted !== undefined) {
    const { run } = result.interrupted;
    errors.unshift(new XdpbedError('interrupted', `interrupted in run ${run} on ${fabric}`));
  }
  if (errors.length > 0) throw errors.length === 1 ? errors[0] : new AggregateError(errors);
  for (const { passed, description, problems } of result.checks) {
    if (!passed)
      context.terminal.err(`on ${fabric}, a check failed: ${description}\n  ${problems.join('\n  ')}\n`);
  }
  return referenceOfResult(`fabric ${fabric}`, result);
}

function referenceOfResult(name: string, { runs }: ResultDocument): ReferenceRates {
  const rated = runs.flatMap((run) => {
    const rate = rateOfRun(run);
    return rate === undefined || rate.framesPerSecond <= 0 ? [] : [[run.id, rate] as const];
  });
  if (rated.length === 0) throw new XdpbedError('usage', `${name} has no rates`);
  const fabrics = new Set(runs.map(({ fabric }) => fabric));
  return {
    name: name.startsWith('fabric ') ? name : `${name} (fabric ${[...fabrics].join(', ')})`,
    runs: new Map(rated),
  };
}
