import { disassemble } from '../../src/bpf/disassembler.js';
import type { BpfMap } from '../../src/bpf/runtime/bpf-map.js';
import { BpfRuntime } from '../../src/bpf/runtime/bpf-runtime.js';
import {
  generateCase,
  loadCase,
  openRing,
  type GeneratedCase,
  type GeneratedMap,
} from '../../src/conformance/program-generator/index.js';
import { KernelCase, isListed } from '../../src/linux/testing-kernel-case.js';
import { testRunXdp } from '../../src/linux/test-run.js';
import { shrinkProgram } from '../../plugins/executor-differential/index.js';
import { InterpreterExecutor } from '../../plugins/executor-interpreter/index.js';
import { MemoryMapBackend } from '../../plugins/map-backend-memory/index.js';
import { slotsOf, type Finding, type FuzzStatistics } from './engine-fuzz.js';

/** What one side made of a case: a line for each thing that can be compared. */
type Trace = readonly string[];

/**
 * Runs one generated case in the kernel (BPF_PROG_TEST_RUN) and in the interpreter. A program that the kernel's
 * verifier rejects is counted, with the reason, and not run.
 */
export async function fuzzKernel(
  seed: number,
  options: { readonly frames: number; readonly statements: number },
  statistics: FuzzStatistics,
): Promise<Finding | undefined> {
  const generated = generateCase(seed, { ...options, target: 'kernel' });
  statistics.programs++;
  const first = await compare(generated);
  if (first.rejected !== undefined) {
    const reason = first.rejected.replaceAll(/-?\d+/g, 'N');
    statistics.skipped.set(reason, (statistics.skipped.get(reason) ?? 0) + 1);
    return undefined;
  }
  statistics.slots += slotsOf(generated);
  statistics.runs += generated.frames.length;
  if (first.difference === undefined) return undefined;
  const { shrunk, difference } = await shrink(generated, first.difference);
  const report = [
    difference,
    ...shrunk.programs.map((program) => `program ${program.name}:\n${disassemble(program.insns)}`),
    ...shrunk.maps.map(describeMap),
    ...shrunk.frames.map(({ packet }, index) => `packet ${index}: ${hex(packet)}`),
  ].join('\n');
  return { seed, summary: first.difference, report };
}

interface Comparison {
  /** Why the kernel's verifier says no. */
  readonly rejected?: string | undefined;
  readonly difference?: string | undefined;
}

async function compare(generated: GeneratedCase): Promise<Comparison> {
  const kernel = runInKernel(generated);
  if ('rejected' in kernel) return kernel;
  const ours = await runInInterpreter(generated);
  const line = ours.findIndex((text, index) => text !== kernel.trace[index]);
  if (line < 0 && ours.length === kernel.trace.length) return {};
  const [left, right] = line < 0 ? [ours.at(-1), kernel.trace.at(-1)] : [ours[line], kernel.trace[line]];
  return { difference: `interpreter and kernel differ: ${left} against ${right}` };
}

/** A smaller program that the kernel still accepts and that still does not do the same. */
async function shrink(
  generated: GeneratedCase,
  difference: string,
): Promise<{ readonly shrunk: GeneratedCase; readonly difference: string }> {
  const [main, ...others] = generated.programs;
  let smallest = { shrunk: generated, difference };
  const steps = shrinkProgram(main!.insns);
  const end = performance.now() + SHRINK_TIME_MS;
  for (let step = steps.next(); step.done !== true && performance.now() < end;) {
    const shrunk = { ...generated, programs: [{ ...main!, insns: step.value }, ...others] };
    const result = await compare(shrunk);
    // A pointer that became 0 faults: the kernel rejects that, and a fault is no difference of the two.
    const differs = result.difference !== undefined && !result.difference.includes(': fault at insn');
    if (differs) smallest = { shrunk, difference: result.difference };
    step = steps.next(differs);
  }
  return smallest;
}

/** Milliseconds. */
const SHRINK_TIME_MS = 30_000;

function describeMap({ handle, name, attributes, initial }: GeneratedMap): string {
  const elements = initial.map(({ key, value }) => `\n  ${hex(key)}: ${hex(value)}`).join('');
  return `map ${handle} ${name} ${JSON.stringify(attributes)}${elements}`;
}

function runInKernel(generated: GeneratedCase): { readonly trace: Trace } | { readonly rejected: string } {
  const kernel = new KernelCase(generated.maps);
  try {
    const programs: number[] = [];
    for (const program of generated.programs) {
      const verdict = kernel.tryLoad(program);
      if (typeof verdict === 'string') return { rejected: verdict };
      programs.push(verdict);
    }
    for (const map of generated.maps) {
      for (const [index, program] of map.programs ?? [])
        kernel.setProgram(map.handle, index, programs[program]!);
    }
    const trace = generated.frames.flatMap(({ packet }, index) => {
      const run = testRunXdp(programs[0]!, { packet });
      return frameLines(index, run.verdict, run.packet, run.meta);
    });
    return { trace: [...trace, ...kernel.mapLines()] };
  } finally {
    kernel.close();
  }
}

async function runInInterpreter(generated: GeneratedCase): Promise<Trace> {
  const runtime = new BpfRuntime({ memoryBytes: 16 * 1024 * 1024 });
  const executor = new InterpreterExecutor(runtime);
  const ring = openRing(generated, runtime, 1);
  const loaded = await loadCase(generated, { runtime, backend: new MemoryMapBackend(runtime), executor });
  try {
    const trace = generated.frames.flatMap((frame, index) => {
      const { verdict, fault } = loaded.run(ring, frame);
      if (fault !== undefined) return [`packet ${index}: fault at insn ${fault.insn}: ${fault.reason}`];
      return frameLines(index, verdict, ring.packet(0), ring.metadata(0));
    });
    for (const map of generated.maps) trace.push(...engineMapLines(map, loaded.maps.get(map.handle)!));
    return trace;
  } finally {
    loaded.close();
  }
}

function frameLines(index: number, verdict: number, packet: Uint8Array, metadata: Uint8Array): string[] {
  return [
    `packet ${index}: verdict ${verdict}`,
    `packet ${index}: ${hex(packet)} after metadata '${hex(metadata)}'`,
  ];
}

function engineMapLines({ name, attributes }: GeneratedMap, map: BpfMap): string[] {
  if (!isListed(attributes)) return [];
  const lines: string[] = [];
  let key: Uint8Array | number | null = null;
  while (typeof (key = map.nextKey(key)) !== 'number') {
    const value = map.lookup(key);
    if (typeof value !== 'number') lines.push(elementLine(name, key, value.slice(0, attributes.valueSize)));
  }
  return lines.sort();
}

function elementLine(map: string, key: Uint8Array, value: Uint8Array): string {
  return `map ${map}: ${hex(key)}: ${hex(value)}`;
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
