import type { CaseResult } from '../../core/program-test/run-cases.js';
import { printable } from '../../core/printable.js';
import { formatLocation } from '../../core/diagnostic.js';
import type { Printed } from '../../report/printed.js';
import type { ProgTestDocument } from '../../report/prog-test-schema.js';
import { element } from '../../report/xml.js';

/** What came of the cases of one file. */
export interface FileReport {
  readonly file: string;
  readonly object: string;
  readonly results: readonly CaseResult[];
}

export const TEST_FORMATS = ['text', 'junit', 'tap', 'json'] as const;
export type TestFormat = (typeof TEST_FORMATS)[number];

/** What is said of all files together. */
export interface TestSummary {
  readonly milliseconds: number;
  /** Not all cases were run. */
  readonly interrupted: boolean;
}

const RENDERERS: Readonly<
  Record<TestFormat, (reports: readonly FileReport[], summary: TestSummary) => string>
> = {
  text: renderText,
  junit: renderJunit,
  tap: renderTap,
  json: renderJson,
};

export function renderTests(
  format: TestFormat,
  reports: readonly FileReport[],
  summary: TestSummary,
): string {
  return RENDERERS[format](reports, summary);
}

function renderText(reports: readonly FileReport[], { milliseconds }: TestSummary): string {
  const several = reports.length > 1;
  const lines = reports.flatMap(({ file, results }) => [
    ...(several ? [`${file}:`] : []),
    ...results.flatMap((result) => [
      `${result.passed ? '✓' : '✗'} ${result.name}`,
      ...result.problems.map(({ at, message }) => `    ${formatLocation(at)}: ${message}`),
      ...result.notes.map((note) => `    note: ${note}`),
    ]),
    ...(several ? [''] : []),
  ]);
  const { passed, failed } = count(reports);
  const time =
    milliseconds < 1000 ? `${milliseconds.toFixed(0)} ms` : `${(milliseconds / 1000).toFixed(2)} s`;
  return `${[...lines, ...(several ? [] : [''])].map(printable).join('\n')}\n${passed} passed, ${failed} failed in ${time}\n`;
}

function count(reports: readonly FileReport[]): { readonly passed: number; readonly failed: number } {
  const results = reports.flatMap((report) => report.results);
  const failed = results.filter(({ passed }) => !passed).length;
  return { passed: results.length - failed, failed };
}

function renderJunit(reports: readonly FileReport[]): string {
  const suites = reports.flatMap(({ file, results }) => {
    const cases = results.map(({ name, at, problems, milliseconds }) =>
      element(
        'testcase',
        { classname: file, name, file, line: String(at.line), time: (milliseconds / 1000).toFixed(4) },
        problems.length === 0
          ? ''
          : [
              element(
                'failure',
                { message: problems[0]!.message },
                problems.map((problem) => `${formatLocation(problem.at)}: ${problem.message}`).join('\n'),
              ),
            ],
      ),
    );
    const failures = results.filter(({ passed }) => !passed).length;
    return [
      element('testsuite', { name: file, tests: String(results.length), failures: String(failures) }, cases),
    ];
  });
  return `${['<?xml version="1.0" encoding="UTF-8"?>', ...element('testsuites', {}, suites)].join('\n')}\n`;
}

/** TAP version 14. */
function renderTap(reports: readonly FileReport[]): string {
  const results = reports.flatMap(({ file, results: own }) => own.map((result) => ({ file, result })));
  const lines = results.flatMap(({ file, result: { name, passed, problems } }, index) => {
    const title = `${reports.length > 1 ? `${file}: ` : ''}${name}`
      .replace(/[\\#]/g, '\\$&')
      .replace(/\s+/g, ' ');
    return [
      `${passed ? 'ok' : 'not ok'} ${index + 1} - ${title}`,
      ...(passed
        ? []
        : [
            '  ---',
            '  problems:',
            ...problems.map(
              ({ at, message }) => `    - ${JSON.stringify(`${formatLocation(at)}: ${message}`)}`,
            ),
            '  ...',
          ]),
    ];
  });
  return `TAP version 14\n1..${results.length}\n${lines.map((line) => `${line}\n`).join('')}`;
}

function renderJson(reports: readonly FileReport[], { milliseconds, interrupted }: TestSummary): string {
  const files = reports.map(({ file, object, results }) => ({
    file,
    object,
    cases: results.map(({ name, at, passed, problems, notes, milliseconds: own }) => ({
      name,
      line: at.line,
      passed,
      milliseconds: own,
      problems: problems.map(({ at: { line, col }, message }) => ({ line, col, message })),
      ...(notes.length === 0 ? {} : { notes }),
    })),
  }));
  const document: Printed<ProgTestDocument> = {
    schema: 'xdpbed.prog-test/1',
    ...count(reports),
    milliseconds,
    files,
    ...(interrupted ? { interrupted } : {}),
  };
  return `${JSON.stringify(document, null, 2)}\n`;
}
