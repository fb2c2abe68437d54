import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../plugins/verifier-abstract/config.js';
import type { Verification, Verifier } from '../../src/core/contract/verifier.js';
import { messageOf } from '../../src/core/diagnostic.js';
import { openKernelVerifier } from './kernel-oracle.js';
import { markdownTable } from './markdown-table.js';
import { severalTimes, verifierCases, type VerifierCase } from './verifier-case.js';

/**
 * `npm run bench:verifier`: what verifying real programs takes in `abstract`, beside what the kernel says its own
 * verifier took. The programs take turns, round after round, so that a slow spell of a shared machine hits all of
 * them; times are of a process that is warm: the median over the rounds, and the least, which is what goals are held
 * against. Kernel times are medians of the same rounds, so ratios are fair. docs/performance.md explains the columns.
 */

const USAGE = `bench:verifier [options]: how long verifying real programs takes

  --rounds N      rounds that are measured (9)
  --warm-up N     rounds before (4)
  --only TEXT     programs with TEXT in their name
  --check         exit code 1 if a goal is missed or a verdict is not the kernel's
`;

/** What is aimed at on a machine that has a core to spare. */
const GOALS = {
  /** Insns, divided by the kernel's; of programs so short that a dozen insns make the difference, nothing is demanded. */
  insnsRatio: 1.2,
  insnsOfShort: 100,
  /** Microseconds for an insn, of programs that take long enough for what comes once not to matter. */
  microseconds: 4,
  insnsOfLong: 1000,
  /** More resident memory for the largest program, which takes more than 250 000 insns. */
  mebibytes: 150,
} as const;
/** A program that takes longer takes part in fewer rounds. */
const SLOW_MILLISECONDS = 100;
const SLOW_ROUNDS = 3;

class Measurement {
  readonly abstractTimes: number[] = [];
  readonly kernelTimes: number[] = [];
  abstract!: Verification;
  kernel: Verification | undefined;
  /** Growth of the resident set over the first verification, which meets a heap that has not grown for it yet. */
  mebibytes = 0;

  constructor(readonly test: VerifierCase) {}

  get milliseconds(): number {
    return median(this.abstractTimes);
  }

  /** What it takes when nothing comes in between: others on the machine only make it slower. */
  get leastMilliseconds(): number {
    return Math.min(...this.abstractTimes);
  }

  get kernelMilliseconds(): number {
    return median(this.kernelTimes);
  }

  /** As the kernel counts them: those at which a path was pruned as well. */
  get insns(): number {
    const { processedInsns, prunedPaths = 0 } = this.abstract.statistics;
    return processedInsns + prunedPaths;
  }

  /** NaN without a kernel. */
  get insnsRatio(): number {
    return this.insns / (this.kernel?.statistics.processedInsns ?? NaN);
  }

  async round(abstract: Verifier, kernel: Verifier | undefined): Promise<void> {
    const start = performance.now();
    this.abstract = await abstract.verify(this.test.request);
    this.abstractTimes.push(performance.now() - start);
    if (kernel === undefined) return;
    this.kernel = await kernel.verify(this.test.request);
    this.kernelTimes.push(this.kernel.statistics.milliseconds ?? NaN);
  }

  forgetTimes(): void {
    this.abstractTimes.length = 0;
    this.kernelTimes.length = 0;
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '9' },
      'warm-up': { type: 'string', default: '4' },
      only: { type: 'string', default: '' },
      check: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const [rounds, warmUp] = [Number(values.rounds), Number(values['warm-up'])];
  if (!(rounds > 0) || !(warmUp >= 0)) throw new RangeError('--rounds and --warm-up are numbers');
  const cases = verifierCases();
  const nat = cases.find(({ name }) => name === 'nat')!;
  const measurements = [...cases, severalTimes(nat, 3)]
    .filter(({ name }) => name.includes(values.only))
    .map((test) => new Measurement(test));
  if (measurements.length === 0) throw new RangeError(`no program has ${values.only} in its name`);
  const abstract = new AbstractVerifier(DEFAULT_CONFIG);
  const kernel = await openKernelVerifier(true);
  if (typeof kernel === 'string') console.error(`kernel columns: n/a (${kernel})`);
  const other = typeof kernel === 'string' ? undefined : kernel;

  await measureMemory(measurements, abstract);
  for (let round = -warmUp; round < rounds; round++) {
    if (round === 0) for (const each of measurements) each.forgetTimes();
    for (const each of measurements) {
      const slow = each.milliseconds > SLOW_MILLISECONDS;
      if (slow && each.abstractTimes.length >= (round < 0 ? 1 : SLOW_ROUNDS)) continue;
      await each.round(abstract, other);
    }
  }
  console.log(tableOf(measurements, other !== undefined));
  const problems = problemsOf(measurements);
  for (const problem of problems) console.log(problem);
  return values.check && problems.length > 0 ? 1 : 0;
}

/** The largest program first and alone, in a process whose heap is still small. */
async function measureMemory(measurements: readonly Measurement[], abstract: Verifier): Promise<void> {
  const largest = [...measurements].sort((a, b) => sizeOf(b) - sizeOf(a))[0]!;
  const before = process.memoryUsage().rss;
  let peak = before;
  // The verifier lets the event loop turn now and then.
  let watching = true;
  const watch = (): void => {
    peak = Math.max(peak, process.memoryUsage().rss);
    if (watching) setImmediate(watch);
  };
  watch();
  await largest.round(abstract, undefined);
  watching = false;
  peak = Math.max(peak, process.memoryUsage().rss);
  largest.mebibytes = (peak - before) / 2 ** 20;
}

function sizeOf({ test }: Measurement): number {
  return test.request.program.insns.length;
}

function tableOf(measurements: readonly Measurement[], withKernel: boolean): string {
  const beside = (name: string, divided: string): string[] =>
    withKernel ? [name, 'kernel', divided] : [name];
  const header = ['program', 'slots', 'verdict', ...beside('insns', 'insns ÷ insns')];
  header.push(
    ...(withKernel ? ['states', 'kernel'] : ['states']),
    'least ms',
    ...beside('ms', 'ms ÷ ms'),
    'µs an insn',
  );
  if (withKernel) header.push('kernel');
  return markdownTable(
    header,
    measurements.map((each) => {
      const { test, abstract, kernel, insns, insnsRatio, milliseconds, leastMilliseconds } = each;
      const cells = [test.name, String(sizeOf(each)), verdictOf(abstract, kernel), String(insns)];
      const theirs = kernel?.statistics;
      if (theirs !== undefined) cells.push(String(theirs.processedInsns), insnsRatio.toFixed(2));
      cells.push(String(abstract.statistics.peakStates));
      if (theirs !== undefined) cells.push(String(theirs.peakStates));
      cells.push(inMs(leastMilliseconds), inMs(milliseconds));
      if (theirs !== undefined) {
        cells.push(inMs(each.kernelMilliseconds), (milliseconds / each.kernelMilliseconds).toFixed(1));
      }
      cells.push(perInsn(leastMilliseconds, insns));
      if (theirs !== undefined) cells.push(perInsn(Math.min(...each.kernelTimes), theirs.processedInsns));
      return cells;
    }),
  );
}

function verdictOf(abstract: Verification, kernel: Verification | undefined): string {
  const say = (verification: Verification): string => (verification.accepted ? 'accepts' : verification.code);
  if (kernel === undefined || kernel.accepted === abstract.accepted) return say(abstract);
  return `${say(abstract)}, kernel ${say(kernel)}`;
}

function inMs(milliseconds: number): string {
  return milliseconds.toFixed(milliseconds < 10 ? 2 : 0);
}

/** Microseconds; of short programs they are mostly of what comes once. */
function perInsn(milliseconds: number, insns: number): string {
  return ((1000 * milliseconds) / insns).toFixed(2);
}

function problemsOf(measurements: readonly Measurement[]): string[] {
  const problems: string[] = [];
  const hold = (text: string, goal: number, worst: readonly [string, number] | undefined): void => {
    if (worst === undefined) return;
    const line = `${text}: ${worst[1].toFixed(2)} at most, of ${worst[0]}, goal ${goal}`;
    if (worst[1] > goal) problems.push(`MISSED ${line}`);
    else console.log(`met    ${line}`);
  };
  const ratios = measurements.filter(({ insns }) => insns >= GOALS.insnsOfShort);
  hold(
    'insns ÷ insns',
    GOALS.insnsRatio,
    most(ratios, ({ insnsRatio }) => insnsRatio),
  );
  const long = measurements.filter(({ insns }) => insns >= GOALS.insnsOfLong);
  hold(
    'µs an insn',
    GOALS.microseconds,
    most(long, ({ leastMilliseconds, insns }) => (1000 * leastMilliseconds) / insns),
  );
  const measured = measurements.filter(({ mebibytes }) => mebibytes > 0);
  hold(
    'MiB more resident memory',
    GOALS.mebibytes,
    most(measured, ({ mebibytes }) => mebibytes),
  );
  for (const { test, abstract, kernel } of measurements) {
    if (kernel !== undefined && kernel.accepted !== abstract.accepted) {
      const reason = abstract.accepted ? '' : `: ${abstract.reason} (insn ${abstract.insn ?? '–'})`;
      problems.push(`DIFFER ${test.name}: abstract ${abstract.accepted ? 'accepts' : 'rejects'}${reason}`);
    }
  }
  return problems;
}

/** The program of which the number is largest, undefined if it is known of none. */
function most(
  measurements: readonly Measurement[],
  numberOf: (measurement: Measurement) => number,
): readonly [name: string, number: number] | undefined {
  const numbers = measurements.map((each) => [each.test.name, numberOf(each)] as const);
  return numbers.filter(([, number]) => !Number.isNaN(number)).sort(([, a], [, b]) => b - a)[0];
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 2;
}
