import { Ajv, type ValidateFunction } from 'ajv';
import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { runForTest } from '../src/cli/testing-terminal.js';
import { exampleEvents, exampleResults } from '../src/conformance/reporter/index.js';
import { eventLine } from '../src/report/event-line.js';

const root = new URL('..', import.meta.url).pathname;
const programs = `${root}testbeds/programs/`;

/** A published schema, as somebody else would use it: from its file. */
function schema(name: string): ValidateFunction {
  const text = readFileSync(`${root}schemas/${name}.schema.json`, 'utf8');
  return new Ajv({ allErrors: true }).compile(JSON.parse(text) as object);
}

function expectValid(validate: ValidateFunction, text: string): void {
  expect(validate(JSON.parse(text)), JSON.stringify(validate.errors)).toBe(true);
  // What nobody described is refused: a field that is added must be published.
  expect(validate({ ...(JSON.parse(text) as object), surplus: 1 })).toBe(false);
}

describe('what is printed is what its published schema says', () => {
  const event = schema('event');
  const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

  it('events of a run, and the summary', async () => {
    const { out } = await runForTest(['run', `${root}testbeds/migration.testbed.yaml`, '--format', 'ndjson']);
    const words = lines(out).map((line) => (JSON.parse(line) as { event: string }).event);
    expect(new Set(words)).toEqual(
      new Set([
        'testbed-started',
        'run-started',
        'program-attached',
        'ruling',
        'run-finished',
        'check-finished',
        'testbed-finished',
        'summary',
      ]),
    );
    for (const line of lines(out)) expectValid(event, line);
  });

  it('events of every kind that reporters are tried with', () => {
    const events = Object.values(exampleResults()).flatMap(exampleEvents);
    for (const each of events) expectValid(event, eventLine(each));
    const { anyOf } = JSON.parse(readFileSync(`${root}schemas/event.schema.json`, 'utf8')) as {
      anyOf: { properties: { event: { const: string } } }[];
    };
    const described = anyOf.map(({ properties }) => properties.event.const);
    expect(new Set([...events.map((each) => each.event), 'summary'])).toEqual(new Set(described));
  });

  it.each(readdirSync(programs).filter((name) => name.endsWith('.o')))('prog info %s', async (name) => {
    const { out } = await runForTest(['prog', 'info', programs + name, '--format', 'json']);
    expectValid(schema('object-info'), out);
  });

  it.each([
    ['programs/xdp1.o', true],
    ['programs/balancer.o', true],
    ['programs/events.o', true],
    ['unsafe/short_check.s', false],
  ])('prog verify %s, which is accepted: %s', async (name, accepted) => {
    const { out } = await runForTest([
      'prog',
      'verify',
      `${root}testbeds/${name}`,
      ...['--verifier', 'abstract,structural', '--log', '--format', 'json'],
    ]);
    const document = JSON.parse(out) as { programs: { verifications: { accepted: boolean }[] }[] };
    expect(document.programs[0]!.verifications[0]!.accepted).toBe(accepted);
    expectValid(schema('verification'), out);
  });

  it('doctor', async () => {
    const { out } = await runForTest(['doctor', '--format', 'json']);
    expectValid(schema('doctor'), out);
  });
});
