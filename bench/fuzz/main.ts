import { parseArgs } from 'node:util';
import { messageOf } from '../../src/core/diagnostic.js';
import { fuzzEngines, newStatistics, type Finding } from './engine-fuzz.js';

const USAGE = `fuzz:engine [options]: random valid programs in several executors, which must agree on every bit

  --programs N      how many programs (10000)
  --seed N          seed of the first; the others follow (1)
  --frames N        frames for each program (3)
  --statements N    statements of a main program at most (40)
  --executors A,B   interpreter, wasm, wasm-linked, wasm-checked (interpreter,wasm)
  --kernel          the interpreter against BPF_PROG_TEST_RUN instead; needs root
  --stop-after N    findings to stop after (10)
  --verbose         why the kernel rejected programs
`;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      programs: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      frames: { type: 'string', default: '3' },
      statements: { type: 'string', default: '40' },
      executors: { type: 'string', default: 'interpreter,wasm' },
      kernel: { type: 'boolean', default: false },
      'stop-after': { type: 'string', default: '10' },
      verbose: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const number = (name: 'programs' | 'seed' | 'frames' | 'statements' | 'stop-after'): number => {
    const value = Number(values[name]);
    if (!Number.isSafeInteger(value) || value < 0)
      throw new RangeError(`--${name} ${values[name]} is not a number`);
    return value;
  };
  const options = {
    frames: number('frames'),
    statements: number('statements'),
    executors: values.executors.split(','),
  };
  const [first, count, stopAfter] = [number('seed'), number('programs'), number('stop-after')];
  const statistics = newStatistics();
  const findings: Finding[] = [];
  const fuzz = values.kernel ? await kernelFuzzer() : fuzzEngines;
  const start = performance.now();
  for (let seed = first; seed < first + count && findings.length < stopAfter; seed++) {
    const finding = await fuzz(seed, options, statistics);
    if (finding !== undefined) {
      findings.push(finding);
      console.error(`seed ${seed}: ${finding.summary}`);
    }
    showProgress(seed - first + 1, count);
  }
  const seconds = (performance.now() - start) / 1000;
  const skipped = [...statistics.skipped.values()].reduce((sum, n) => sum + n, 0);
  const against = values.kernel ? 'interpreter against kernel' : options.executors.join(' against ');
  console.log(
    `${against}: ${statistics.programs} programs from seed ${first} (${statistics.slots} slots), ${statistics.runs} runs in ${seconds.toFixed(1)} s: ${findings.length} differences` +
      (values.kernel ? `, ${skipped} programs rejected by the kernel` : ''),
  );
  if (values.verbose) {
    for (const [reason, n] of [...statistics.skipped].sort((a, b) => b[1] - a[1]))
      console.log(`${n} × ${reason}`);
  }
  for (const { seed, report } of findings) console.log(`\n--- seed ${seed}\n${report}`);
  return findings.length === 0 ? 0 : 1;
}

/** Loaded only where it is asked for: it needs the native bindings. */
async function kernelFuzzer(): Promise<typeof fuzzEngines> {
  const { fuzzKernel } = await import('./kernel-fuzz.js');
  const { pinToFirstCpu } = await import('../../src/linux/testing-kernel-case.js');
  pinToFirstCpu();
  return fuzzKernel;
}

function showProgress(done: number, count: number): void {
  const step = process.stderr.isTTY ? 100 : 10_000;
  if (done % step !== 0) return;
  process.stderr.write(process.stderr.isTTY ? `\r${done} of ${count}` : `${done} of ${count}\n`);
  if (process.stderr.isTTY && done === count) process.stderr.write('\n');
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(messageOf(error));
  process.exitCode = 2;
}
