import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { TestbedError } from '../testbed/problem-list.js';
import { readCalibration } from './calibration.js';
import { COST_PARAMETER_NAMES } from './cost-parameters.js';

const folder = new URL('../../../testbeds/calibration/', import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith('.yaml'));

/** A calibration file of one line for each parameter, from line 4 on. */
function calibration(change: (line: string) => string = (line) => line): string {
  return [
    'version: 1',
    'name: test',
    'parameters:',
    ...COST_PARAMETER_NAMES.map((name) => `  ${name}: { value: 1, source: test }`),
    'helpers:',
    '  default: { value: 5, source: test }',
    '  bpf_redirect_map: { value: 8, source: test }',
  ]
    .map(change)
    .join('\n');
}

function problemsOf(text: string): string[] {
  try {
    readCalibration('a.yaml', new TextEncoder().encode(text));
  } catch (error) {
    if (error instanceof TestbedError) {
      return error.problems.map(({ at, message }) => `${at.line}:${at.col} ${message}`);
    }
    throw error;
  }
  return [];
}

describe('calibration files', () => {
  it.each(files)('%s is valid, and tells editors of its schema', (name) => {
    const text = readFileSync(new URL(name, folder), 'utf8');
    expect(problemsOf(text)).toEqual([]);
    expect(text.split('\n', 1)[0]).toBe(
      '# yaml-language-server: $schema=../../schemas/calibration.schema.json',
    );
  });

  it('there is at least one', () => {
    expect(files).toContain('rfc-2019.yaml');
  });

  it.each([
    ['a number below 0', '  line-rate: { value: -1, source: test }', '4:23 -1 is out of range'],
    ['a value without a source', '  line-rate: { value: 1 }', "4:3 'source' is missing"],
    ['no spread', '  line-rate: { value: 1, source: test, free: { prior: 1 } }', "4:40 'spread' is missing"],
    ['no parameter', '  line-rat: { value: 1, source: test }', "4:3 unknown key 'line-rat'"],
  ])('tells where there is %s', (_, line, problem) => {
    const problems = problemsOf(calibration((old) => (old.startsWith('  line-rate:') ? line : old)));
    expect(problems.filter((each) => each.startsWith(problem))).toHaveLength(1);
  });

  it('tells of a helper that there is not, at its name, and of one without a cost', () => {
    const line = 4 + COST_PARAMETER_NAMES.length + 2;
    const problems = problemsOf(
      calibration((old) => old.replace('  bpf_redirect_map: { value: 8', '  bpf_redirect_mop: { valu: 8')),
    );
    expect(problems.map((each) => each.replace(/ is not one of .*/, ' is not known'))).toEqual([
      `${line}:3 'bpf_redirect_mop' is not known`,
      `${line}:3 'value' is missing in helpers.bpf_redirect_mop`,
      expect.stringMatching(`^${line}:23 unknown key 'valu'`),
    ]);
  });
});
