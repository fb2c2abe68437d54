import { EXIT, type ExitCode, XdpbedError } from '../../core/diagnostic.js';
import { loadObjectProgram } from '../../core/offload/load-program.js';
import type { CliContext } from '../cli-context.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from './render-verification.js';
import { readFrames } from '../../core/program-test/capture-input.js';
import { readMapFile } from './map-file.js';
import { wholeNumber } from './whole-number.js';
import { Workbench } from '../../core/program-test/workbench.js';

interface BenchOptions extends ProgramOptions {
  readonly pcap: string;
  readonly executor: string;
  readonly verifier: string;
  readonly maps?: string;
  readonly rounds: string;
  readonly batch: string;
}

/** Milliseconds one measurement of one executor lasts. */
const SLICE_MS = 60;

/**
 * `xdpbed prog bench`: nanoseconds a packet, executors side by side. Rounds are interleaved, so that a machine
 * that slows down slows all of them down; the ratio is what can be trusted.
 */
export async function benchProgram(
  context: CliContext,
  path: string,
  options: BenchOptions,
): Promise<ExitCode> {
  const { object, spec } = await openProgram(path, options);
  const packets = await readFrames(options.pcap);
  if (packets.length === 0) throw new XdpbedError('usage', `${options.pcap} holds no packets`);
  const rounds = wholeNumber('--rounds', options.rounds);
  const batch = wholeNumber('--batch', options.batch);
  const initial = options.maps === undefined ? undefined : await readMapFile(options.maps, object.maps);
  const benches: {
    name: string;
    workbench: Workbench;
    measure: (milliseconds: number) => number;
    samples: number[];
  }[] = [];
  try {
    for (const name of options.executor.split(',')) {
      const workbench = await Workbench.open(context.registry, {
        executor: name,
        verifiers: options.verifier.split(','),
      });
      const bench = { name, workbench, measure: (_: number) => 0, samples: [] as number[] };
      benches.push(bench);
      const loaded = await loadObjectProgram(workbench.party, object, spec, {
        world: { trace: () => undefined },
        initial,
      });
      if (!loaded.accepted) {
        context.terminal.err(renderVerification(loaded.programName, loaded, { complexity: false }));
        return EXIT.CHECK_FAILED;
      }
      const longest = Math.max(...packets.map(({ data }) => data.length));
      const ring = loaded.loaded.openFrames(Math.max(batch * 4, 64), longest);
      bench.measure = (milliseconds) => {
        let [runs, spent] = [0, 0];
        while (spent < milliseconds) {
          // A program may change its packets, so each batch starts from fresh ones; that is not timed.
          for (let i = 0; i < batch; i++)
            ring.load(i, packets[i % packets.length]!.data, { ingressIfindex: 1 });
          const started = performance.now();
          loaded.loaded.runBatch(ring, 0, batch);
          spent += performance.now() - started;
          runs += batch;
        }
        return (spent * 1e6) / runs;
      };
      bench.measure(4 * SLICE_MS);
    }
    for (let round = 0; round < rounds; round++) {
      for (const bench of benches) bench.samples.push(bench.measure(SLICE_MS));
    }
  } finally {
    for (const { workbench } of benches) await workbench.close();
  }
  const first = median(benches[0]!.samples);
  for (const { name, samples } of benches) {
    const ns = median(samples);
    context.terminal.out(
      `${name.padEnd(14)} ${ns.toFixed(1).padStart(9)} ns a packet   ${(ns / first).toFixed(3)} of ${benches[0]!.name}\n`,
    );
  }
  return EXIT.OK;
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
