import { EventLoopTurns } from '../../core/clock/event-loop-turns.js';
import { EXIT, type ExitCode, XdpbedError } from '../../core/diagnostic.js';
import { loadObjectProgram, type LoadedObjectProgram } from '../../core/offload/load-program.js';
import type { FrameSlots } from '../../core/contract/executor.js';
import type { CapturedPacket } from '../../packet/index.js';
import type { CliContext } from '../cli-context.js';
import { unlessInterrupted } from '../../core/clock/interrupted.js';
import { Progress } from '../progress.js';
import { openProgram, type ProgramOptions } from './prog-object.js';
import { renderVerification } from '../../core/program-test/render-verification.js';
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
 * that slows down slows all of them down; the ratio is what can be trusted. Interrupted, it prints what the whole
 * rounds before have given.
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
  const initial = options.maps === undefined ? undefined : await readMapFile(options.maps, object);
  const signal = context.interruption();
  const turns = new EventLoopTurns(signal, 'the measurement');
  const progress = new Progress(context.terminal);
  const workbenches: Workbench[] = [];
  const benches: Bench[] = [];
  const samples: number[][] = [];
  let interruption: Error | undefined;
  try {
    for (const name of options.executor.split(',')) {
      const workbench = await Workbench.open(context.registry, {
        executor: name,
        verifiers: options.verifier.split(','),
      });
      workbenches.push(workbench);
      const loading = loadObjectProgram(workbench.party, object, spec, {
        world: { trace: () => undefined },
        initial,
      });
      const loaded = await unlessInterrupted(signal, `program ${spec.name} was verified`, loading);
      if (!loaded.accepted) {
        context.terminal.err(renderVerification(loaded.programName, loaded, { complexity: false }));
        return EXIT.CHECK_FAILED;
      }
      const bench = new Bench(name, loaded, packets, batch, turns);
      benches.push(bench);
      await bench.measure(4 * SLICE_MS);
    }
    for (let round = 0; round < rounds; round++) {
      const times: number[] = [];
      progress.mention(`round ${round + 1} of ${rounds}`);
      for (const bench of benches) times.push(await bench.measure(SLICE_MS));
      samples.push(times);
    }
  } catch (error) {
    if (!signal.aborted || !(error instanceof Error)) throw error;
    interruption = error;
  } finally {
    progress.clear();
    for (const workbench of workbenches) await workbench.close();
  }
  if (samples.length > 0) context.terminal.out(render(benches, samples));
  if (interruption === undefined) return EXIT.OK;
  context.terminal.err(`${samples.length} of ${rounds} rounds were measured\n`);
  throw interruption;
}

/** A program loaded in one executor, and packets for it. */
class Bench {
  readonly #ring: FrameSlots;

  constructor(
    readonly name: string,
    readonly loaded: LoadedObjectProgram,
    readonly packets: readonly CapturedPacket[],
    readonly batch: number,
    readonly turns: EventLoopTurns,
  ) {
    const longest = packets.reduce((most, { data }) => Math.max(most, data.length), 0);
    this.#ring = loaded.loaded.openFrames(Math.max(batch * 4, 64), longest);
  }

  /** Nanoseconds a packet, over so many milliseconds. Gives way to the event loop between batches, where no time counts. */
  async measure(milliseconds: number): Promise<number> {
    const { batch, packets, turns } = this;
    let [runs, spent] = [0, 0];
    while (spent < milliseconds) {
      const turn = turns.next();
      if (turn !== undefined) await turn;
      // A program may change its packets, so each batch starts from fresh ones; that is not timed.
      for (let i = 0; i < batch; i++)
        this.#ring.load(i, packets[i % packets.length]!.data, { ingressIfindex: 1 });
      const started = performance.now();
      this.loaded.loaded.runBatch(this.#ring, 0, batch);
      spent += performance.now() - started;
      runs += batch;
    }
    return (spent * 1e6) / runs;
  }
}

/** @param samples nanoseconds a packet: of each round, for each bench */
function render(benches: readonly Bench[], samples: readonly (readonly number[])[]): string {
  const medians = benches.map((_, index) => median(samples.map((times) => times[index]!)));
  return benches
    .map(({ name }, index) => {
      const ns = medians[index]!;
      return `${name.padEnd(14)} ${ns.toFixed(1).padStart(9)} ns a packet   ${(ns / medians[0]!).toFixed(3)} of ${benches[0]!.name}\n`;
    })
    .join('');
}

function median(samples: readonly number[]): number {
  const sorted = [...samples].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
