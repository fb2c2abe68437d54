import 'reflect-metadata';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/interpreter-executor.js';
import { WasmExecutor } from '../../plugins/executor-wasm/wasm-executor.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/memory-map-backend.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import { FrameRing } from '../../src/bpf/runtime/frame-ring.js';
import type { Executor, LoadedProgram, ProgramWork } from '../../src/core/contract/executor.js';
import { CInterpreter } from './c-interpreter.js';
import { engineCases, type EngineCase } from './engine-case.js';
import { KERNEL_METHODS, kernelBodyProblem, KernelBody, type KernelMethod } from './kernel-body.js';

/**
 * `npm run bench:engine`: nanoseconds per packet of each engine and their ratio to what the kernel's JIT takes
 * for the program itself, and what it costs to have accesses checked and work counted. Medians over rounds in which the
 * engines take turns, so that a slow spell of a shared machine hits all of them. Trust the ratios of one run, not its
 * nanoseconds. docs/performance.md explains every column.
 */

/**
 * Many rounds, each shorter than a time slice: on a busy machine most of them then run undisturbed, and the
 * median is one of those.
 */
const ROUNDS = 85;
const WARM_UP_ROUNDS = 40;
/** Rounds from one of the kernel's to the next: its figures take longer, see kernel-body.ts. */
const KERNEL_EVERY = 17;
const ROUND_NANOSECONDS = 400_000;
/** As many frames as a NIC's ring would hold, so that they stay in the CPU's cache as the kernel's one frame does. */
const RING_SLOTS = 256;
const BATCH = 64;

/** One way to run a case; `run` does at least `count` packets. */
interface Contender {
  readonly name:
    | 'wasm batch'
    | 'wasm single'
    | 'interpreter'
    | 'batch checked'
    | `${'batch' | 'single' | 'interpreter'} counted`;
  round(): number;
}

/** Ways to run a case that cost more, and the same without. */
const COSTLIER = [
  ['batch checked', 'wasm batch'],
  ['batch counted', 'wasm batch'],
  ['single counted', 'wasm single'],
  ['interpreter counted', 'interpreter'],
] as const;

interface Row {
  readonly name: string;
  readonly ns: ReadonlyMap<Contender['name'], number>;
  readonly kernel: ReadonlyMap<KernelMethod, number>;
  /** Copies that fill half of the instruction cache. */
  readonly halfCache: number | undefined;
  readonly compileMs: number;
  /** Of the interpreter in C, where it can run the case. */
  readonly c: number | undefined;
}

async function measure(
  test: EngineCase,
  kernel: boolean,
  interpreterInC: CInterpreter | undefined,
): Promise<Row> {
  const wasm = await Engine.make((runtime) => new WasmExecutor(runtime, { checked: false }), test);
  const interpreter = await Engine.make((runtime) => new InterpreterExecutor(runtime), test);
  const checked = await Engine.make((runtime) => new WasmExecutor(runtime, { checked: true }), test);
  const counted = await Engine.make((runtime) => new WasmExecutor(runtime, { checked: false }), test, true);
  const interpreterCounted = await Engine.make((runtime) => new InterpreterExecutor(runtime), test, true);
  const contenders: Contender[] = [
    { name: 'wasm batch', round: () => wasm.batchRound() },
    { name: 'wasm single', round: () => wasm.singleRound() },
    { name: 'interpreter', round: () => interpreter.batchRound() },
    { name: 'batch checked', round: () => checked.batchRound() },
    { name: 'batch counted', round: () => counted.batchRound() },
    { name: 'single counted', round: () => counted.singleRound() },
    { name: 'interpreter counted', round: () => interpreterCounted.batchRound() },
  ];
  const body = kernel ? KernelBody.load(test) : undefined;
  const inC = interpreterInC?.prepare(test, Math.max(RING_SLOTS, test.flows));
  const cRounds: number[] = [];
  const kernelRounds = new Map(KERNEL_METHODS.map((method) => [method, [] as number[]]));
  const rounds = new Map(contenders.map(({ name }) => [name, [] as number[]]));
  for (let round = -WARM_UP_ROUNDS; round < ROUNDS; round++) {
    for (const contender of contenders) {
      const ns = contender.round();
      if (round >= 0) rounds.get(contender.name)!.push(ns);
    }
    if (body !== undefined && round >= 0 && round % KERNEL_EVERY === 0)
      for (const [method, ns] of body.round()) kernelRounds.get(method)!.push(ns);
    if (inC !== undefined && round >= 0 && round % KERNEL_EVERY === 0) cRounds.push(inC.measure());
    // V8 compiles in the background and puts its code in place between tasks.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  body?.close();
  const ns = new Map([...rounds].map(([name, values]) => [name, median(values)]));
  const kernelNs = [...kernelRounds].filter(([, values]) => values.length > 0);
  return {
    name: test.name,
    ns,
    kernel: new Map(kernelNs.map(([method, values]) => [method, median(values)])),
    halfCache: body?.count('half L1i'),
    compileMs: wasm.compileMs,
    c: cRounds.length === 0 ? undefined : median(cRounds),
  };
}

/** An executor with one case loaded and a ring of frames. */
class Engine {
  compileMs = 0;
  #packets: number;
  #singles: number;

  private constructor(
    readonly loaded: LoadedProgram,
    readonly frames: FrameRing,
    readonly maps: readonly BpfMap[],
  ) {
    this.#packets = BATCH;
    this.#singles = BATCH;
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
    for (const { handle, key, value } of test.content) maps.get(handle)!.update(key, value, 0n);
    const world = { trace: (): void => undefined, network: test.routes?.network };
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
    const engine = new Engine(await load(test.program), frames, [...maps.values()]);
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
    loaded.runBatch(frames, 0, Math.min(this.#packets, frames.slots));
    const start = process.hrtime.bigint();
    for (let at = 0; at < this.#packets; at += BATCH) loaded.runBatch(frames, at % frames.slots, BATCH);
    const ns = Number(process.hrtime.bigint() - start) / this.#packets;
    this.#packets = roundFor(ns);
    this.#emptyRings();
    return ns;
  }

  singleRound(): number {
    const { loaded, frames } = this;
    loaded.runBatch(frames, 0, Math.min(this.#singles, frames.slots));
    const start = process.hrtime.bigint();
    const mask = frames.slots - 1;
    if (loaded.work === undefined) for (let at = 0; at < this.#singles; at++) loaded.run(frames, at & mask);
    else this.#countedRuns(loaded.work, mask);
    const ns = Number(process.hrtime.bigint() - start) / this.#singles;
    this.#singles = roundFor(ns);
    this.#emptyRings();
    return ns;
  }

  /** Takes nothing out, so that nothing is left for the garbage collector. */
  #emptyRings(): void {
    for (const map of this.maps) while (map.nextRecordBytes?.() !== undefined) map.skipRecord!();
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
  return value === undefined || !Number.isFinite(value) ? 'n/a' : value.toFixed(digits);
}

/** Below so many nanoseconds a figure in whole ones says too little to be divided by. */
const COARSE = 10;

/** What the kernel takes by the method that has it fastest, so that no ratio flatters us. */
function fastestKernel({ kernel }: Row): number {
  const figures = [...kernel].filter(([method, ns]) => method !== '×1' || ns >= COARSE || kernel.size === 1);
  return Math.min(...figures.map(([, ns]) => ns));
}

function printTable(header: readonly string[], lines: readonly (readonly string[])[]): void {
  const widths = header.map((title, i) => Math.max(title.length, ...lines.map((line) => line[i]!.length)));
  for (const line of [header, ...lines]) {
    console.log(
      line.map((text, i) => (i === 0 ? text.padEnd(widths[i]!) : text.padStart(widths[i]!))).join('  '),
    );
  }
}

function printMean(name: string, ratios: readonly number[]): void {
  const known = ratios.filter((ratio) => Number.isFinite(ratio) && ratio > 0);
  if (known.length === 0) return;
  const mean = Math.exp(known.reduce((sum, ratio) => sum + Math.log(ratio), 0) / known.length);
  console.log(`geometric mean of ${name}: ${mean.toFixed(2)}`);
}

function printRows(rows: readonly Row[]): void {
  const methods = KERNEL_METHODS.map((method) => (method === 'half L1i' ? 'half L1i (n)' : method));
  printTable(
    [
      'program',
      ...methods.map((method) => `kernel ${method}`),
      'wasm batch',
      '÷ least',
      'single',
      '+',
      'interpreter',
      'in C',
      '÷ C',
      'compile ms',
    ],
    rows.map((row) => {
      const { name, ns, kernel, halfCache, compileMs, c } = row;
      const batch = ns.get('wasm batch')!;
      return [
        name,
        ...KERNEL_METHODS.map((method) => {
          const text = cell(kernel.get(method));
          return method === 'half L1i' && halfCache !== undefined ? `${text} (${halfCache})` : text;
        }),
        cell(batch),
        cell(batch / fastestKernel(row), 2),
        cell(ns.get('wasm single')),
        cell(ns.get('wasm single')! - batch),
        cell(ns.get('interpreter')),
        cell(c),
        cell(ns.get('interpreter')! / (c ?? NaN), 2),
        cell(compileMs, 2),
      ];
    }),
  );
  printMean(
    'wasm batch ÷ least of kernel',
    rows.map((row) => row.ns.get('wasm batch')! / fastestKernel(row)),
  );
  printMean(
    'interpreter ÷ C',
    rows.map(({ ns, c }) => ns.get('interpreter')! / (c ?? NaN)),
  );
  console.log();
  printTable(
    ['program', ...COSTLIER.flatMap(([name]) => [name, '÷'])],
    rows.map(({ name, ns }) => [
      name,
      ...COSTLIER.flatMap(([costlier, plain]) => [
        cell(ns.get(costlier)),
        cell(ns.get(costlier)! / ns.get(plain)!, 2),
      ]),
    ]),
  );
  for (const [name, plain] of COSTLIER) {
    printMean(
      `${name} ÷ ${plain}`,
      rows.map(({ ns }) => ns.get(name)! / ns.get(plain)!),
    );
  }
}

const problem = kernelBodyProblem();
if (problem !== undefined) console.error(`kernel columns: n/a (${problem})`);
const interpreterInC = CInterpreter.build();
if (interpreterInC === undefined) console.error('column of the interpreter in C: n/a (no gcc)');
console.error('ns per packet, medians of interleaved rounds; compare within a row');
const rows: Row[] = [];
for (const test of engineCases()) {
  console.error(`measuring ${test.name}`);
  rows.push(await measure(test, problem === undefined, interpreterInC));
}
printRows(rows);
interpreterInC?.close();
