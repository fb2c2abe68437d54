import { EXIT, XdpbedError, messageOf, type ExitCode } from '../../core/diagnostic.js';
import { loadCases } from '../../core/program-test/load-cases.js';
import { parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import { runCases, type CaseResult } from '../../core/program-test/run-cases.js';
import type { TestFile } from '../../core/program-test/test-case.js';
import { Workbench } from '../../core/program-test/workbench.js';
import type { CliContext } from '../cli-context.js';
import { findCaseFiles } from './case-files.js';
import { COVERAGE_EXECUTOR, CoverageReport, type CoverageOptions } from './coverage.js';
import type { ObjectOptions } from './prog-object.js';
import { renderTests, type FileReport, type TestFormat } from './test-report.js';
import { watchTests, type TestedFiles } from './watch-tests.js';

export interface TestOptions extends ObjectOptions, CoverageOptions {
  readonly executor: string;
  readonly mapBackend?: string;
  readonly verifier: string;
  readonly format: TestFormat;
  readonly object?: string;
  readonly filter?: string;
  readonly bail?: boolean;
  readonly update?: boolean;
  readonly watch?: boolean;
  readonly build?: string;
}

/** `xdpbed prog test`: unit tests of XDP programs, without root. Interrupted, it prints what it has so far. */
export async function testProgram(
  context: CliContext,
  args: readonly string[],
  options: TestOptions,
): Promise<ExitCode> {
  // What is no YAML is the object of all that follow.
  const [first, ...others] = args;
  const isObject =
    options.object === undefined && others.length > 0 && !/\.(?:ya?ml|json)$|[*?]/i.test(first!);
  const object = isObject ? first : options.object;
  const patterns = isObject ? others : args;
  if (options.build !== undefined && options.watch !== true)
    throw new XdpbedError('usage', '--build is for --watch', { hint: 'add --watch, or build before' });
  const test = (): Promise<TestedFiles> =>
    testFiles(context, patterns, { ...options, ...(object && { object }) });
  if (options.watch === true) return watchTests(context, options.build, test);
  const { exit, errors } = await test();
  if (exit === EXIT.INTERRUPTED) return exit;
  if (errors.length === 1) throw errors[0]!;
  if (errors.length > 1) throw new AggregateError(errors, errors.map(messageOf).join('; '));
  return exit;
}

async function testFiles(
  context: CliContext,
  patterns: readonly string[],
  options: TestOptions,
): Promise<TestedFiles> {
  const started = performance.now();
  const signal = context.interruption();
  const files = await findCaseFiles(patterns);
  const sizes = parseMapSizes(options.map ?? []);
  const errors: XdpbedError[] = [];
  const loaded: TestFile[] = [];
  for (const file of files) {
    try {
      loaded.push(await loadCases(file, { object: options.object, type: options.type, sizes, signal }));
    } catch (error) {
      // What was being read has no part in what is told; nothing has been run.
      if (signal.aborted) break;
      if (!(error instanceof XdpbedError)) throw error;
      errors.push(error);
    }
  }
  const { filter } = options;
  const coverage = CoverageReport.wanted(context.terminal, options);
  const reports: FileReport[] = [];
  for (const file of loaded) {
    if (signal.aborted) break;
    const results: CaseResult[] = [];
    const open = (cpus: number): Promise<Workbench> =>
      Workbench.open(context.registry, {
        executor: coverage === undefined ? options.executor : COVERAGE_EXECUTOR,
        coverage: coverage?.collectorFor(file.objectFile, file.cases[0]!.object.programs),
        mapBackend: options.mapBackend,
        verifiers: options.verifier.split(','),
        runtime: { cpus },
      });
    const running = runCases(file, {
      open,
      filter: filter === undefined ? undefined : (name) => name.includes(filter),
      update: options.update,
      bail: options.bail,
      signal,
    });
    for await (const result of running) results.push(result);
    reports.push({ file: file.file, object: file.objectFile, results });
    if (signal.aborted || (options.bail === true && results.some(({ passed }) => !passed))) break;
  }
  const isEmpty = !signal.aborted && reports.every(({ results }) => results.length === 0);
  if (filter !== undefined && isEmpty && loaded.length > 0)
    errors.push(new XdpbedError('usage', `no case has '${filter}' in its name`));
  if (loaded.length > 0 || signal.aborted)
    context.terminal.out(
      renderTests(options.format, reports, {
        milliseconds: performance.now() - started,
        interrupted: signal.aborted,
      }),
    );
  await coverage?.write(context.terminal, (text) =>
    options.format === 'text' ? context.terminal.out(text) : context.terminal.err(text),
  );
  const failed = reports.some(({ results }) => results.some(({ passed }) => !passed));
  return {
    exit: signal.aborted
      ? EXIT.INTERRUPTED
      : errors.length > 0
        ? EXIT.BAD_INPUT
        : failed
          ? EXIT.CHECK_FAILED
          : EXIT.OK,
    errors,
    reads: [...files, ...loaded.flatMap(({ reads }) => reads)],
  };
}
