import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runForTest } from '../testing-terminal.js';

const root = new URL('../../..', import.meta.url).pathname;
const CASES = join(root, 'testbeds/cases/ip_sanity.cases.yaml');
const test = (...args: string[]) => runForTest(['prog', 'test', CASES, ...args]);

const noGenhtml = spawnSync('genhtml', ['--version'], { stdio: 'ignore' }).error !== undefined;
const skipped = noGenhtml ? ' (skipped: genhtml is not installed)' : '';

/** Its report of a tracefile, into a folder. */
function genhtml(file: string, page: string, ...options: string[]) {
  const { status, stdout, stderr } = spawnSync(
    'genhtml',
    ['--branch-coverage', ...options, '--output-directory', page, file],
    { encoding: 'utf8' },
  );
  return { status, text: stdout + stderr };
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-coverage-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('prog test --coverage', () => {
  it('names the one branch of ip_sanity that no case takes', async () => {
    const { exit, out } = await test('--coverage');
    expect(exit).toBe(0);
    expect(out).toContain('5 passed');
    const missed = out.split('\n').filter((line) => line.includes('! '));
    expect(missed).toEqual([
      expect.stringContaining('never goes to line 43 `fragment_bytes += data_end - data;`'),
    ]);
    expect(out).toMatch(/ 3 +34 {2}if \(ip->ttl == 0\) \{/);
    expect(out).toMatch(/##### +43 {2}fragment_bytes/);
    expect(out).toContain('lines 11 of 12');
  });

  it('writes a tracefile that names the source where it lies', async () => {
    const file = join(folder, 'cases.info');
    const { exit, out, err } = await test('--coverage-out', file);
    expect(exit).toBe(0);
    expect(out).not.toContain('fragment_bytes');
    expect(err).toBe(`coverage: ${file}\n`);
    const trace = readFileSync(file, 'utf8').split('\n');
    expect(trace).toContain(`SF:${join(root, 'testbeds/programs/ip_sanity.bpf.c')}`);
    // Three of the five are IPv4 packets whose header is whole; one has a TTL of 0.
    expect(trace).toEqual(expect.arrayContaining(['DA:34,3', 'DA:35,1', 'DA:43,0', 'FNDA:5,ip_sanity']));
  });

  it('writes the listing into a file, and keeps it out of JUnit', async () => {
    const file = join(folder, 'coverage.txt');
    expect((await test('--coverage', '--coverage-out', file)).exit).toBe(0);
    expect(readFileSync(file, 'utf8')).toContain('##### ');
    const { out, err } = await test('--coverage-format', 'text', '--format', 'junit');
    expect(out).toMatch(/^<\?xml [^]*<\/testsuites>\n$/);
    expect(err).toContain('##### ');
  });

  it('counts in the interpreter whatever the executor, and says so', async () => {
    const plain = await test('--coverage');
    const { out, err } = await test('--coverage', '--executor', 'wasm');
    const listing = (text: string): string => text.slice(text.indexOf('./ip_sanity'));
    expect(listing(out)).toBe(listing(plain.out));
    expect(err).toContain('the cases run there, not in wasm');
  });

  it('refuses a format that there is not, and the kernel', async () => {
    expect(await test('--coverage-format', 'html')).toMatchObject({
      exit: 2,
      err: expect.stringContaining('text, lcov') as string,
    });
    expect(await test('--coverage', '--executor', 'kernel')).toMatchObject({ exit: 2 });
  });

  it('leaves programs without line info out of lcov, and says which', async () => {
    const object = join(folder, 'bare.s');
    const cases = join(folder, 'bare.cases.yaml');
    writeFileSync(object, '.program bare\n  r0 = 2\n  exit\n');
    writeFileSync(cases, "cases: [{ name: one, packet: { hex: '00' }, expect: { verdict: XDP_PASS } }]\n");
    const file = join(folder, 'bare.info');
    const { exit, err } = await runForTest(['prog', 'test', object, cases, '--coverage-out', file]);
    expect(exit).toBe(0);
    expect(err).toContain('program bare has no line info');
    expect(err).toContain(`coverage: ${file}, which is empty: genhtml refuses it\n`);
    expect(readFileSync(file, 'utf8')).toBe('');
  });

  it('names a source as the compiler did where it is not there, and says what genhtml makes of that', async () => {
    const object = join(folder, 'ip_sanity.o');
    copyFileSync(join(root, 'testbeds/programs/ip_sanity.o'), object);
    const file = join(folder, 'elsewhere.info');
    const { exit, err } = await test('--object', object, '--coverage-out', file);
    expect(exit).toBe(0);
    expect(err).toContain(`${object}: there is no source ./ip_sanity.bpf.c: genhtml ends there, unless with`);
    expect(readFileSync(file, 'utf8')).toContain('SF:./ip_sanity.bpf.c\n');
    if (noGenhtml) return;
    const page = join(folder, 'elsewhere');
    expect(genhtml(file, page).status).not.toBe(0);
    expect(genhtml(file, page, '--ignore-errors', 'source').status).toBe(0);
  });
});

describe.skipIf(noGenhtml)(`a tracefile in genhtml${skipped}`, () => {
  it('counts as the listing does, line by line, and nothing is wrong with it', async () => {
    const [file, page] = [join(folder, 'genhtml.info'), join(folder, 'genhtml')];
    await test('--coverage-out', file);
    const { status, text } = genhtml(file, page);
    expect(text).not.toMatch(/warning|error/i);
    expect(status).toBe(0);
    // As above: all that was not taken is the way to line 43, and that line.
    expect(text).toMatch(/lines\.+: .*\(11 of 12 lines\)/);
    expect(text).toMatch(/functions\.+: .*\(1 of 1 functions?\)/);
    expect(text).toMatch(/branches\.+: .*\(9 of 10 branches\)/);
    const folders = readdirSync(page, { recursive: true, encoding: 'utf8' });
    const source = folders.find((name) => name.endsWith('ip_sanity.bpf.c.gcov.html'))!;
    const lines = readFileSync(join(page, source), 'utf8').split('\n');
    // Its source is the text that the counts are of.
    const missed = lines.find((line) => line.includes('fragment_bytes += data_end - data;'));
    expect(missed).toMatch(/43 .*\b0 : /);
    expect(lines.find((line) => line.includes('if (ip-&gt;ttl == 0) {'))).toMatch(/34 .*\b3 : /);
  });

  it('takes the records of several objects that share a header', async () => {
    const [file, page] = [join(folder, 'several.info'), join(folder, 'several')];
    const cases = join(root, 'testbeds/cases');
    const { exit } = await runForTest(['prog', 'test', cases, '--coverage-out', file]);
    expect(exit).toBe(0);
    const sources = readFileSync(file, 'utf8').match(/^SF:.*parse\.h$/gm)!;
    expect(sources.length).toBeGreaterThan(1);
    const { status, text } = genhtml(file, page);
    expect(text).not.toMatch(/warning|error/i);
    expect(status).toBe(0);
  });
});
