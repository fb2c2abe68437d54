import 'reflect-metadata';
import { parseArgs } from 'node:util';
import { AbstractVerifier } from '../../plugins/verifier-abstract/abstract-verifier.js';
import { DEFAULT_CONFIG } from '../../plugins/verifier-abstract/config.js';
import type { Verification, Verifier } from '../../src/core/contract/verifier.js';
import { messageOf } from '../../src/core/diagnostic.js';
import { openKernelVerifier } from './kernel-oracle.js';
import { markdownTable } from './markdown-table.js';
import { verifierCases, type VerifierCase } from './verifier-case.js';

/**
 * `npm run bench:verifier`: what verifying real programs takes in `abstract`, beside what the kernel says its own
 * verifier took. The programs take turns, round after round, so that a slow spell of a shared machine hits all of
 * them; times are of a process that is warm: the median over the rounds, and the least, which is what goals are held
 * against. Kernel times are medians of the same rounds, so ratios are fair.
 */

const USAGE = `bench:verifier [options]: how long verifying real programs takes

  --rounds N      rounds that are measured (21)
  --warm-up N     rounds before (10)
  --only TEXT     programs with TEXT in their name
  --check         exit code 1 if a goal is missed or a verdict is not the kernel's
`;

/** What is aimed at on a machine that has a core to spare. */
const GOALS = [
  { name: 'xdp1', milliseconds: 3 },
  { name: 'nat', milliseconds: 1500 },
] as const;
const GOAL_MEBIBYTES = 512;
/** A program that takes longer takes part in fewer rounds. */
const SLOW_MILLISECONDS = 100;
const SLOW_ROUNDS = 5;

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
      rounds: { type: 'string', default: '21' },
      'warm-up': { type: 'string', default: '10' },
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
  const measurements = verifierCases()
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
      if (slow && each.abstractTimes.length >= (round < 0 ? 2 : SLOW_ROUNDS)) continue;
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
  const header = ['program', 'slots', 'abstract', 'ms', 'least', 'processed insns', 'peak states'];
  if (withKernel) header.push('kernel', 'ms', 'processed insns', 'peak states', 'ms ÷ ms', 'insns ÷ insns');
  return markdownTable(
    header,
    measurements.map((each) => {
      const { abstract, kernel, milliseconds, leastMilliseconds, kernelMilliseconds } = each;
      const cells = [
        each.test.name,
        String(sizeOf(each)),
        ...cellsOf(abstract, milliseconds, leastMilliseconds),
      ];
      if (kernel !== undefined) {
        const [ours, theirs] = [abstract.statistics.processedInsns, kernel.statistics.processedInsns];
        cells.push(...cellsOf(kernel, kernelMilliseconds));
        cells.push((milliseconds / kernelMilliseconds).toFixed(1), (ours / theirs).toFixed(2));
      }
      return cells;
    }),
  );
}

function cellsOf(verification: Verification, ...milliseconds: number[]): string[] {
  const { processedInsns, peakStates } = verification.statistics;
  return [
    verification.accepted ? 'accepts' : verification.code,
    ...milliseconds.map((value) => value.toFixed(value < 10 ? 2 : 0)),
    String(processedInsns),
    String(peakStates),
  ];
}

function problemsOf(measurements: readonly Measurement[]): string[] {
  const problems: string[] = [];
  for (const { test, leastMilliseconds, mebibytes, abstract, kernel } of measurements) {
    const goal = GOALS.find(({ name }) => name === test.name);
    if (goal !== undefined) {
      const missed = leastMilliseconds > goal.milliseconds;
      const text = `${test.name}: ${leastMilliseconds.toFixed(2)} ms at least, goal ${goal.milliseconds} ms`;
      if (missed) problems.push(`MISSED ${text}`);
      else console.log(`met    ${text}`);
    }
    if (mebibytes > 0) {
      const text = `${test.name}: ${mebibytes.toFixed(0)} MiB more resident memory, goal ${GOAL_MEBIBYTES} MiB`;
      if (mebibytes > GOAL_MEBIBYTES) problems.push(`MISSED ${text}`);
      else console.log(`met    ${text}`);
    }
    if (kernel !== undefined && kernel.accepted !== abstract.accepted) {
      const reason = abstract.accepted ? '' : `: ${abstract.reason} (insn ${abstract.insn ?? '–'})`;
      problems.push(`DIFFER ${test.name}: abstract ${abstract.accepted ? 'accepts' : 'rejects'}${reason}`);
    }
  }
  return problems;
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
