import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import {
  describeValue,
  formatJson,
  formatValue,
  untypedToJson,
  valueToJson,
  type BtfJson,
} from '../../bpf/btf/format-value.js';
import { mapTypeName, type MapSpec } from '../../bpf/map-spec.js';
import { cpuValues } from '../../bpf/per-cpu-value.js';
import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import { isQueueOrStack, readQueueValues } from '../../bpf/runtime/queue-values.js';
import { printable } from '../printable.js';
import { isGlobalData } from '../testbed/map-values.js';

/** One map's content for people and for JSON. */
export interface MapDump {
  readonly name: string;
  readonly type: string;
  /** Whether it holds global variables: `text` of its only entry is then an object by variable. */
  readonly global?: true;
  readonly entries: readonly MapDumpEntry[];
  /** What programs sent through a ring buffer or an array of perf events, oldest first, in hex. */
  readonly records?: readonly string[] | undefined;
  /** What a queue or stack holds, in the order in which it comes out. */
  readonly values?: readonly MapDumpValue[] | undefined;
}

export interface MapDumpValue {
  /** In hex, in the order of memory. */
  readonly value: string;
  /** As values of maps are written. */
  readonly text: string;
}

export interface MapDumpEntry {
  /** In hex, in the order of memory. */
  readonly key: string;
  readonly value: string;
  /** As content of maps is written: `{ key: 17, value: 3 }`; of global variables, `{ limit: 3 }`. */
  readonly text: string;
  /** What `text` says by members only, where it had to give the bytes. */
  readonly note?: string | undefined;
}

/**
 * Elements in key order, those that are all zero bytes left out; of buffers, the records since the last dump; of queues and
 * stacks, all values.
 *
 * @param targetOf the name of what a value stands for, if it stands for something
 */
export function dumpMap(
  spec: MapSpec,
  map: BpfMap,
  targetOf: (value: Uint8Array) => string | undefined = () => undefined,
): MapDump {
  const type = mapTypeName(spec.type);
  if (map.drainRecords !== undefined) {
    const records = map.drainRecords().map((record) => hex(record.data));
    return { name: spec.name, type, entries: [], records };
  }
  if (isQueueOrStack(spec.type)) {
    const values = readQueueValues(map);
    // Nobody but programs may take something out.
    if (typeof values === 'number') return { name: spec.name, type, entries: [] };
    return {
      name: spec.name,
      type,
      entries: [],
      values: values.map((value) => ({
        value: hex(value),
        text: formatElement(spec.valueType, spec.valueSize, value),
      })),
    };
  }
  const entries: MapDumpEntry[] = [];
  for (const { key, value } of keysWithValues(map, true)) {
    const note = noteOf(spec, key, value);
    entries.push({
      key: hex(key),
      value: hex(value),
      text: formatEntry(spec, key, value, targetOf(value)),
      ...(note === undefined ? {} : { note }),
    });
  }
  return { name: spec.name, type, ...(isGlobalData(spec) ? { global: true } : {}), entries };
}

/**
 * One element as content of maps is written, on one line of YAML. `value` is as the system call has it; `target` is the name
 * that is written in its place.
 */
export function formatEntry(spec: MapSpec, key: Uint8Array, value: Uint8Array, target?: string): string {
  if (isGlobalData(spec)) return formatElement(spec.valueType, spec.valueSize, value);
  const keyText = formatElement(spec.keyType, spec.keySize, key);
  if (target !== undefined) return `{ key: ${keyText}, value: ${formatJson(target)} }`;
  const values = cpuValues(spec, value);
  if (values.length === 1) {
    return `{ key: ${keyText}, value: ${formatElement(spec.valueType, spec.valueSize, values[0]!)} }`;
  }
  return `{ key: ${keyText}, cpus: ${formatCpus(spec, value)} }`;
}

/** The values of a per-CPU map's element as `cpus` has them, those that are all zero bytes left out: `{ 0: 5, 3: 7 }`. */
export function formatCpus(spec: MapSpec, value: Uint8Array): string {
  const cpus = cpuValues(spec, value).flatMap((own, cpu) =>
    own.every((byte) => byte === 0) ? [] : [`${cpu}: ${formatElement(spec.valueType, spec.valueSize, own)}`],
  );
  return `{ ${cpus.join(', ')} }`;
}

/** By members what had to be written as bytes. */
function noteOf(spec: MapSpec, key: Uint8Array, value: Uint8Array): string | undefined {
  const parts = [
    { type: spec.keyType, bytes: key },
    ...cpuValues(spec, value).map((bytes) => ({ type: spec.valueType, bytes })),
  ];
  const notes = parts.flatMap(({ type, bytes }) => {
    if (type?.btf.sizeOf(type.id) !== bytes.length) return [];
    const said = describeValue(type, bytes);
    return said === formatValue(type, bytes) ? [] : [said];
  });
  return notes.length === 0 ? undefined : notes.join(', ');
}

/** Elements in key order; without zeros, those that are all zero bytes are left out. */
export function* keysWithValues(
  map: BpfMap,
  withoutZeros: boolean,
): Generator<{ readonly key: Uint8Array; readonly value: Uint8Array }> {
  for (const key of keysToLookUp(map)) {
    const value = map.lookup(key);
    if (typeof value === 'number' || (withoutZeros && value.every((byte) => byte === 0))) continue;
    yield { key, value };
  }
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

/** A key, or the value of one CPU, as it is written: by its BTF type where there is one. */
export function formatElement(type: BtfTypeRef | undefined, size: number, bytes: Uint8Array): string {
  return formatJson(elementToJson(type, size, bytes));
}

export function elementToJson(type: BtfTypeRef | undefined, size: number, bytes: Uint8Array): BtfJson {
  const isTyped = type?.btf.sizeOf(type.id) === size && bytes.length === size;
  return isTyped ? valueToJson(type, bytes) : untypedToJson(bytes);
}

/** Hex of at most 32 bytes, with the length of the whole. */
function shorten(record: string): string {
  return record.length <= 64 ? record : `${record.slice(0, 64)}… (${record.length / 2} bytes)`;
}

/**
 * Content of maps as lines of YAML, as cases and `--maps` take it; what they do not take is comments. Maps without
 * content are named in the last line.
 */
export function renderMaps(maps: readonly MapDump[]): string[] {
  const isUntouched = ({ entries, records = [], values = [] }: MapDump): boolean =>
    entries.length + records.length + values.length === 0;
  const lines = maps
    .filter((map) => !isUntouched(map))
    .flatMap((map) => [
      // A name with nothing but comments below it would be one of nothing, which no map takes.
      `  ${map.entries.length === 0 ? `# ${map.name}` : map.name}: # ${map.type}`,
      ...map.entries.map(({ text, note }) => {
        const item = map.global === true ? text : `- ${text}`;
        return `    ${item}${note === undefined ? '' : ` # ${note}`}`;
      }),
      ...(map.records ?? []).map((record, index) => `    # record ${index + 1}: ${shorten(record)}`),
      ...(map.values ?? []).map(({ text }, index) => `    # value ${index + 1}: ${text}`),
    ]);
  const untouched = maps.filter(isUntouched).map((map) => map.name);
  return [
    ...(lines.length === 0
      ? []
      : [maps.some(({ entries }) => entries.length > 0) ? 'maps:' : '# maps:', ...lines]),
    ...(untouched.length === 0 ? [] : [`# empty or all zero: ${untouched.join(', ')}`]),
  ].map(printable);
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
