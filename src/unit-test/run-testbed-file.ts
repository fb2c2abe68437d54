import type { Plugin } from '../core/contract/plugin.js';
import type { ResultDocument, RunResult } from '../core/contract/result.js';
import { XdpbedError } from '../core/diagnostic.js';
import { PluginRegistry } from '../core/plugin/plugin-registry.js';
import type { RunOptions } from '../core/run/run-testbed.js';
import { BUILT_IN_PLUGINS } from '../presets.js';
import { VERSION } from '../version.js';

export interface RunTestbedFileOptions extends Pick<RunOptions, 'signal' | 'onEvent' | 'bail'> {
  /**
   * Values by path, which go before those of the file and of its matrix: `{ 'workload.config.frames': 100 }`. Values are
   * what YAML can hold. With `*` in a path, every one that fits: `{ 'guests.*.kind': 'tap-reader' }`.
   */
  readonly set?: Readonly<Record<string, unknown>> | undefined;
  /** Variants to keep, by axis of the matrix: `{ case: 'bridge', program: ['xdp1', 'xdp2'] }`. */
  readonly only?: Readonly<Record<string, string | readonly string[]>> | undefined;
  /** Instead of the file's. */
  readonly seed?: bigint | number | undefined;
  /** Plugins beside the built-in ones; others are found as the file names them. */
  readonly plugins?: readonly Plugin[] | undefined;
}

/** What a testbed came to. */
export interface TestbedOutcome {
  /** The result as every reporter gets it. */
  readonly result: ResultDocument;
  /** Every check passed, and no run failed. */
  readonly passed: boolean;
  /** Why not, a line each: what checks found, and what runs failed of. */
  readonly problems: readonly string[];
  /**
   * The result of a run, by its place on the axes: `run({ placement: 'host' })`; without any, of the only run. Throws `usage`
   * where there is none or more than one.
   */
  run(axes?: Readonly<Record<string, string>>): RunResult;
}

/**
 * Runs a testbed file: all its runs and checks, with the plugins that it names. Those run with the rights of this process.
 *
 * A check that does not pass, a run that fails, and that `signal` has fired (`result.interrupted`) are in the outcome. Throws
 * `testbed-invalid` (TestbedError) with everything that is wrong with the file, `file-unreadable`, `usage`, `plugin-not-found`.
 *
 * @example
 * ```ts
 * import { expect, it } from 'vitest';
 * import { runTestbedFile } from 'xdpbed/test';
 *
 * it('drops on the host what the guest would drop', async () => {
 *   const outcome = await runTestbedFile('blocklist.testbed.yaml', { set: { 'workload.config.frames': 100 } });
 *   expect(outcome.problems).toEqual([]);
 *   expect(outcome.run({ placement: 'host' }).framesSent).toBe(100);
 * });
 * ```
 */
export async function runTestbedFile(
  file: string,
  { set = {}, only = {}, seed, plugins = [], ...options }: RunTestbedFileOptions = {},
): Promise<TestbedOutcome> {
  // Most of what there is, which tests of programs alone have no use for.
  const { loadTestbed } = await import('../core/testbed/resolve-testbed.js');
  const { runTestbed } = await import('../core/run/run-testbed.js');
  const testbed = await loadTestbed(file, new PluginRegistry([...BUILT_IN_PLUGINS, ...plugins]), {
    // JSON is YAML.
    set: Object.entries(set).map(([path, value]) => `${path}=${asJson(path, value)}`),
    only: Object.entries(only).map(([axis, variants]) => `${axis}=${[variants].flat().join(',')}`),
    seed: seed === undefined ? undefined : BigInt(seed),
  });
  const result = await runTestbed(testbed, { version: VERSION, ...options });
  return {
    result,
    passed: result.passed,
    problems: problemsOf(result),
    run: (axes) => findRun(result, axes),
  };
}

function asJson(path: string, value: unknown): string {
  const json = JSON.stringify(value, (_, part: unknown) => {
    if (typeof part !== 'bigint') return part;
    return Number.isSafeInteger(Number(part)) ? Number(part) : String(part);
  });
  if (json === undefined) throw new XdpbedError('usage', `set: ${path} has no value that YAML can hold`);
  return json;
}

function problemsOf({ checks, failures = [] }: ResultDocument): string[] {
  return [
    ...failures.map(
      ({ run, message, hint }) => `${run}: ${message}${hint === undefined ? '' : ` (${hint})`}`,
    ),
    ...checks
      .filter(({ passed }) => !passed)
      .flatMap(({ description, problems }) =>
        problems.length === 0 ? [description] : problems.map((problem) => `${description}: ${problem}`),
      ),
  ];
}

function findRun({ runs }: ResultDocument, axes: Readonly<Record<string, string>> = {}): RunResult {
  const wanted = Object.entries(axes);
  const found = runs.filter((run) => wanted.every(([axis, variant]) => run.axes[axis] === variant));
  if (found.length === 1) return found[0]!;
  const place = wanted.map(([axis, variant]) => `${axis}=${variant}`).join(', ') || 'the testbed';
  throw new XdpbedError('usage', `${place} has ${found.length} runs with a result, not one`, {
    hint: `runs: ${runs.map(({ id }) => id).join(', ') || 'none'}`,
  });
}
