import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

const root = new URL('../../', import.meta.url).pathname;
const PAGE = 'docs/tutorial.md';
const page = readFileSync(join(root, PAGE), 'utf8');

interface Fence {
  readonly language: string;
  /** What follows the language: of a quoted file its path. */
  readonly name: string;
  readonly text: string;
}

function fencesOf(markdown: string): Fence[] {
  return [...markdown.matchAll(/^```(\S*)(?: (\S+))?\n([^]*?)^```$/gm)].map(([, language, name, text]) => ({
    language: language!,
    name: name ?? '',
    text: text!,
  }));
}

interface Step {
  readonly command: string;
  readonly output: string;
}

/** Commands of a console block (`$ …`), each with the lines below it. */
function stepsOf(text: string): Step[] {
  if (!text.startsWith('$ ')) throw new RangeError(`begins with no command: ${text}`);
  return text
    .slice(2)
    .split(/^\$ /m)
    .map((step) => {
      const end = step.indexOf('\n');
      return { command: step.slice(0, end), output: step.slice(end + 1) };
    });
}

const render = (steps: readonly Step[]): string =>
  steps.map(({ command, output }) => `$ ${command}\n${output}`).join('');

/** How long something took differs from run to run. */
const masked = (text: string): string => text.replace(/\b\d+(?:\.\d+)? m?s\b/g, '# ms');

/** Of the built command: `npm test` builds first. */
const SHELL = `
npx() {
  [ "$1" = xdpbed ] || { echo "this page runs nothing but npx xdpbed: $*" >&2; return 127; }
  shift
  "$NODE" "$MAIN" "$@"
}
status=0
step() { printf '\\0%d\\0' "$status"; }
`;

let folder: string;

/** Runs the commands in one shell, as somebody would who types them; what they say on stdout. Throws if one fails unseen. */
function carryOut(commands: readonly string[]): Step[] {
  const script = commands.map((command) => `(exit $status)\n${command}\nstatus=$?\nstep\n`).join('');
  const { stdout, stderr } = spawnSync('bash', ['-c', SHELL + script], {
    cwd: folder,
    encoding: 'utf8',
    env: {
      ...process.env,
      // Widths and colours are those of a pipe, whatever the tests run in.
      COLUMNS: undefined,
      FORCE_COLOR: undefined,
      NO_COLOR: '1',
      LC_ALL: 'C',
      XDPBED_STATE: join(folder, 'state'),
      NODE: process.execPath,
      MAIN: join(root, 'dist/src/cli/main.js'),
    },
  });
  const parts = stdout.split('\0');
  return commands.map((command, index) => {
    const [output, status] = [parts[2 * index], parts[2 * index + 1]];
    // A command that is to fail is followed by one that shows how it ended.
    if (status !== '0' && commands[index + 1] !== 'echo $?')
      throw new Error(`${command} ended with ${status}:\n${output}${stderr}`);
    return { command, output: output! };
  });
}

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'xdpbed-tutorial-'));
  for (const name of ['blocklist.testbed.yaml', 'cases', 'programs'])
    cpSync(join(root, 'testbeds', name), join(folder, 'testbeds', name), { recursive: true });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe(PAGE, () => {
  const fences = fencesOf(page);
  const consoles = fences.filter(({ language }) => language === 'console');
  const quoted = fences.filter(({ name }) => name.includes('/'));

  it('has commands, quotes files and has a test in TypeScript, and nothing that is not looked at', () => {
    expect(consoles.length).toBeGreaterThan(5);
    expect(quoted.length).toBeGreaterThan(5);
    // third-party/third-party.test.ts type-checks and runs those that have the name of a test.
    const tests = fences.filter(({ language, name }) => language === 'ts' && /^[\w-]+\.test\.ts$/.test(name));
    expect(tests.length).toBeGreaterThan(0);
    // What needs root, clang or the network.
    const unlooked = fences.filter(({ language }) => language === 'sh');
    expect(consoles.length + quoted.length + tests.length + unlooked.length).toBe(fences.length);
  });

  it.each(quoted)('quotes $name as it is', ({ name, text }) => {
    const file = execFileSync('git', ['ls-files', '--error-unmatch', name], { cwd: root, encoding: 'utf8' });
    // Whole lines.
    expect(`\n${readFileSync(join(root, file.trimEnd()), 'utf8')}`).toContain(`\n${text}`);
  });

  if (process.env['UPDATE_DOCS'] === '1') {
    it('is written anew', () => {
      let written = page;
      for (const { text } of consoles) {
        const steps = carryOut(stepsOf(text).map(({ command }) => command));
        written = written.replace(text, () => render(steps));
      }
      writeFileSync(join(root, PAGE), written);
    }, 300_000);
    return;
  }

  it.each(consoles.map(({ text }) => stepsOf(text)).map((steps) => [steps[0]!.command, steps] as const))(
    'shows what becomes of %s',
    (_, steps) => {
      const real = carryOut(steps.map(({ command }) => command));
      expect(masked(render(real))).toBe(masked(render(steps)));
    },
  );
});
