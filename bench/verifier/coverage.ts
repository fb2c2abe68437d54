import 'reflect-metadata';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { messageOf } from '../../src/core/diagnostic.js';
import { type Arm, COUNTERS, instrument } from './branch-points.js';
import type * as CoveragePrograms from './coverage-programs.js';
import { markdownTable } from './markdown-table.js';
import { soundnessFiles } from './verifier-sources.js';

const USAGE = `coverage:verifier [options]: which branches of the verifier \`abstract\` generated programs take

The programs are those of \`fuzz:verifier\` and of its \`--containment\`. A branch is one way of an if, ?:, switch, loop, or of
&&, || and ??, in the files on which verdicts depend; branches that only choose words are left out. The report is Markdown
on stdout: a count for each file, and each branch that no program took.

  --programs N   how many (4000)
  --seed N       seed of the first; the others follow (1)
  --least N      exit code 1 if less than N percent are taken (0)
`;

/** A built copy of this package in which the verifier counts its branches. */
function instrumentedCopy(): { readonly folder: string; readonly arms: readonly Arm[] } {
  const folder = mkdtempSync(join(tmpdir(), 'xdpbed-coverage-'));
  cpSync('dist', join(folder, 'dist'), { recursive: true });
  cpSync('package.json', join(folder, 'package.json'));
  symlinkSync(join(process.cwd(), 'node_modules'), join(folder, 'node_modules'));
  const arms: Arm[] = [];
  for (const file of soundnessFiles()) {
    const counted = instrument(file, readFileSync(file, 'utf8'), arms.length);
    writeFileSync(join(folder, 'dist', file.replace(/\.ts$/, '.js')), counted.javaScript);
    arms.push(...counted.arms);
  }
  return { folder, arms };
}

/** A branch and how often it was taken. */
interface Branch {
  readonly file: string;
  readonly line: number;
  readonly text: string;
  readonly taken: number;
}

function branchesOf(arms: readonly Arm[], counts: ArrayLike<number>): Branch[] {
  const names: Record<Arm['way'], string> = {
    then: '',
    else: ' is false',
    case: 'case ',
    body: 'a round of ',
    whole: ' is decided by the first operand',
    right: ' is decided by the second operand',
  };
  return arms.map(({ file, line, way, text }, index) => {
    const isPrefix = way === 'case' || way === 'body';
    return {
      file: basename(file),
      line,
      text: isPrefix ? names[way] + `\`${text}\`` : `\`${text}\`${names[way]}`,
      // The counter of its second operand is the next one.
      taken: way === 'whole' ? counts[index]! - counts[index + 1]! : counts[index]!,
    };
  });
}

function reportOf(branches: readonly Branch[]): string {
  const files = [...new Set(branches.map(({ file }) => file))];
  const rows = files.map((file) => {
    const own = branches.filter((branch) => branch.file === file);
    const taken = own.filter((branch) => branch.taken > 0).length;
    return [file, String(own.length), String(taken), percent(taken, own.length)];
  });
  const taken = branches.filter((branch) => branch.taken > 0).length;
  rows.push(['all', String(branches.length), String(taken), percent(taken, branches.length)]);
  const missed = branches
    .filter((branch) => branch.taken === 0)
    .map(({ file, line, text }) => `- ${file}:${line} ${text}`);
  return [markdownTable(['file', 'branches', 'taken', '%'], rows), '', ...missed].join('\n');
}

function percent(part: number, whole: number): string {
  return whole === 0 ? '–' : ((100 * part) / whole).toFixed(1);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      programs: { type: 'string', default: '4000' },
      seed: { type: 'string', default: '1' },
      least: { type: 'string', default: '0' },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [programs, seed, least] = [Number(values.programs), Number(values.seed), Number(values.least)];
  if (!(programs > 0) || !(seed >= 0) || !(least >= 0)) throw new RangeError('options are numbers');
  const { folder, arms } = instrumentedCopy();
  try {
    const counts = new Float64Array(arms.length);
    (globalThis as unknown as Record<string, unknown>)[COUNTERS] = counts;
    const entry = pathToFileURL(join(folder, 'dist/bench/verifier/coverage-programs.js')).href;
    const { verifyPrograms } = (await import(entry)) as typeof CoveragePrograms;
    await verifyPrograms(seed, programs);
    const branches = branchesOf(arms, counts);
    console.log(reportOf(branches));
    const taken = branches.filter((branch) => branch.taken > 0).length;
    return (100 * taken) / branches.length < least ? 1 : 0;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 2;
}
