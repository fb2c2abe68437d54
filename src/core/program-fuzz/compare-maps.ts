import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { formatValue } from '../../bpf/btf/format-value.js';
import { BPF_MAP_TYPE, mapTypeName, type MapSpec } from '../../bpf/map-spec.js';
import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import { formatElement } from '../program-test/map-dump.js';
import { isGlobalData } from '../program-test/map-input.js';
import type { Subject, SubjectMap } from './subject.js';

const {
  BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE_LPM_TRIE,
} = BPF_MAP_TYPE;

/** Whose elements programs write, and can be read key by key. */
const COMPARABLE: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE_LPM_TRIE,
]);
/** Programs write them, but there are no keys by which to read. */
const WITHOUT_KEYS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_QUEUE,
  BPF_MAP_TYPE.BPF_MAP_TYPE_STACK,
]);

/** A map of each, under one name. */
interface MapPair {
  readonly name: string;
  readonly before: SubjectMap;
  readonly after: SubjectMap;
}

/** A global variable that both programs have. */
interface SharedVariable {
  readonly name: string;
  readonly before: Placement;
  readonly after: Placement;
}
interface Placement {
  readonly type: BtfTypeRef;
  readonly offset: number;
  readonly size: number;
}

/** Compares the maps of two programs that have the same names. */
export class MapComparison {
  readonly #pairs: readonly MapPair[];
  /** What is not compared, and why; one sentence each. */
  readonly notes: readonly string[];

  constructor(before: Subject, after: Subject) {
    const notes: string[] = [];
    const [old, recent] = [before.maps, after.maps];
    for (const [maps, others, which] of [
      [old, recent, 'old'],
      [recent, old, 'new'],
    ] as const) {
      for (const name of maps.keys())
        if (!others.has(name)) notes.push(`map ${name} is only in the ${which} program`);
    }
    this.#pairs = [...old].flatMap(([name, map]) => {
      const other = recent.get(name);
      if (other === undefined) return [];
      const reason = whyNot(map.spec, other.spec);
      if (reason !== undefined && reason !== '') notes.push(`map ${name} is not compared: ${reason}`);
      return reason === undefined ? [{ name, before: map, after: other }] : [];
    });
    this.notes = notes;
  }

  /** Elements that are not the same now, one line each; `most` at most. */
  differences(most = 8): string[] {
    const lines: string[] = [];
    for (const pair of this.#pairs) {
      for (const line of differencesOf(pair)) {
        if (lines.length === most) return [...lines, '… and more'];
        lines.push(line);
      }
    }
    return lines;
  }

  get areSame(): boolean {
    return this.#pairs.every((pair) => {
      const { done } = differencesOf(pair).next();
      return done === true;
    });
  }
}

/** Why two maps cannot be compared; '' where nobody would ask. */
function whyNot(before: MapSpec, after: MapSpec): string | undefined {
  // Constants: what comes of them is compared.
  if (before.frozen === true || after.frozen === true) return '';
  if (before.type !== after.type)
    return `it is a ${mapTypeName(before.type)}, now a ${mapTypeName(after.type)}`;
  if (WITHOUT_KEYS.has(before.type)) return `a ${mapTypeName(before.type)} cannot be read by key`;
  if (!COMPARABLE.has(before.type)) return '';
  if (isGlobal(before) && isGlobal(after)) return undefined;
  if (before.keySize !== after.keySize) return `keys have ${before.keySize} bytes, now ${after.keySize}`;
  if (before.valueSize !== after.valueSize)
    return `values have ${before.valueSize} bytes, now ${after.valueSize}`;
  return undefined;
}

function* differencesOf(pair: MapPair): Generator<string> {
  const { name, before, after } = pair;
  if (isGlobal(before.spec) && isGlobal(after.spec)) {
    yield* variableDifferences(pair);
    return;
  }
  if (haveSameBytes(before.map, after.map)) return;
  for (const key of keysOf(before.map)) {
    const [old, recent] = [before.map.lookup(key), after.map.lookup(key)];
    if (typeof old === 'number') continue;
    if (typeof recent !== 'number' && equal(old, recent)) continue;
    const is = typeof recent === 'number' ? 'not there' : valueText(after.spec, recent);
    yield `${elementName(name, before.spec, key)} is ${valueText(before.spec, old)}, now ${is}`;
  }
  for (const key of keysOf(after.map)) {
    const value = after.map.lookup(key);
    if (typeof value === 'number' || typeof before.map.lookup(key) !== 'number') continue;
    yield `${elementName(name, after.spec, key)} is not there, now ${valueText(after.spec, value)}`;
  }
}

function* variableDifferences({ name, before, after }: MapPair): Generator<string> {
  const key = new Uint8Array(before.spec.keySize);
  const [old, recent] = [before.map.lookup(key), after.map.lookup(key)];
  if (typeof old === 'number' || typeof recent === 'number') return;
  for (const variable of sharedVariables(before.spec, after.spec)) {
    const [was, is] = [cut(old, variable.before), cut(recent, variable.after)];
    if (equal(was, is)) continue;
    yield `${name}.${variable.name} is ${formatValue(variable.before.type, was)}, now ${formatValue(variable.after.type, is)}`;
  }
}

/** Global variables that BTF names. */
function isGlobal(map: MapSpec): boolean {
  const { valueType } = map;
  return isGlobalData(map) && valueType?.btf.type(valueType.id).kind === 'DATASEC';
}

function variablesOf({ valueType }: MapSpec): Map<string, Placement> {
  const variables = new Map<string, Placement>();
  if (valueType === undefined) return variables;
  const { btf } = valueType;
  const section = btf.type(valueType.id);
  if (section.kind !== 'DATASEC') return variables;
  for (const { type, offset, size } of section.variables) {
    const variable = btf.type(type);
    if (variable.kind === 'VAR')
      variables.set(variable.name, { type: { btf, id: variable.type }, offset, size });
  }
  return variables;
}

function sharedVariables(before: MapSpec, after: MapSpec): SharedVariable[] {
  const recent = variablesOf(after);
  return [...variablesOf(before)].flatMap(([name, old]) => {
    const other = recent.get(name);
    return other === undefined ? [] : [{ name, before: old, after: other }];
  });
}

function cut(bytes: Uint8Array, { offset, size }: Placement): Uint8Array {
  return bytes.subarray(offset, offset + size);
}

/** Of arrays in memory, all at once: most often nothing differs, and they may be big. */
function haveSameBytes(before: BpfMap, after: BpfMap): boolean {
  if (!isResidentMap(before) || !isResidentMap(after)) return false;
  const [old, recent] = [before.layout, after.layout];
  if (old.kind !== 'array' || recent.kind !== 'array') return false;
  if (old.stride !== recent.stride || old.maxEntries !== recent.maxEntries) return false;
  if (before.syscallValueSize !== after.syscallValueSize) return false;
  const bytes = old.stride * old.maxEntries;
  const lanes = old.cpuStride === 0 ? 1 : before.syscallValueSize / old.stride;
  for (let cpu = 0; cpu < lanes; cpu++) {
    const [one, other] = [old.values + cpu * old.cpuStride, recent.values + cpu * recent.cpuStride];
    if (!equal(before.space.u8.subarray(one, one + bytes), after.space.u8.subarray(other, other + bytes)))
      return false;
  }
  return true;
}

function* keysOf(map: BpfMap): Generator<Uint8Array> {
  for (let key = map.nextKey(null); typeof key !== 'number'; key = map.nextKey(key)) yield key;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

function elementName(name: string, { keyType, keySize }: MapSpec, key: Uint8Array): string {
  return `${name}[${formatElement(keyType, keySize, key)}]`;
}

function valueText({ valueType, valueSize }: MapSpec, value: Uint8Array): string {
  if (value.length <= valueSize) return formatElement(valueType, valueSize, value);
  // Of each CPU, at a multiple of 8 bytes.
  const stride = Math.ceil(valueSize / 8) * 8;
  const values: string[] = [];
  for (let at = 0; at + valueSize <= value.length; at += stride)
    values.push(formatElement(valueType, valueSize, value.subarray(at, at + valueSize)));
  return values.length === 1 ? values[0]! : `[${values.join(', ')}]`;
}
