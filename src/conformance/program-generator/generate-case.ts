import { BPF_F_NO_PREALLOC, BPF_MAP_TYPE, type MapAttributes } from '../../bpf/map-spec.js';
import * as op from '../../bpf/opcodes.js';
import { BPF_PROG_TYPE_XDP, type Program } from '../../bpf/program.js';
import {
  FRAG_BYTES,
  MAX_FRAGS_FRAME_LENGTH,
  MAX_FRAME_LENGTH,
  MAX_SKB_FRAGS,
} from '../../bpf/runtime/xdp-frame.js';
import { SeededRandom } from '../verifier/seeded-random.js';
import { linkFunctions, Label, type CodeWriter } from './code-writer.js';
import { generateStatements } from './control-statements.js';
import { FunctionGenerator, type Callee, type Parameter, type Surroundings } from './function-generator.js';
import type { GeneratedCase, GeneratedFrame, GeneratedMap, GeneratorOptions } from './generated-case.js';
import { SCALAR } from './machine-state.js';
import { mutateProgram } from './mutate-program.js';

const T = BPF_MAP_TYPE;

/** How many in a hundred cases are of programs with BPF_F_XDP_HAS_FRAGS, and of their frames how many are long. */
const FRAGS_PERCENT = 20;
const LONG_FRAME_PERCENT = 70;

/** Cells of stack: with those of three callees below 256 bytes, which a kernel asks for before a tail call. */
const MAIN_CELLS = 20;
const CALLEE_CELLS = 5;
const MAX_CALL_DEPTH = 3;
/** What bpf_loop passes: the round, and what the caller gave it. */
const CALLBACK_PARAMETERS: readonly Parameter[] = [{ kind: 'scalar' }, { kind: 'buffer', size: 16 }];

/**
 * Makes valid XDP programs with their maps and frames, the same ones for the same seed and options.
 *
 * A program is generated with an abstract state at hand (`MachineState`): what registers and the stack hold on
 * every path, how much of the packet was checked, which pointers were compared with NULL. So each insn is one that
 * a verifier accepts, and every loop ends after a known number of rounds. Most programs end by folding registers
 * and stack into R0, so that a wrong number anywhere shows in the verdict.
 */
export function generateCase(seed: number, options: GeneratorOptions = {}): GeneratedCase {
  const random = new SeededRandom(seed * 0x9e3779b1 + 1);
  const kernel = options.target === 'kernel';
  // By a number of its own, so that the other cases are what they are without it.
  const frags = new SeededRandom(seed * 0x85ebca6b + 7).chance(FRAGS_PERCENT);
  const tailCalls = random.chance(25);
  const maps = generateMaps(random, kernel, tailCalls);
  const statements = 1 + random.below(options.statements ?? 40);
  const programs = [generateProgram('main', { random, maps, kernel, frags }, statements)];
  if (tailCalls) {
    for (const name of ['second', 'third']) {
      programs.push(generateProgram(name, { random, maps, kernel, frags }, 1 + random.below(10)));
    }
  }
  const frames = Array.from({ length: options.frames ?? 3 }, () => generateFrame(random, kernel, frags));
  const mutations: string[] = [];
  if (random.chance(options.unsafePercent ?? 0)) {
    const { program, changes } = mutateProgram(programs[0]!, random);
    programs[0] = program;
    mutations.push(...changes);
  }
  return { seed, programs, maps, frames, mutations };
}

function generateProgram(
  name: string,
  around: Pick<Surroundings, 'random' | 'maps' | 'kernel' | 'frags'>,
  statements: number,
): Program {
  const { random, maps, kernel, frags } = around;
  const functions: CodeWriter[] = [];
  const callees: (Callee & { readonly depth: number })[] = [];
  const count = random.chance(35) ? 1 + random.below(3) : 0;
  for (let index = 1; index <= count; index++) {
    // A kernel asks for BTF with the functions that helpers call.
    const callback = !kernel && random.chance(25);
    const parameters = callback ? CALLBACK_PARAMETERS : generateParameters(random, maps);
    const below = callees.filter(({ depth }) => depth < MAX_CALL_DEPTH - 1);
    const f = new FunctionGenerator({ ...around, callees: below, parameters, callback, cells: CALLEE_CELLS });
    generateBody(f, 1 + random.below(6));
    functions[index] = f.code;
    const calls = f.code.references.map(
      ({ callee }) => callees.find((other) => other.index === callee)!.depth,
    );
    const { changesPacket, touchedMaps } = f;
    callees.push({
      index,
      parameters,
      callback,
      changesPacket,
      touchedMaps,
      depth: 1 + Math.max(0, ...calls),
    });
  }
  const main = new FunctionGenerator({
    ...around,
    callees,
    parameters: [{ kind: 'context' }],
    callback: false,
    cells: MAIN_CELLS,
  });
  generateBody(main, statements);
  functions[0] = main.code;
  return {
    name,
    type: BPF_PROG_TYPE_XDP,
    attachType: 'BPF_XDP',
    gplCompatible: true,
    frags,
    insns: linkFunctions(usedFunctions(functions)),
  };
}

/** Without functions that nobody calls, which a verifier takes for unreachable code. */
function usedFunctions(functions: readonly CodeWriter[]): CodeWriter[] {
  const used = new Set([0]);
  for (const index of used) for (const { callee } of functions[index]!.references) used.add(callee);
  const order = [...used].sort((a, b) => a - b);
  for (const index of order) {
    const { references } = functions[index]!;
    references.forEach((reference, at) => {
      references[at] = { ...reference, callee: order.indexOf(reference.callee) };
    });
  }
  return order.map((index) => functions[index]!);
}

function generateParameters(random: SeededRandom, maps: readonly GeneratedMap[]): Parameter[] {
  const parameters: Parameter[] = random.chance(50) ? [{ kind: 'context' }] : [];
  const direct = maps.find(({ name }) => name === 'direct');
  for (let i = random.below(4); i > 0; i--) {
    const kind = random.below(4);
    if (kind === 0) parameters.push({ kind: 'buffer', size: 8 * (1 + random.below(3)) });
    else if (kind === 1 && direct !== undefined) parameters.push({ kind: 'map-value', map: direct.handle });
    else parameters.push({ kind: 'scalar' });
  }
  return parameters;
}

/** Statements, and the end of the function. */
function generateBody(f: FunctionGenerator, statements: number): void {
  const { random } = f;
  for (let register = 0; register < 10; register++) {
    if (f.value(register) === undefined && random.chance(30)) f.constant(register);
  }
  for (const cell of f.freeCells()) if (random.chance(20)) f.initialiseCell(cell);
  const out = new Label();
  f.labels.push(out);
  generateStatements(f, statements);
  f.labels.pop();
  f.placeLabel(out);
  if (!f.reachable) return;
  const { callback } = f.around;
  if (random.chance(85)) foldIntoResult(f);
  else if (f.value(0)?.kind !== 'scalar' || random.chance(60)) f.immediate(0, random.below(callback ? 2 : 5));
  if (callback) f.code.emit(op.BPF_ALU64 | op.BPF_AND | op.BPF_K, 0, 0, 0, 1);
  f.exit();
}

/** R0 := a number that depends on every number in the registers and on the stack. */
function foldIntoResult(f: FunctionGenerator): void {
  if (f.value(0)?.kind !== 'scalar') f.immediate(0, 0);
  const fold = (register: number): void => {
    f.code.emit(op.BPF_ALU64 | op.BPF_MUL | op.BPF_K, 0, 0, 0, 31);
    f.code.emit(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, register);
  };
  for (const register of f.find((value, register) => value.kind === 'scalar' && register !== 0))
    fold(register);
  const scratch = f.target(0);
  f.state.cells.forEach((content, cell) => {
    if (content !== 'data' || f.random.chance(40)) return;
    f.fill(scratch, cell);
    fold(scratch);
  });
  // A verdict is 32 bits wide.
  f.move(scratch, 0);
  f.code.emit(op.BPF_ALU64 | op.BPF_RSH | op.BPF_K, scratch, 0, 0, 32);
  f.code.emit(op.BPF_ALU64 | op.BPF_XOR | op.BPF_X, 0, scratch);
  f.set(0, SCALAR);
}

// Maps and frames ------------------------------------------------------------------------------------------------

function generateMaps(random: SeededRandom, kernel: boolean, tailCalls: boolean): GeneratedMap[] {
  const maps: GeneratedMap[] = [];
  const valueSize = (): number => random.pick([4, 8, 8, 12, 16, 24, 31, 40, 64]);
  const keySize = (): number => random.pick([1, 2, 3, 4, 4, 4, 6, 8, 8, 12, 13, 16, 20, 40]);
  const add = (
    name: string,
    type: number,
    attributes: Partial<MapAttributes>,
    rest: Partial<GeneratedMap> = {},
  ): void => {
    const complete = { type, keySize: 4, valueSize: 8, maxEntries: 4, flags: 0, ...attributes };
    maps.push({ handle: maps.length + 1, name, attributes: complete, initial: [], ...rest });
  };
  const elements = (keys: number, values: number, count: number): GeneratedMap['initial'] =>
    Array.from({ length: random.below(count + 1) }, (_, index) => ({
      key: Uint8Array.from({ length: keys }, (_, at) => (at === 0 ? index : 0)),
      value: random.bytes(values),
    }));

  if (random.chance(50)) {
    const size = 8 * (2 + random.below(7));
    add(
      'direct',
      T.BPF_MAP_TYPE_ARRAY,
      { valueSize: size, maxEntries: 1 },
      { initial: elements(4, size, 1) },
    );
  }
  for (const [name, type, percent] of [
    ['array', T.BPF_MAP_TYPE_ARRAY, 40],
    ['percpu_array', T.BPF_MAP_TYPE_PERCPU_ARRAY, 25],
  ] as const) {
    if (!random.chance(percent)) continue;
    const size = valueSize();
    const maxEntries = random.pick([1, 2, 3, 4, 5, 8]);
    add(name, type, { valueSize: size, maxEntries }, { initial: elements(4, size, maxEntries) });
  }
  for (const [name, type, percent] of [
    ['hash', T.BPF_MAP_TYPE_HASH, 45],
    ['percpu_hash', T.BPF_MAP_TYPE_PERCPU_HASH, 15],
    ['lru_hash', T.BPF_MAP_TYPE_LRU_HASH, 25],
    ['lru_percpu', T.BPF_MAP_TYPE_LRU_PERCPU_HASH, 10],
  ] as const) {
    if (!random.chance(percent)) continue;
    const [keys, values] = [keySize(), valueSize()];
    // A kernel's LRU evicts long before it is full.
    const evicts = kernel && name.startsWith('lru');
    const maxEntries = evicts ? 16_384 : random.pick([1, 2, 3, 4, 7, 8]);
    const initial = elements(keys, values, Math.min(4, maxEntries));
    add(name, type, { keySize: keys, valueSize: values, maxEntries }, { initial });
  }
  if (random.chance(10)) {
    const values = valueSize();
    const initial = [8, 16, 24].flatMap((prefix) =>
      random.chance(50)
        ? [{ key: Uint8Array.of(prefix, 0, 0, 0, 10, 1, 0, 0), value: random.bytes(values) }]
        : [],
    );
    const attributes = { keySize: 8, valueSize: values, maxEntries: 8, flags: BPF_F_NO_PREALLOC };
    add('trie', T.BPF_MAP_TYPE_LPM_TRIE, attributes, { initial });
  }
  if (random.chance(10)) {
    const type = random.pick([T.BPF_MAP_TYPE_QUEUE, T.BPF_MAP_TYPE_STACK]);
    add('queue', type, { keySize: 0, valueSize: valueSize(), maxEntries: 1 + random.below(4) });
  }
  if (random.chance(20)) {
    // The loopback device is one that every kernel has.
    const type = random.pick([T.BPF_MAP_TYPE_DEVMAP, T.BPF_MAP_TYPE_DEVMAP_HASH]);
    const initial = [0, 2].flatMap((index) =>
      random.chance(60) ? [{ key: Uint8Array.of(index, 0, 0, 0), value: Uint8Array.of(1, 0, 0, 0) }] : [],
    );
    add('devices', type, { valueSize: 4 }, { initial });
  }
  if (tailCalls) {
    const programs = new Map<number, number>([[0, 1]]);
    if (random.chance(70)) programs.set(1, 2);
    if (random.chance(35)) programs.set(2, 0);
    add('programs', T.BPF_MAP_TYPE_PROG_ARRAY, { valueSize: 4, maxEntries: 4 }, { programs });
  }
  return maps;
}

/** Ethernet with IPv4 and UDP or TCP, or noise; of any length from the shortest to a few hundred bytes. */
function generateFrame(random: SeededRandom, kernel: boolean, frags: boolean): GeneratedFrame {
  const short = random.pick([14, 15, 34, 42, 54, 60, 64, 65, 98, 128, 300, 14 + random.below(500)]);
  const length = frags && random.chance(LONG_FRAME_PERCENT) ? longLength(random) : short;
  const packet = random.bytes(length);
  if (random.chance(70)) {
    packet.set([0x08, 0x00, 0x45].slice(0, Math.max(0, length - 12)), 12);
    if (length > 23) packet[23] = random.pick([6, 17, 1]);
    if (random.chance(40)) packet.fill(0, Math.min(length, 42));
  }
  const metadata = kernel
    ? { ingressIfindex: 1, rxQueueIndex: 0 }
    : { ingressIfindex: random.below(5), rxQueueIndex: random.below(3) };
  return { packet, metadata };
}

/** Bytes of a frame that has frags, or nearly: more often than not about where a page ends. */
function longLength(random: SeededRandom): number {
  const pages = random.chance(4) ? MAX_SKB_FRAGS - 1 : random.below(3);
  const end = MAX_FRAME_LENGTH + FRAG_BYTES * pages;
  const length = random.chance(60) ? end - 3 + random.below(8) : end + random.below(FRAG_BYTES + 1);
  return Math.min(length, MAX_FRAGS_FRAME_LENGTH);
}
