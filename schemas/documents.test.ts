import { Ajv, type ValidateFunction } from 'ajv';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { afterAll, describe, expect, it } from 'vitest';
import { runForTest } from '../src/cli/testing-terminal.js';
import { exampleEvents, exampleResults } from '../src/conformance/reporter/index.js';
import { eventLine } from '../src/report/event-line.js';

const root = new URL('..', import.meta.url).pathname;
const programs = `${root}testbeds/programs/`;
const folder = mkdtempSync(`${tmpdir()}/xdpbed-documents-`);
afterAll(() => rmSync(folder, { recursive: true }));

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

  describe('prog diff and prog fuzz', () => {
    const filter = (limit: number): string => `.map seen array key=4 value=8 entries=1
.program filter
  r6 = map[seen][0]+0
  r2 = *(u32 *)(r1 +0)
  r3 = *(u32 *)(r1 +4)
  r4 = r2
  r4 += 15
  r0 = 2
  if r4 > r3 goto out
  r5 = *(u8 *)(r2 +14)
  if w5 <= ${limit} goto out
  *(u64 *)(r6 +0) = 1
  r0 = 1
out:
  exit
`;
    const write = (name: string, text: string): string => {
      const path = `${folder}/${name}`;
      writeFileSync(path, text);
      return path;
    };
    const rejected = '.program filter\n  r0 = *(u8 *)(r1 +900)\n  exit\n';

    it.each([
      ['same', filter(9), filter(9)],
      ['different', filter(9), filter(10)],
      ['rejected', filter(9), rejected],
    ])('prog diff, %s', async (result, before, after) => {
      const [old, recent] = [write('old.s', before), write('new.s', after)];
      const cases = write(
        'diff.cases.yaml',
        `cases:
  - name: with all that may be said of a packet
    packet: { hex: '${'00'.repeat(14)}0a' }
    maps: { seen: [{ key: 0, value: 7 }] }
    context: { ingress-ifindex: 1, rx-queue-index: 2, egress-ifindex: 3 }
    metadata: '01020304'
    random: 7
    expect: { verdict: XDP_DROP }
`,
      );
      const args = ['prog', 'diff', old, recent, '--cases', cases, '--packets', '20', '--format', 'json'];
      const { out } = await runForTest(args);
      expect(JSON.parse(out)).toMatchObject({ programs: [{ result }] });
      expectValid(schema('prog-diff'), out);
    });

    it.each([
      ['holds', filter(9), 'no-abort'],
      ['violated', filter(9), 'verdict=XDP_PASS'],
      ['rejected', rejected, 'no-abort'],
    ])('prog fuzz, %s', async (result, program, property) => {
      const args = ['prog', 'fuzz', write('fuzz.s', program), '--expect', property, '--packets', '2000'];
      const { out } = await runForTest([...args, '--format', 'json']);
      expect(JSON.parse(out)).toMatchObject({ result });
      expectValid(schema('prog-fuzz'), out);
    });

    it('prog fuzz of an object with line info, and of both what is interrupted', async () => {
      const xdp1 = `${programs}xdp1.o`;
      const fuzzed = await runForTest(['prog', 'fuzz', xdp1, '--packets', '50', '--format', 'json']);
      expect(JSON.parse(fuzzed.out)).toHaveProperty('coverage');
      expectValid(schema('prog-fuzz'), fuzzed.out);
      for (const [verb, args] of Object.entries({ diff: [xdp1, xdp1], fuzz: [xdp1] })) {
        const signal = AbortSignal.timeout(300);
        const words = ['prog', verb, ...args, '--packets', '1000000000', '--format', 'json'];
        const { exit, out } = await runForTest(words, '', signal);
        expect(exit).toBe(130);
        expect(JSON.parse(out)).toHaveProperty('interrupted');
        expectValid(schema(`prog-${verb}`), out);
      }
    });
  });

  it('doctor', async () => {
    const { out } = await runForTest(['doctor', '--format', 'json']);
    expectValid(schema('doctor'), out);
  });
});
