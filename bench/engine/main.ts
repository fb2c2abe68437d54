import 'reflect-metadata';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { WasmExecutor } from '../../plugins/executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type { Executor, LoadedProgram, ProgramWork } from '../../src/core/contract/executor.js';
import { engineCases, type EngineCase } from './engine-case.js';
import { kernelBodyProblem, KernelBody } from './kernel-body.js';

/**
 * `npm run bench:engine`: nanoseconds per packet of each engine and their ratio to what the kernel's JIT takes
 * for the program itself, and what it costs to have its work counted. Medians over rounds in which the engines take turns, so that a slow spell of a shared
 * machine hits all of them. Trust the ratios of one run, not its nanoseconds.
 */

/**
 * Many rounds, each shorter than a time slice: on a busy machine most of them then run undisturbed, and the
 * median is one of those.
 */
const ROUNDS = 101;
const WARM_UP_ROUNDS = 60;
const ROUND_NANOSECONDS = 400_000;
/** As many frames as a NIC's ring would hold, so that they stay in the CPU's cache as the kernel's one frame does. */
const RING_SLOTS = 256;
const BATCH = 64;

/** One way to run a case; `run` does at least `count` packets. */
interface Contender {
  readonly name:
    'kernel' | 'wasm batch' | 'wasm single' | 'interpreter' | `${'batch' | 'single' | 'interpreter'} counted`;
  round(): number;
}

/** Ways to run a case with its work counted, and the same without. */
const COUNTED = [
  ['batch counted', 'wasm batch'],
  ['single counted', 'wasm single'],
  ['interpreter counted', 'interpreter'],
] as const;

interface Row {
  readonly name: string;
  readonly ns: ReadonlyMap<Contender['name'], number>;
  readonly compileMs: number;
}

async function measure(test: EngineCase, kernel: boolean): Promise<Row> {
  const wasm = await Engine.make((runtime) => new WasmExecutor(runtime, { checked: false }), test);
  const interpreter = await Engine.make((runtime) => new InterpreterExecutor(runtime), test);
  const counted = await Engine.make((runtime) => new WasmExecutor(runtime, { checked: false }), test, true);
  const interpreterCounted = await Engine.make((runtime) => new InterpreterExecutor(runtime), test, true);
  const contenders: Contender[] = [
    { name: 'wasm batch', round: () => wasm.batchRound() },
    { name: 'wasm single', round: () => wasm.singleRound() },
    { name: 'interpreter', round: () => interpreter.batchRound() },
    { name: 'batch counted', round: () => counted.batchRound() },
    { name: 'single counted', round: () => counted.singleRound() },
    { name: 'interpreter counted', round: () => interpreterCounted.batchRound() },
  ];
  const body = kernel ? KernelBody.load(test) : undefined;
  if (body !== undefined) contenders.push({ name: 'kernel', round: () => body.round() });
  const rounds = new Map(contenders.map(({ name }) => [name, [] as number[]]));
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const contender of contenders) {
      const ns = contender.round();
      if (round >= 0) rounds.get(contender.name)!.push(ns);
    }
    // V8 compiles in the background and puts its code in place between tasks.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  body?.close();
  const ns = new Map([...rounds].map(([name, values]) => [name, median(values)]));
  return { name: test.name, ns, compileMs: wasm.compileMs };
}

/** An executor with one case loaded and a ring of frames. */
class Engine {
  compileMs = 0;
  #packets: number;
  #singles: number;

  private constructor(
    readonly loaded: LoadedProgram,
    readonly frames: FrameRing,
  ) {
    this.#packets = frames.slots;
    this.#singles = frames.slots;
  }

  static async make(
    makeExecutor: (runtime: BpfRuntime) => Executor,
    test: EngineCase,
    countWork = false,
  ): Promise<Engine> {
    const runtime = new BpfRuntime({ seed: 1n });
    const backend = new MemoryMapBackend(runtime);
    const executor = makeExecutor(runtime);
    const maps = new Map<number, BpfMap>();
    for (const [handle, spec] of test.maps) {
      const map = backend.create(spec, { name: spec.name });
      if (typeof map === 'number') throw new Error(`map ${spec.name}: ${map}`);
      maps.set(handle, map);
    }
    const world = { trace: (): void => undefined };
    const load = (program: EngineCase['program']): Promise<LoadedProgram> =>
      executor.load(program, { maps, world, countWork });
    for (const { handle, index, program } of test.programArrays) {
      maps.get(handle)!.setProgram!(index, (await load(program)).id);
    }
    const times: number[] = [];
    for (let i = 0; i < 15; i++) {
      const start = performance.now();
      const loaded = await load(test.program);
      times.push(performance.now() - start);
      loaded.close();
    }
    const frames = new FrameRing(runtime.space, Math.max(RING_SLOTS, test.flows));
    for (let slot = 0; slot < frames.slots; slot++) frames.load(slot, test.frame(slot % test.flows));
    const engine = new Engine(await load(test.program), frames);
    engine.compileMs = median(times);
    // All keys are in the map before the clock starts.
    if (engine.loaded.runBatch(frames, 0, frames.slots) > 0) {
      throw new Error(`${test.name} faults: ${engine.loaded.lastFault?.reason}`);
    }
    return engine;
  }

  batchRound(): number {
    const { loaded, frames } = this;
    // What the other contenders pushed out of the caches comes back first.
    loaded.runBatch(frames, 0, frames.slots);
    const start = process.hrtime.bigint();
    for (let at = 0; at < this.#packets; at += BATCH) loaded.runBatch(frames, at % frames.slots, BATCH);
    const ns = Number(process.hrtime.bigint() - start) / this.#packets;
    this.#packets = roundFor(ns);
    return ns;
  }

  singleRound(): number {
    const { loaded, frames } = this;
    loaded.runBatch(frames, 0, frames.slots);
    const start = process.hrtime.bigint();
    const mask = frames.slots - 1;
    if (loaded.work === undefined) for (let at = 0; at < this.#singles; at++) loaded.run(frames, at & mask);
    else this.#countedRuns(loaded.work, mask);
    const ns = Number(process.hrtime.bigint() - start) / this.#singles;
    this.#singles = roundFor(ns);
    return ns;
  }

  /** Runs of which each one's work is read, as who charges for it does. */
  #countedRuns(work: ProgramWork, mask: number): void {
    const { loaded, frames } = this;
    const { helpers } = work;
    const start = work.insns;
    let total = 0;
    let before = start + work.bytes;
    for (const helper of helpers) before += work.calls(helper);
    for (let at = 0; at < this.#singles; at++) {
      loaded.run(frames, at & mask);
      let after = work.insns + work.bytes;
      for (const helper of helpers) after += work.calls(helper);
      total += after - before;
      before = after;
    }
    if (total < work.insns - start) throw new Error('the work of runs does not add up');
  }
}

/** Packets for a round of the usual length. */
function roundFor(ns: number): number {
  return Math.max(BATCH, Math.ceil(ROUND_NANOSECONDS / ns / BATCH) * BATCH);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1]!;
}

function cell(value: number | undefined, digits = 1): string {
  return value === undefined || Number.isNaN(value) ? 'n/a' : value.toFixed(digits);
}

function printTable(rows: readonly Row[]): void {
  const header = [
    'program',
    'kernel body',
    'wasm batch',
    '÷ kernel',
    'wasm single',
    'interpreter',
    'compile ms',
    'counted: batch',
    '÷ batch',
    'single',
    '÷ single',
    'interpreter',
    '÷ interpreter',
  ];
  const lines = rows.map(({ name, ns, compileMs }) => {
    const [kernel, batch] = [ns.get('kernel'), ns.get('wasm batch')];
    return [
      name,
      cell(kernel),
      cell(batch),
      cell(kernel === undefined ? undefined : batch! / kernel, 2),
      cell(ns.get('wasm single')),
      cell(ns.get('interpreter'), 0),
      cell(compileMs, 2),
      ...COUNTED.flatMap(([counted, plain]) => [
        cell(ns.get(counted)),
        cell(ns.get(counted)! / ns.get(plain)!, 2),
      ]),
    ];
  });
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]!.length)));
  for (const line of [header, ...lines]) {
    console.log(
      line.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  '),
    );
  }
  for (const [name, plain] of [['wasm batch', 'kernel'], ...COUNTED] as const) {
    const ratios = rows.map(({ ns }) => ns.get(name)! / (ns.get(plain) ?? NaN)).filter((ratio) => ratio > 0);
    if (ratios.length === 0) continue;
    const mean = Math.exp(ratios.reduce((sum, ratio) => sum + Math.log(ratio), 0) / ratios.length);
    console.log(`geometric mean of ${name} ÷ ${plain}: ${mean.toFixed(2)}`);
  }
}

const problem = kernelBodyProblem();
if (problem !== undefined) console.error(`kernel column: n/a (${problem})`);
console.error('ns per packet, medians of interleaved rounds; compare within a row');
const rows: Row[] = [];
for (const test of engineCases()) {
  console.error(`measuring ${test.name}`);
  rows.push(await measure(test, problem === undefined));
}
printTable(rows);
