import type { Command } from 'commander';
import { EXIT } from '../../core/diagnostic.js';
import { loadCases, runCases, type CaseResult } from '../../core/program-test/run-cases.js';
import { element } from '../../report/xml.js';
import { openObject } from './prog-object.js';
import type { CliContext } from '../cli-context.js';
import { Workbench } from './workbench.js';

/** `xdpbed prog test`: unit tests of an XDP program, without root. */
export function addTestVerb(prog: Command, context: CliContext): void {
  prog
    .command('test')
    .description('unit-test a program: given a packet and maps, expect a verdict, a packet and maps')
    .argument('<object>', 'ELF object')
    .argument('<cases>', 'YAML file of cases')
    .option('--executor <name>', 'interpreter, wasm or differential', 'interpreter')
    .option('--verifier <names>', 'verifiers that must accept, comma-separated', 'abstract')
    .option('--format <format>', 'text or junit', 'text')
    .action(
      context.verb(
        async (
          objectPath: string,
          casesPath: string,
          options: { executor: string; verifier: string; format: string },
        ) => {
          const object = await openObject(objectPath);
          const file = await loadCases(casesPath);
          const results = await runCases(object, file, () =>
            Workbench.open(context.registry, {
              executor: options.executor,
              verifiers: options.verifier.split(','),
            }),
          );
          context.terminal.out(
            options.format === 'junit' ? renderJunit(objectPath, results) : renderText(results),
          );
          return results.every((result) => result.passed) ? EXIT.OK : EXIT.CHECK_FAILED;
        },
      ),
    );
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
