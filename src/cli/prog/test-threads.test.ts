import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { PluginRegistry } from '../../core/plugin/plugin-registry.js';
import { BUILT_IN_PLUGINS } from '../../presets.js';
import { testOneFile, type FileOutcome, type FileTests } from './test-one-file.js';
import { testSideBySide } from './test-threads.js';

const folder = mkdtempSync(join(tmpdir(), 'xdpbed-threads-'));
afterAll(() => rmSync(folder, { recursive: true }));
const registry = new PluginRegistry(BUILT_IN_PLUGINS);
const never = new AbortController().signal;
const TESTS: FileTests = { executor: 'interpreter', verifier: 'abstract', update: true };

/** Cases that each write a snapshot when they are through. */
function casesFile(name: string, verdict: string, { cases = 1, repeat = 1 } = {}): string {
  const file = join(folder, name);
  const each = Array.from(
    { length: cases },
    (_, index) =>
      `  - { name: 'case ${index}', packet: { hex: '${'00'.repeat(60)}' }, repeat: ${repeat}, expect: { verdict: ${verdict}, snapshot: ${name}.${index}.txt } }`,
  );
  writeFileSync(file, `object: ${resolve('testbeds/programs/xdp1.o')}\ncases:\n${each.join('\n')}\n`);
  return file;
}

const FILES = ['XDP_DROP', 'XDP_NONE', 'XDP_PASS', 'XDP_DROP'].map((verdict, index) =>
  casesFile(`${index}.cases.yaml`, verdict),
);
const snapshotOf = (file: string): string => `${file}.0.txt`;
beforeEach(() => {
  for (const file of FILES) rmSync(snapshotOf(file), { force: true });
});

/** Until another thread is through with the file. */
async function through(file: string): Promise<void> {
  while (!existsSync(snapshotOf(file))) await new Promise((ready) => setTimeout(ready, 10));
}

const untimed = (outcomes: readonly FileOutcome[]): unknown =>
  JSON.parse(
    JSON.stringify(outcomes, (key, value: unknown) => (key === 'milliseconds' ? undefined : value)),
  ) as unknown;

describe('files tested side by side', () => {
  it.each([2, 3, 8])('are the same as one after the other, in their order: %i at a time', async (jobs) => {
    const here: string[] = [];
    // This thread is busy with its first file until the others have done all the rest.
    const outcomes = await testSideBySide(
      FILES,
      TESTS,
      async (file) => {
        here.push(file);
        await through(FILES.at(-1)!);
        return testOneFile(registry, file, TESTS, never);
      },
      { jobs, signal: never, aloneMs: 0 },
    );
    expect(here).toEqual([FILES[0]]);
    for (const file of FILES) rmSync(snapshotOf(file), { force: true });
    const alone: FileOutcome[] = [];
    for (const file of FILES) alone.push(await testOneFile(registry, file, TESTS, never));
    expect(untimed(outcomes)).toEqual(untimed(alone));
    expect(outcomes.map(({ report, failure }) => report?.results[0]?.passed ?? failure?.code)).toEqual([
      true,
      'testbed-invalid',
      false,
      true,
    ]);
  });

  it('are taken by this thread alone when they are soon through, or when one is asked for', async () => {
    for (const [jobs, aloneMs] of [
      [4, 60_000],
      [1, 0],
    ] as const) {
      const here: string[] = [];
      await testSideBySide(
        FILES,
        { ...TESTS, executor: './there-is-no-such.js' },
        async (file) => {
          here.push(file);
          await new Promise((ready) => setTimeout(ready, 5));
          return { reads: [] };
        },
        { jobs, signal: never, aloneMs },
      );
      expect(here).toEqual(FILES);
    }
  });

  it('hand over what is through when they are interrupted, and begin no other', async () => {
    const interruption = new AbortController();
    const { signal } = interruption;
    const long = { cases: 100, repeat: 1_000_000 };
    const endless = casesFile('endless.cases.yaml', 'XDP_DROP', long);
    let asked = 0;
    const running = testSideBySide(
      [FILES[0]!, FILES[3]!, endless, FILES[2]!],
      TESTS,
      async () => {
        await through(FILES[3]!);
        // The other thread is at the long one soon.
        await new Promise((ready) => setTimeout(ready, 200));
        asked = performance.now();
        interruption.abort();
        return { reads: ['here'] };
      },
      { jobs: 2, signal, aloneMs: 0 },
    );
    const outcomes = await running;
    expect(performance.now() - asked).toBeLessThan(1000);
    expect(outcomes.map(({ reads }) => reads[0])).toEqual(['here', FILES[3], endless]);
    expect(outcomes.map(({ report }) => report?.results.length)).toEqual([undefined, 1, expect.any(Number)]);
    expect(outcomes[2]!.report!.results.length).toBeLessThan(long.cases);
  });

  it('tell of a thread that ended before its file was through', async () => {
    writeFileSync(join(folder, 'ends.mjs'), 'process.exit(0);\n');
    await expect(
      testSideBySide(
        FILES,
        { ...TESTS, executor: join(folder, 'ends.mjs') },
        async () => {
          await new Promise((ready) => setTimeout(ready, 500));
          return { reads: [] };
        },
        { jobs: 2, signal: never, aloneMs: 0 },
      ),
    ).rejects.toThrow(/cases\.yaml has ended/);
  });

  it('tell of what a thread threw', async () => {
    await expect(
      testSideBySide(
        FILES,
        // No list of verifiers, which no command line leads to: a defect, that is.
        { ...TESTS, verifier: undefined as unknown as string },
        async () => {
          await new Promise((ready) => setTimeout(ready, 500));
          return { reads: [] };
        },
        { jobs: 2, signal: never, aloneMs: 0 },
      ),
    ).rejects.toThrow(/split/);
  });
});
