import { ValueProblem, type ParseOptions } from '../../bpf/btf/parse-value.js';
import type { LoadableObject } from '../../bpf/elf/object-closure.js';
import {
  BPF_F_RDONLY,
  BPF_MAP_TYPE as T,
  mapTypeName,
  type MapInitialEntry,
  type MapSpec,
  type ObjectPart,
} from '../../bpf/map-spec.js';
import { isPerCpu } from '../../bpf/per-cpu-value.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import {
  beyondEntries,
  holdsObjects,
  isGlobalData,
  mapProblem,
  parseElement,
  type MapProblem,
} from './map-values.js';

/**
 * Map content as people write it, by map name: a list of `{ key, value }`, or for the maps of global variables
 * (`.data`, `.rodata`, `.bss`) an object by variable name. A value of a per-CPU map stands for every CPU; `cpus` in its
 * place gives each CPU its own: `{ key, cpus: { 0: 5, 3: 7 } }`, the others 0. A value of a PROG_ARRAY is the name of a program of
 * the object, of a map of maps that of a map. Other keys and values are written as `parseValue` has it.
 */
export type MapInput = Readonly<Record<string, unknown>>;

/** Is told what is wrong, at its path in the input. */
export type ReportMapProblem = (problem: MapProblem) => void;

/** Throws what it is told, as `map-invalid`. */
export function throwMapProblem({ message, hint }: MapProblem): never {
  throw new XdpbedError('map-invalid', message, { hint });
}

/** How many CPUs there are, and what would help where an element names another. */
export interface CpuLimit {
  readonly cpus: number;
  readonly hint?: string | undefined;
}

export interface MapInputOptions {
  /** By default one. */
  readonly limit?: CpuLimit | undefined;
  /** As in `ParseOptions`. */
  readonly reference?: ParseOptions['reference'];
  /** By default what is wrong is thrown, as `map-invalid` naming the map and the member. */
  readonly report?: ReportMapProblem | undefined;
}

/** Elements to place, by map name. What is wrong is reported, each thing by itself, and left out. */
export function parseMapInput(
  object: LoadableObject,
  input: MapInput,
  options: MapInputOptions = {},
): Map<string, MapInitialEntry[]> {
  const { report = throwMapProblem } = options;
  const parsed = new Map<string, MapInitialEntry[]>();
  for (const [name, content] of Object.entries(input)) {
    const map = findMapOrReport(object.maps, name, report);
    if (map === undefined) continue;
    const refusal = whyNotFilled(map);
    if (refusal !== undefined) {
      report({ path: [name], message: refusal, onKey: true });
      continue;
    }
    const elements = entriesOf(map, content, report).flatMap(({ entry, what, path }) => {
      const element = reporting(path, report, () => parseEntry(object, map, entry, what, options));
      return element === undefined ? [] : [element];
    });
    parsed.set(name, elements);
  }
  return parsed;
}

/** What can be said of map types whose elements are not bytes that somebody could write down. */
const NOT_FILLED: Readonly<Record<number, string>> = {
  [T.BPF_MAP_TYPE_RINGBUF]: 'what is in it only programs send',
  [T.BPF_MAP_TYPE_PERF_EVENT_ARRAY]: 'what is sent through it only programs send',
  [T.BPF_MAP_TYPE_QUEUE]: 'it has no keys',
  [T.BPF_MAP_TYPE_STACK]: 'it has no keys',
  [T.BPF_MAP_TYPE_STACK_TRACE]: 'only the kernel fills it',
  [T.BPF_MAP_TYPE_CGROUP_ARRAY]: 'it holds control groups',
  [T.BPF_MAP_TYPE_SOCKMAP]: 'it holds sockets',
  [T.BPF_MAP_TYPE_SOCKHASH]: 'it holds sockets',
};

/** Why nothing can be placed in a map before a program runs; undefined where it can. */
function whyNotFilled(map: MapSpec): string | undefined {
  const type = NOT_FILLED[map.type];
  if (type !== undefined) return `${map.name} is a ${mapTypeName(map.type)}: ${type}`;
  return (map.flags & BPF_F_RDONLY) !== 0
    ? `${map.name} has BPF_F_RDONLY: only programs write it`
    : undefined;
}

/** Throws `map-invalid`, with the name that may have been meant. */
export function findMap(maps: readonly MapSpec[], name: string): MapSpec {
  return findMapOrReport(maps, name, throwMapProblem)!;
}

export function findMapOrReport(
  maps: readonly MapSpec[],
  name: string,
  report: ReportMapProblem,
): MapSpec | undefined {
  const found = maps.find((map) => map.name === name);
  if (found !== undefined) return found;
  const names = maps.map((map) => map.name);
  const near = nearest(name, names);
  report({
    path: [name],
    message: `the object has no map '${name}'`,
    hint: near === undefined ? `maps: ${names.join(', ') || 'none'}` : `did you mean '${near}'?`,
    onKey: true,
  });
  return undefined;
}

/** What `work` gives; undefined where it is reported instead what it threw, at that path. */
export function reporting<T>(
  path: MapProblem['path'],
  report: ReportMapProblem,
  work: () => T,
): T | undefined {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof XdpbedError)) throw error;
    report(mapProblem(error, path));
    return undefined;
  }
}

/** One element as it is written, how messages call it, and where it stands. */
export interface MapEntry {
  readonly entry: { readonly key: unknown; readonly value?: unknown; readonly cpus?: unknown };
  readonly what: string;
  readonly path: MapProblem['path'];
}

/** The elements that content of a map consists of: one for the map of global variables. */
export function entriesOf(map: MapSpec, content: unknown, report: ReportMapProblem): MapEntry[] {
  if (!Array.isArray(content)) {
    if (!isGlobalData(map)) {
      report({ path: [map.name], message: `${map.name}: a list of { key: …, value: … } is expected` });
      return [];
    }
    const key = new Uint8Array(map.keySize);
    return [{ entry: { key, value: content }, what: map.name, path: [map.name] }];
  }
  return content.flatMap((entry: unknown, index): MapEntry[] => {
    const what = `${map.name}[${index}]`;
    const path = [map.name, index];
    const isEntry = typeof entry === 'object' && entry !== null && 'key' in entry;
    if (!isEntry || 'value' in entry === 'cpus' in entry) {
      report({ path, message: `${what} is neither { key: …, value: … } nor { key: …, cpus: … }` });
      return [];
    }
    const other = Object.keys(entry).find((name) => !['key', 'value', 'cpus'].includes(name));
    if (other !== undefined) {
      report({ path: [...path, other], message: `${what}: unknown key '${other}'`, onKey: true });
      return [];
    }
    return [{ entry, what, path }];
  });
}

/** Throws `ValueProblem`. */
export function parseKey(
  map: MapSpec,
  { entry, what }: Pick<MapEntry, 'entry' | 'what'>,
  options: ParseOptions = {},
): Uint8Array {
  const parse = (): Uint8Array =>
    parseElement(map.keyType, map.keySize, entry.key, { ...options, what: `${what}.key` });
  return within('key', parse);
}

/** A value of one CPU. Throws `ValueProblem`. */
export function parseOneValue(
  map: MapSpec,
  input: unknown,
  what: string,
  options: ParseOptions = {},
): Uint8Array {
  return parseElement(map.valueType, map.valueSize, input, { ...options, what });
}

/** The name of a program or map of the object that an element leads to. Throws `ValueProblem`. */
export function parseTarget(object: LoadableObject, map: MapSpec, input: unknown, what: string): ObjectPart {
  const isProgram = map.type === T.BPF_MAP_TYPE_PROG_ARRAY;
  const [kind, targets] = isProgram ? ['program', object.programs] : ['map', object.maps];
  const known = targets.map(({ name }) => name);
  if (typeof input !== 'string') {
    const message = `${what}: the name of a ${kind} of the object is expected`;
    throw new ValueProblem([], message, undefined, `${kind}s: ${known.join(', ') || 'none'}`);
  }
  if (!known.includes(input)) {
    const near = nearest(input, known);
    const hint = near === undefined ? `${kind}s: ${known.join(', ') || 'none'}` : `did you mean '${near}'?`;
    throw new ValueProblem([], `${what}: the object has no ${kind} '${input}'`, undefined, hint);
  }
  if (isProgram) return { programName: input };
  const { inner } = map;
  const target = object.maps.find(({ name }) => name === input)!;
  const isAlike = (['type', 'keySize', 'valueSize', 'flags'] as const).every(
    (attribute) => inner === undefined || inner[attribute] === target[attribute],
  );
  if (isAlike) return { mapName: input };
  const message = `${what}: map ${input}, a ${mapTypeName(target.type)} of ${target.keySize} + ${target.valueSize} bytes`;
  throw new ValueProblem(
    [],
    `${message}, is not like those that ${map.name} holds: ${mapTypeName(inner!.type)} of ${inner!.keySize} + ${inner!.valueSize} bytes`,
  );
}

function parseEntry(
  object: LoadableObject,
  map: MapSpec,
  entry: MapEntry['entry'],
  what: string,
  { limit = { cpus: 1 }, reference }: MapInputOptions,
): MapInitialEntry {
  const key = parseKey(map, { entry, what }, { reference });
  const beyond = beyondEntries(map, key, map.maxEntries);
  if (beyond !== undefined) throw new ValueProblem(['key'], beyond);
  if (entry.cpus !== undefined) {
    const parse = (): ReadonlyMap<number, Uint8Array> =>
      parseCpuValues(map, entry.cpus, limit, `${what}.cpus`, () => ({ reference }));
    return { key, cpuValues: [...within('cpus', parse)].map(([cpu, value]) => ({ cpu, value })) };
  }
  if (holdsObjects(map))
    return { key, ...within('value', () => parseTarget(object, map, entry.value, `${what}.value`)) };
  if (isGlobalData(map)) {
    const before = map.initial[0];
    const base = before !== undefined && 'value' in before ? before.value : undefined;
    return { key, value: parseOneValue(map, entry.value, what, { base, reference }) };
  }
  return {
    key,
    value: within('value', () => parseOneValue(map, entry.value, `${what}.value`, { reference })),
  };
}

/** Where `work` fails, it is below this step. */
export function within<T>(step: string | number, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof ValueProblem)) throw error;
    throw new ValueProblem([step, ...error.path], error.message, error.unknown, error.hint);
  }
}

/**
 * Values by CPU as `cpus` of an entry has them, each read with the options of its CPU. Throws `ValueProblem` for a map that is
 * not per CPU and for a CPU that there is not.
 */
export function parseCpuValues(
  map: MapSpec,
  input: unknown,
  { cpus, hint }: CpuLimit,
  what: string,
  options: (cpu: number) => ParseOptions = () => ({}),
): Map<number, Uint8Array> {
  if (!isPerCpu(map)) {
    const message = `${what}: map ${map.name} is a ${mapTypeName(map.type)}, not per CPU`;
    throw new ValueProblem([], message, undefined, "give 'value' instead of 'cpus'");
  }
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new ValueProblem([], `${what} is not an object from CPUs to values, { 0: …, 1: … }`);
  }
  const values = new Map<number, Uint8Array>();
  for (const [name, value] of Object.entries(input)) {
    const cpu = /^\d{1,4}$/.test(name) ? Number(name) : cpus;
    if (cpu >= cpus) {
      const message = `${what}: there is no CPU ${name}; there are 0 to ${cpus - 1}`;
      throw new ValueProblem([name], message, { name, known: [] }, hint);
    }
    values.set(
      cpu,
      within(name, () => parseOneValue(map, value, `${what}.${name}`, options(cpu))),
    );
  }
  return values;
}
