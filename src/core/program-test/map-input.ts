import { formatValue } from '../../bpf/btf/format-value.js';
import { parseBytes, parseValue } from '../../bpf/btf/parse-value.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { mapTypeName, type MapInitialEntry, type MapSpec } from '../../bpf/map-spec.js';
import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';

/**
 * Map content as people write it, by map name: a list of `{ key, value }`, or for the maps of global variables
 * (`.data`, `.rodata`, `.bss`) an object by variable name.
 */
export type MapInput = Readonly<Record<string, unknown>>;

/** Elements to place, by map name. Throws `map-invalid` naming the map and the member. */
export function parseMapInput(maps: readonly MapSpec[], input: MapInput): Map<string, MapInitialEntry[]> {
  const parsed = new Map<string, MapInitialEntry[]>();
  for (const [name, content] of Object.entries(input))
    parsed.set(name, parseEntries(findMap(maps, name), content));
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

function parseEntries(map: MapSpec, content: unknown): MapInitialEntry[] {
  if (!Array.isArray(content)) {
    const base = map.initial[0];
    const key = new Uint8Array(map.keySize);
    const before = base !== undefined && 'value' in base ? base.value : undefined;
    return [{ key, value: parseElement(map.valueType, map.valueSize, content, map.name, before) }];
  }
  return content.map((entry: unknown, index) => {
    const what = `${map.name}[${index}]`;
    if (typeof entry !== 'object' || entry === null || !('key' in entry) || !('value' in entry)) {
      throw new XdpbedError('map-invalid', `${what} is not { key: …, value: … }`);
    }
    return {
      key: parseElement(map.keyType, map.keySize, entry.key, `${what}.key`),
      value: parseElement(map.valueType, map.valueSize, entry.value, `${what}.value`),
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
  if (isResidentMap(map) && map.drainRecords !== undefined) {
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
