import { formatValue } from '../../bpf/btf/format-value.js';
import { parseBytes, parseValue } from '../../bpf/btf/parse-value.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { BPF_MAP_TYPE, mapTypeName, type MapInitialEntry, type MapSpec } from '../../bpf/map-spec.js';
import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';

/**
 * Map content as people write it, by map name: a list of `{ key, value }`, or for the maps of global variables
 * (`.data`, `.rodata`, `.bss`) an object by variable name. A value of a per-CPU map stands for every CPU; `cpus` in its
 * place gives each CPU its own: `{ key, cpus: { 0: 5, 3: 7 } }`, the others 0.
 */
export type MapInput = Readonly<Record<string, unknown>>;

/** Elements to place, by map name, where there are `cpus` CPUs. Throws `map-invalid` naming the map and the member. */
export function parseMapInput(
  maps: readonly MapSpec[],
  input: MapInput,
  cpus = 1,
): Map<string, MapInitialEntry[]> {
  const parsed = new Map<string, MapInitialEntry[]>();
  for (const [name, content] of Object.entries(input))
    parsed.set(name, parseEntries(findMap(maps, name), content, cpus));
  return parsed;
}

export function findMap(maps: readonly MapSpec[], name: string): MapSpec {
  const found = maps.find((map) => map.name === name);
  if (found !== undefined) return found;
  const names = maps.map((map) => map.name);
  const near = nearest(name, names);
  throw new XdpbedError('map-invalid', `the object has no map '${name}'`, {
    hint: near === undefined ? `maps: ${names.join(', ') || 'none'}` : `did you mean '${near}'?`,
  });
}

/** The bytes of a key or value. `base` gives what is left out of an object. */
export function parseElement(
  type: BtfTypeRef | undefined,
  size: number,
  input: unknown,
  what: string,
  base?: Uint8Array,
): Uint8Array {
  if (type === undefined || type.btf.sizeOf(type.id) !== size) return parseBytes(size, input, what);
  return parseValue(type, input, base, what);
}

const PER_CPU_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
]);

export function isPerCpu(map: MapSpec): boolean {
  return PER_CPU_TYPES.has(map.type);
}

/** Bytes from one CPU's value to the next in what the system call passes. */
export function cpuStride(map: MapSpec): number {
  return Math.ceil(map.valueSize / 8) * 8;
}

/**
 * Values by CPU as `cpus` of an entry has them. `base` gives what is left out of an object, by CPU. Throws
 * `map-invalid` for a map that is not per CPU and for a CPU that there is not.
 */
export function parseCpuValues(
  map: MapSpec,
  input: unknown,
  cpus: number,
  what: string,
  base?: (cpu: number) => Uint8Array,
): Map<number, Uint8Array> {
  if (!isPerCpu(map)) {
    throw new XdpbedError(
      'map-invalid',
      `${what}: map ${map.name} is a ${mapTypeName(map.type)}, not per CPU`,
      {
        hint: "give 'value' instead of 'cpus'",
      },
    );
  }
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new XdpbedError('map-invalid', `${what} is not an object from CPUs to values, { 0: …, 1: … }`);
  }
  const values = new Map<number, Uint8Array>();
  for (const [name, value] of Object.entries(input)) {
    const cpu = /^\d{1,4}$/.test(name) ? Number(name) : cpus;
    if (cpu >= cpus) {
      throw new XdpbedError('map-invalid', `${what}: there is no CPU ${name}; there are 0 to ${cpus - 1}`, {
        hint: "set 'cpus' of the file",
      });
    }
    values.set(cpu, parseElement(map.valueType, map.valueSize, value, `${what}.${name}`, base?.(cpu)));
  }
  return values;
}

function parseEntries(map: MapSpec, content: unknown, cpus: number): MapInitialEntry[] {
  if (!Array.isArray(content)) {
    const base = map.initial[0];
    const key = new Uint8Array(map.keySize);
    const before = base !== undefined && 'value' in base ? base.value : undefined;
    return [{ key, value: parseElement(map.valueType, map.valueSize, content, map.name, before) }];
  }
  return content.map((entry: unknown, index) => {
    const what = `${map.name}[${index}]`;
    const isEntry = typeof entry === 'object' && entry !== null && 'key' in entry;
    if (!isEntry || 'value' in entry === 'cpus' in entry) {
      throw new XdpbedError('map-invalid', `${what} is neither { key: …, value: … } nor { key: …, cpus: … }`);
    }
    const key = parseElement(map.keyType, map.keySize, entry.key, `${what}.key`);
    if ('cpus' in entry) {
      const all = new Uint8Array(cpuStride(map) * cpus);
      for (const [cpu, value] of parseCpuValues(map, entry.cpus, cpus, `${what}.cpus`)) {
        all.set(value, cpu * cpuStride(map));
      }
      return { key, value: all };
    }
    return {
      key,
      value: parseElement(
        map.valueType,
        map.valueSize,
        (entry as { readonly value?: unknown }).value,
        `${what}.value`,
      ),
    };
  });
}

/** One map's content for people and for JSON. */
export interface MapDump {
  readonly name: string;
  readonly type: string;
  readonly entries: readonly {
    readonly key: string;
    readonly value: string;
    readonly keyText: string;
    readonly valueText: string;
  }[];
  /** What programs sent through a ring buffer or an array of perf events, oldest first, in hex. */
  readonly records?: readonly string[] | undefined;
}

/** Elements in key order, those that are all zero bytes left out; of buffers, the records since the last dump. */
export function dumpMap(spec: MapSpec, map: BpfMap): MapDump {
  if (map.drainRecords !== undefined) {
    const records = map.drainRecords().map((record) => hex(record.data));
    return { name: spec.name, type: mapTypeName(spec.type), entries: [], records };
  }
  const entries: { key: string; value: string; keyText: string; valueText: string }[] = [];
  for (const key of keysToLookUp(map)) {
    const value = map.lookup(key);
    if (typeof value === 'number' || value.every((byte) => byte === 0)) continue;
    entries.push({
      key: hex(key),
      value: hex(value),
      keyText: formatElement(spec.keyType, spec.keySize, key),
      valueText: formatElement(spec.valueType, spec.valueSize, value),
    });
  }
  return { name: spec.name, type: mapTypeName(spec.type), entries };
}

/** All keys; of an array in an address space only those whose values are not zero, as most of a big one are. */
function* keysToLookUp(map: BpfMap): Generator<Uint8Array> {
  if (!isResidentMap(map) || map.layout.kind !== 'array') {
    for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) yield key;
    return;
  }
  const { values, stride, maxEntries, cpuStride } = map.layout;
  const { i32 } = map.space;
  const lanes = cpuStride === 0 ? 1 : map.syscallValueSize / stride;
  const isZero = (from: number): boolean => {
    for (let word = from >>> 2; word < (from + stride) >>> 2; word++) if (i32[word] !== 0) return false;
    return true;
  };
  for (let index = 0; index < maxEntries; index++) {
    let lane = 0;
    while (lane < lanes && isZero(values + lane * cpuStride + index * stride)) lane++;
    if (lane < lanes) yield Uint8Array.of(index, index >>> 8, index >>> 16, index >>> 24);
  }
}

/** By BTF type where there is one; a per-CPU value as a list of each CPU's. */
export function formatElement(type: BtfTypeRef | undefined, size: number, bytes: Uint8Array): string {
  if (bytes.length > size) {
    const stride = Math.ceil(size / 8) * 8;
    const values: string[] = [];
    for (let at = 0; at + size <= bytes.length; at += stride)
      values.push(formatElement(type, size, bytes.subarray(at, at + size)));
    return `[${values.join(', ')}]`;
  }
  if (type !== undefined && type.btf.sizeOf(type.id) === bytes.length) return formatValue(type, bytes);
  if (bytes.length === 0 || bytes.length > 8) return `0x${hex(bytes)}`;
  let number = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) number = (number << 8n) | BigInt(bytes[i]!);
  return number.toString();
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
