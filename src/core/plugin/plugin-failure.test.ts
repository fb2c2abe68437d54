import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'xdpbed-plugin-failure-'));
afterAll(() => rmSync(folder, { recursive: true }));
/** The built command: in this process, a loader of the test runner's would import plugins. */
const main = new URL('../../../dist/src/cli/main.js', import.meta.url).pathname;
const xdp1 = new URL('../../../testbeds/programs/xdp1.o', import.meta.url).pathname;

let number = 0;

/** Writes a file of a plugin into a folder of its own; gives its path. */
function file(name: string, text: string, within = `case${++number}`): string {
  const path = join(folder, within, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

/** A plugin whose token is bound as `xdpbed` binds it, and whose instance has these members. */
function source(role: string, members: string, more = ''): string {
  return `export default {
  name: 'mine', version: '1.0.0', role: '${role}', api: '^2', description: 'made for a test',
  configSchema: { type: 'object', properties: {}, additionalProperties: false },
  register(scope) { scope.bindValue(Symbol.for('xdpbed.${role}'), instance); },${more}
};
const boom = () => { throw new Error('boom'); };
const instance = { name: 'mine', rule: () => ({ ruling: 'allow', reason: 'a test' }), *frames() {},
  ${members} };
`;
}

const small = (section: string): string => `version: 1
name: small
programs: { count: { object: ${xdp1} } }
host:
  case: bridge
  nics: { eth0: { mac: 52:54:00:00:00:01 } }
  taps: { tap0: {} }
  bridges: { br0: { ports: [eth0, tap0] } }
guests: { g0: { nics: { eth0: { tap: tap0, mac: 52:54:00:00:00:02, program: count, placement: host } } } }
${section}
`;

interface Outcome {
  readonly exit: number | null;
  readonly err: string;
}

function run(testbed: string): Outcome {
  const { status, stderr } = spawnSync(process.execPath, [main, 'run', testbed], { encoding: 'utf8' });
  return { exit: status, err: stderr };
}

const runWith = (section: string): Outcome => run(file('small.testbed.yaml', small(section)));

const policy = (path: string): string => `policies: [{ use: ${path} }]`;
const workload = (path: string): string => `workload: { use: ${path} }`;

describe('a plugin that cannot be imported', () => {
  it.each([
    ['has a syntax error', 'const a = 1;\nexport default {\n  x: 1,,\n};\n', 3, 8, "Unexpected token ','"],
    [
      'imports what a module does not export',
      "import { readFile } from 'node:fs';\nimport { nope } from 'node:fs';\n",
      2,
      10,
      "does not provide an export named 'nope'",
    ],
    ['imports a module that is not there', "\nimport x from './gone.mjs';\n", 2, 15, 'Cannot find module'],
    [
      'imports a package that is not there',
      "import x from 'no-such-package/part';\n",
      1,
      15,
      "Cannot find package 'no-such-package'",
    ],
    ['throws', 'export const y = 1;\n  null.x;\n', 2, 8, 'Cannot read properties of null'],
  ])('%s', (_, text, line, col, message) => {
    const path = file('mine.mjs', text);
    const { exit, err } = runWith(policy(path));
    expect(exit).toBe(2);
    expect(err).toContain(`failed to load: ${path}:${line}:${col}: `);
    expect(err).toContain(message);
  });

  it('names the file that has the syntax error, where that is another', () => {
    const other = file('part.mjs', 'export const a = ;\n', 'parts');
    const path = file('mine.mjs', "import { a } from './part.mjs';\nexport default a;\n", 'parts');
    expect(runWith(policy(path)).err).toContain(`failed to load: ${other}:1:18: Unexpected token ';'`);
  });
});

describe('a plugin that throws', () => {
  it.each([
    ['probe', 'policy', 'probe() { boom(); },', 'probe'],
    ['start', 'policy', 'async start() { await null; boom(); },', 'start'],
    ['frames', 'workload', '*frames() { boom(); },', 'frames'],
  ])('in %s is named with the place in its code', (_, role, members, phase) => {
    const path = file('mine.mjs', source(role, members));
    const { exit, err } = runWith((role === 'policy' ? policy : workload)(path));
    expect(exit).toBe(5);
    // Where boom is.
    expect(err).toContain(`${path}:6:28: plugin ${role} mine failed in ${phase}: boom [plugin-failed]`);
  });

  it('while it registers', () => {
    const path = file('mine.mjs', source('policy', '').replace('scope.bindValue(', 'boom('));
    expect(runWith(policy(path)).err).toContain(`${path}:6:28: plugin policy mine failed in register: boom`);
  });

  it('when it is asked about its config', () => {
    const path = file('mine.mjs', source('policy', '', ' checkTestbed() { boom(); },'));
    const { exit, err } = runWith(policy(path));
    expect(exit).toBe(2);
    expect(err).toMatch(/small\.testbed\.yaml:\d+:\d+: /);
    expect(err).toContain(`${path}:6:28: plugin policy mine failed in checkTestbed: boom`);
  });

  it('in what it depends on, by its own line', () => {
    file(
      'index.mjs',
      'export const fail = () => {\n  throw new Error("deep"); };\n',
      'dependent/node_modules/dependency',
    );
    const path = file(
      'mine.mjs',
      `import { fail } from './node_modules/dependency/index.mjs';\n${source('policy', 'start() { fail(); },')}`,
      'dependent',
    );
    expect(runWith(policy(path)).err).toContain(`${path}:9:13: plugin policy mine failed in start: deep`);
  });

  it('in a package, of which all files count as its own', () => {
    const name = 'xdpbed-plugin-policy-torn';
    const within = `packages/node_modules/${name}`;
    file(
      'package.json',
      JSON.stringify({ name, version: '1.0.0', type: 'module', exports: './dist/index.js' }),
      within,
    );
    const part = file('lib/part.js', 'export const fail = () => {\n  throw new Error("torn"); };\n', within);
    file(
      'dist/index.js',
      `import { fail } from '../lib/part.js';\n${source('policy', 'start() { fail(); },')}`,
      within,
    );
    const testbed = file('small.testbed.yaml', small('policies: [{ use: torn }]'), 'packages');
    expect(run(testbed).err).toContain(`${part}:2:9: plugin policy mine failed in start: torn`);
  });
});

describe('a probe of wrong shape', () => {
  it.each([
    ['probe() {},', 'undefined'],
    ['probe() { return true; },', 'true'],
    ['probe() { return { ok: true }; },', '{ ok: true }'],
    ["probe() { return { status: 'unsupported' }; },", "{ status: 'unsupported' }"],
    ["async probe() { return { status: 'fine', reason: 'x' }; },", "{ status: 'fine', reason: 'x' }"],
  ])('%s', (members, given) => {
    const { exit, err } = runWith(policy(file('mine.mjs', source('policy', members))));
    expect(exit).toBe(5);
    expect(err).toContain(`plugin policy mine: its probe() gave ${given} [plugin-invalid]`);
    expect(err).toContain(
      "hint: { status: 'supported' }, { status: 'unsupported', reason: '…', remedy?: '…' }",
    );
  });

  it.each(["{ status: 'supported' }", "{ status: 'inconclusive', reason: 'only a run shows it' }"])(
    '%s is none',
    (result) => {
      const { exit } = runWith(policy(file('mine.mjs', source('policy', `probe() { return ${result}; },`))));
      expect(exit).toBe(0);
    },
  );
});
