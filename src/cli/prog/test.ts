import { availableParallelism } from 'node:os';
import { EXIT, XdpbedError, messageOf, type ExitCode } from '../../core/diagnostic.js';
import { errorOfMessage } from '../../core/failure-message.js';
import { parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import type { CliContext } from '../cli-context.js';
import { findCaseFiles } from './case-files.js';
import { COVERAGE_EXECUTOR, CoverageReport, type CoverageOptions } from './coverage.js';
import type { ObjectOptions } from './prog-object.js';
import { testOneFile, type FileTests } from './test-one-file.js';
import { renderTests, type TestFormat } from './test-report.js';
import { testSideBySide } from './test-threads.js';
import { watchTests, type TestedFiles } from './watch-tests.js';
import { wholeNumber } from './whole-number.js';

export interface TestOptions extends ObjectOptions, CoverageOptions {
  readonly executor: string;
  readonly mapBackend?: string;
  readonly verifier: string;
  readonly format: TestFormat;
  readonly object?: string;
  readonly filter?: string;
  readonly bail?: boolean;
  readonly jobs?: string;
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
  // What is wrong with them is wrong for all files.
  parseMapSizes(options.map ?? []);
  const coverage = CoverageReport.wanted(context.terminal, options);
  const tests = fileTests(options, coverage === undefined ? options.executor : COVERAGE_EXECUTOR);
  const outcomes = await testSideBySide(
    files,
    tests,
    (file) => testOneFile(context.registry, file, tests, signal, coverage?.collectorFor.bind(coverage)),
    { jobs: jobsOf(options, coverage !== undefined), signal },
  );
  const reports = outcomes.flatMap(({ report }) => report ?? []);
  const errors = outcomes.flatMap(({ failure }) => (failure === undefined ? [] : errorOfMessage(failure)));
  const { filter } = options;
  const isEmpty = !signal.aborted && reports.every(({ results }) => results.length === 0);
  if (filter !== undefined && isEmpty && reports.length > 0)
    errors.push(new XdpbedError('usage', `no case has '${filter}' in its name`));
  if (reports.length > 0 || signal.aborted)
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
    reads: [...new Set([...files, ...outcomes.flatMap(({ reads }) => reads)])],
  };
}

/** Of the options that the whole command has, those that say how a file is tested. */
function fileTests(
  { object, type, map, mapBackend, verifier, filter, update, bail }: TestOptions,
  executor: string,
): FileTests {
  return { object, type, map, executor, mapBackend, verifier, filter, update, bail };
}

/** Files at a time. What has to know what came of the file before, or counts in one place, takes one after the other. */
function jobsOf({ jobs, bail, executor }: TestOptions, counts: boolean): number {
  const wanted = jobs === undefined ? availableParallelism() : wholeNumber('--jobs', jobs);
  return bail === true || counts || executor === 'kernel' ? 1 : wanted;
}
