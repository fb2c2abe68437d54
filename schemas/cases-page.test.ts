import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { runForTest } from '../src/cli/testing-terminal.js';
import { casesJsonSchema } from '../src/core/program-test/cases-json-schema.js';
import { CASES_EXAMPLES, CASES_PAGE, caseKeys, renderCasesPage } from './cases-page.js';

const path = (file: string): string => fileURLToPath(new URL(`../testbeds/cases/${file}`, import.meta.url));
const read = (file: string): string => readFileSync(path(file), 'utf8');

it(`${CASES_PAGE} says what the schema of cases says`, () => {
  const page = renderCasesPage(read);
  const file = fileURLToPath(new URL(`../${CASES_PAGE}`, import.meta.url));
  if (process.env['UPDATE_DOCS'] === '1') writeFileSync(file, page);
  expect(readFileSync(file, 'utf8')).toBe(page);
});

describe.each(CASES_EXAMPLES)('$file', ({ file }) => {
  it.each(['interpreter', 'wasm'])('passes in executor %s', async (executor) => {
    const { exit, out, err } = await runForTest(['prog', 'test', path(file), '--executor', executor]);
    expect(err).toBe('');
    expect(out).toContain(', 0 failed');
    expect(exit).toBe(0);
  });

  it('is valid for editors', () => {
    const check = new Ajv({ strict: false }).compile(casesJsonSchema());
    check(parse(read(file)));
    expect(check.errors).toBeNull();
  });
});

describe('every key', () => {
  // A step has the keys of a case, and an expected packet those of a packet; $schema is a comment in the examples.
  const keys = caseKeys().filter(
    ({ path: at }) => at[0] !== '$schema' && !(at[1] === 'steps' && at.length > 3),
  );
  const used = new Set(CASES_EXAMPLES.flatMap(({ file }) => usedKeys(parse(read(file)), [])));

  it.each(keys.map(({ path: at }) => at.join('.')))('%s is in an example', (key) => {
    const elsewhere = key.startsWith('cases.steps.')
      ? key.replace('cases.steps.', 'cases.')
      : key.replace('cases.', 'cases.steps.');
    expect(used.has(key) || used.has(elsewhere)).toBe(true);
  });

  it.each(keys.map(({ path: at, schema }) => [at.join('.'), schema] as const))(
    '%s is described',
    (key, schema) => {
      if (key === 'cases') return;
      expect(schema.description ?? '').not.toBe('');
    },
  );
});

/** Keys by where they stand, without list indexes. */
function usedKeys(data: unknown, at: readonly string[]): string[] {
  if (Array.isArray(data)) return data.flatMap((item: unknown) => usedKeys(item, at));
  if (typeof data !== 'object' || data === null) return [];
  return Object.entries(data).flatMap(([name, value]) => {
    const inner = [...at, name];
    return [inner.join('.'), ...usedKeys(value, inner)];
  });
}
