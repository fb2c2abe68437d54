import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { SeededRandom } from '../../src/conformance/verifier/seeded-random.js';
import { transpile } from './branch-points.js';
import { type Mutant, mutantsOf } from './mutants.js';
import { soundnessFiles } from './verifier-sources.js';

const USAGE = `mutation [options]: weakens the verifier \`abstract\` at one place at a time, and looks whether a near test notices

A mutant leaves a guard or a call out, or exchanges an operator. A fast probe (twins, containment, shortcuts) looks first, then
the tests near, in a copy of the working tree. The report is Markdown on stdout: the score, and each mutant that nothing
noticed.

  --mutants N   how many, at random (40)
  --seed N      of the choice (1)
  --only FILE   mutants of one file of plugins/verifier-abstract
  --programs N  how many generated programs the probe tries (240)
  --probe-only  no tests
`;

const PLUGIN = 'plugins/verifier-abstract';
/** What is run on a mutant that the probe did not notice: what the probe does not do itself. */
const TESTS = ['pruning.test.ts', 'checkpoint.test.ts', 'abstract-verifier.test.ts', 'hostile-guest.test.ts'];
/** And on one of the arithmetic. */
const SCALAR_TESTS = ['scalar/scalar.test.ts'];
const PROBE_TIMEOUT_MS = 120_000;
const TESTS_TIMEOUT_MS = 240_000;

/** Sources for the tests and their build for the probe, which a mutant may spoil. */
function copyOfTree(): string {
  const folder = mkdtempSync(join(tmpdir(), 'xdpbed-mutation-'));
  for (const name of [
    'src',
    'plugins',
    'bench',
    'testbeds',
    'docs',
    'schemas',
    'dist',
    'package.json',
    'tsconfig.json',
    'vitest.config.ts',
  ]) {
    if (existsSync(name)) cpSync(name, join(folder, name), { recursive: true });
  }
  symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'));
  return folder;
}

/** What the probe says is wrong, or how a near test fails or never ends; undefined if nothing is noticed. */
class Examination {
  constructor(
    readonly folder: string,
    readonly programs: number,
    readonly withTests: boolean,
  ) {}

  /** With a file of other text, which is put back. */
  ofMutant({ file, text }: Mutant): string | undefined {
    const places = [
      { path: join(this.folder, file), text },
      { path: join(this.folder, 'dist', file.replace(/\.ts$/, '.js')), text: transpile(file, text) },
    ].map((place) => ({ ...place, original: readFileSync(place.path, 'utf8') }));
    for (const place of places) writeFileSync(place.path, place.text);
    try {
      return this.#lookAt(file.includes('/scalar/') ? SCALAR_TESTS : TESTS);
    } finally {
      for (const { path, original } of places) writeFileSync(path, original);
    }
  }

  ofTree(): string | undefined {
    return this.#lookAt([...TESTS, ...SCALAR_TESTS]);
  }

  #lookAt(files: readonly string[]): string | undefined {
    const probe = spawnSync('node', ['dist/bench/verifier/mutation-probe.js', '1', String(this.programs)], {
      cwd: this.folder,
      encoding: 'utf8',
      timeout: PROBE_TIMEOUT_MS,
    });
    if (probe.status !== 0) return probe.stdout.trim().split('\n').at(-1) || 'the probe does not end';
    if (!this.withTests) return undefined;
    const tests = files.map((test) => `${PLUGIN}/${test}`);
    const { status } = spawnSync('npx', ['vitest', 'run', ...tests, '--bail', '1', '--maxWorkers=1'], {
      cwd: this.folder,
      stdio: 'ignore',
      timeout: TESTS_TIMEOUT_MS,
    });
    return status === 0 ? undefined : 'a test fails';
  }
}

function main(): number {
  const { values } = parseArgs({
    options: {
      mutants: { type: 'string', default: '40' },
      seed: { type: 'string', default: '1' },
      only: { type: 'string' },
      programs: { type: 'string', default: '240' },
      'probe-only': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const files = soundnessFiles().filter(
    (file) => values.only === undefined || basename(file) === values.only,
  );
  const all = files.flatMap(mutantsOf);
  const random = new SeededRandom(Number(values.seed));
  const chosen: Mutant[] = [];
  while (chosen.length < Number(values.mutants) && all.length > 0) {
    chosen.push(...all.splice(random.below(all.length), 1));
  }
  const folder = copyOfTree();
  const survivors: Mutant[] = [];
  try {
    const examination = new Examination(folder, Number(values.programs), !values['probe-only']);
    const wrong = examination.ofTree();
    if (wrong !== undefined) throw new Error(`without a mutant: ${wrong}`);
    for (const [index, mutant] of chosen.entries()) {
      const noticed = examination.ofMutant(mutant);
      if (noticed === undefined) survivors.push(mutant);
      const what = `${mutant.file}:${mutant.line} ${mutant.from} -> ${mutant.to}`;
      console.error(`${index + 1} of ${chosen.length}: ${noticed ?? 'SURVIVED'} | ${what}`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  const caught = chosen.length - survivors.length;
  console.log(
    `${caught} of ${chosen.length} mutants were noticed, out of ${all.length + chosen.length} there are.`,
  );
  for (const { file, line, from, to } of survivors) {
    console.log(`- \`${basename(file)}:${line}\`: \`${from}\` → \`${to}\``);
  }
  return 0;
}

process.exitCode = main();
