import { ValueProblem } from '../../bpf/btf/parse-value.js';
import { mapTypeName, type MapSpec } from '../../bpf/map-spec.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import {
  cpuStride,
  isGlobalData,
  isPerCpu,
  mapProblem,
  parseElement,
  type MapProblem,
} from '../testbed/map-values.js';

export { cpuStride, isGlobalData, isPerCpu };

/**
 * Map content as people write it, by map name: a list of `{ key, value }`, or for the maps of global variables
 * (`.data`, `.rodata`, `.bss`) an object by variable name. A value of a per-CPU map stands for every CPU; `cpus` in its
 * place gives each CPU its own: `{ key, cpus: { 0: 5, 3: 7 } }`, the others 0. Keys and values are written as `parseValue`
 * has it.
 */
export type MapInput = Readonly<Record<string, unknown>>;

/** A key and a value as the system call takes them; of a per-CPU map, one CPU's value stands for all. */
export interface MapElement {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

/** Is told what is wrong, at its path in the input. */
export type ReportMapProblem = (problem: MapProblem) => void;

/** Throws what it is told, as `map-invalid`. */
export function throwMapProblem({ message, hint }: MapProblem): never {
  throw new XdpbedError('map-invalid', message, { hint });
}

/**
 * Elements to place, by map name, where there are `cpus` CPUs. What is wrong is reported, each thing by itself, and left
 * out; by default it is thrown, as `map-invalid` naming the map and the member.
 */
export function parseMapInput(
  maps: readonly MapSpec[],
  input: MapInput,
  cpus = 1,
  report: ReportMapProblem = throwMapProblem,
): Map<string, MapElement[]> {
  const parsed = new Map<string, MapElement[]>();
  for (const [name, content] of Object.entries(input)) {
    const map = findMapOrReport(maps, name, report);
    if (map === undefined) continue;
    const elements = entriesOf(map, content, report).flatMap(({ entry, what, path }) => {
      const element = reporting(path, report, () => parseEntry(map, entry, cpus, what));
      return element === undefined ? [] : [element];
    });
    parsed.set(name, elements);
  }
  return parsed;
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
export function parseKey(map: MapSpec, { entry, what }: Pick<MapEntry, 'entry' | 'what'>): Uint8Array {
  return within('key', () => parseElement(map.keyType, map.keySize, entry.key, { what: `${what}.key` }));
}

/** A value of one CPU. `base` gives what is left out. Throws `ValueProblem`. */
export function parseOneValue(map: MapSpec, input: unknown, what: string, base?: Uint8Array): Uint8Array {
  return parseElement(map.valueType, map.valueSize, input, { what, base });
}

function parseEntry(map: MapSpec, entry: MapEntry['entry'], cpus: number, what: string): MapElement {
  const key = parseKey(map, { entry, what });
  if (entry.cpus !== undefined) {
    const all = new Uint8Array(cpuStride(map) * cpus);
    for (const [cpu, value] of within('cpus', () => parseCpuValues(map, entry.cpus, cpus, `${what}.cpus`))) {
      all.set(value, cpu * cpuStride(map));
    }
    return { key, value: all };
  }
  if (isGlobalData(map)) {
    const before = map.initial[0];
    const base = before !== undefined && 'value' in before ? before.value : undefined;
    return { key, value: parseOneValue(map, entry.value, what, base) };
  }
  return { key, value: within('value', () => parseOneValue(map, entry.value, `${what}.value`)) };
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
 * Values by CPU as `cpus` of an entry has them. `base` gives what is left out of an object, by CPU. Throws
 * `ValueProblem` for a map that is not per CPU and for a CPU that there is not.
 */
export function parseCpuValues(
  map: MapSpec,
  input: unknown,
  cpus: number,
  what: string,
  base?: (cpu: number) => Uint8Array,
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
      throw new ValueProblem([name], message, undefined, "set 'cpus' of the file");
    }
    values.set(
      cpu,
      within(name, () => parseOneValue(map, value, `${what}.${name}`, base?.(cpu))),
    );
  }
  return values;
}
