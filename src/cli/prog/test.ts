import { EXIT, type ExitCode } from '../../core/diagnostic.js';
import { parseMapSizes } from '../../core/program-test/map-size-arguments.js';
import { loadCases, runCases, type CaseResult } from '../../core/program-test/run-cases.js';
import { COVERAGE_EXECUTOR, CoverageReport, type CoverageOptions } from './coverage.js';
import { element } from '../../report/xml.js';
import { openObject, type ObjectOptions } from './prog-object.js';
import type { CliContext } from '../cli-context.js';
import { Workbench } from '../../core/program-test/workbench.js';

/** `xdpbed prog test`: unit tests of an XDP program, without root. */
export async function testProgram(
  context: CliContext,
  objectPath: string,
  casesPath: string,
  options: ObjectOptions &
    CoverageOptions & { executor: string; mapBackend?: string; verifier: string; format: string },
): Promise<ExitCode> {
  const object = await openObject(objectPath, options);
  const file = await loadCases(casesPath);
  const report = CoverageReport.wanted(context.terminal, options);
  const results = await runCases(
    object,
    file,
    (cpus) =>
      Workbench.open(context.registry, {
        executor: report === undefined ? options.executor : COVERAGE_EXECUTOR,
        coverage: report?.collectorFor(objectPath, object),
        mapBackend: options.mapBackend,
        verifiers: options.verifier.split(','),
        runtime: { cpus },
      }),
    parseMapSizes(options.map ?? []),
  );
  context.terminal.out(options.format === 'junit' ? renderJunit(objectPath, results) : renderText(results));
  await report?.write(context.terminal, (text) =>
    options.format === 'text' ? context.terminal.out(text) : context.terminal.err(text),
  );
  return results.every((result) => result.passed) ? EXIT.OK : EXIT.CHECK_FAILED;
}

function renderText(results: readonly CaseResult[]): string {
  const lines = results.flatMap((result) => [
    `${result.passed ? '✓' : '✗'} ${result.name}`,
    ...result.problems.map((problem) => `    ${problem}`),
  ]);
  const failed = results.filter((result) => !result.passed).length;
  return `${lines.join('\n')}\n\n${results.length - failed} passed, ${failed} failed\n`;
}

function renderJunit(name: string, results: readonly CaseResult[]): string {
  const failures = results.filter((result) => !result.passed).length;
  const cases = results.map(({ name: title, problems }) =>
    element(
      'testcase',
      { classname: name, name: title },
      problems.length === 0 ? '' : [element('failure', { message: problems[0]! }, problems.join('\n'))],
    ),
  );
  const suite = element(
    'testsuite',
    { name, tests: String(results.length), failures: String(failures) },
    cases,
  );
  return `${['<?xml version="1.0" encoding="UTF-8"?>', ...suite].join('\n')}\n`;
}
