import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { formatValue } from '../../bpf/btf/format-value.js';
import { BPF_F_RDONLY, BPF_F_WRONLY, BPF_MAP_TYPE, mapTypeName, type MapSpec } from '../../bpf/map-spec.js';
import { isResidentMap, type BpfMap } from '../../bpf/runtime/bpf-map.js';
import { isQueueOrStack, readQueueValues } from '../../bpf/runtime/queue-values.js';
import { formatElement } from '../program-test/map-dump.js';
import { isGlobalData } from '../testbed/map-values.js';
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
const WITH_KEYS: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE_ARRAY,
  BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE_HASH,
  BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE_LRU_HASH,
  BPF_MAP_TYPE_LRU_PERCPU_HASH,
  BPF_MAP_TYPE_LPM_TRIE,
]);

/** Something that is not the same: in the old program, and in the new one. */
export interface ValueDifference {
  /** `verdict`, `counts[3]`, … */
  readonly what: string;
  readonly old: string;
  readonly new: string;
}

/** A map of each, under one name. */
interface MapPair {
  readonly name: string;
  readonly before: SubjectMap;
  readonly after: SubjectMap;
  /** Of maps of global variables: those that are compared. */
  readonly variables?: readonly SharedVariable[] | undefined;
}

/** A global variable that both programs have, of one size. */
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
    const notes = notesOnOthers('map ', before.maps, after.maps);
    this.#pairs = [...before.maps].flatMap(([name, map]): MapPair[] => {
      const other = after.maps.get(name);
      if (other === undefined) return [];
      const reason = whyNot(map.spec, other.spec);
      if (reason !== undefined) {
        if (reason !== '') notes.push(`map ${name} is not compared: ${reason}`);
        return [];
      }
      const pair = { name, before: map, after: other };
      if (!isGlobal(map.spec) || !isGlobal(other.spec)) return [pair];
      return [{ ...pair, variables: sharedVariables(name, map.spec, other.spec, notes) }];
    });
    this.notes = notes;
  }

  /** Elements that are not the same now, the first of them, and whether there are others. */
  differences(most: number): { readonly differences: readonly ValueDifference[]; readonly cut: boolean } {
    const differences: ValueDifference[] = [];
    for (const pair of this.#pairs) {
      for (const difference of differencesOf(pair)) {
        if (differences.length === most) return { differences, cut: true };
        differences.push(difference);
      }
    }
    return { differences, cut: false };
  }

  get areSame(): boolean {
    return this.#pairs.every((pair) => {
      const { done } = differencesOf(pair).next();
      return done === true;
    });
  }
}

/** What only one of them has. @param what in front of the names */
function notesOnOthers(
  what: string,
  before: ReadonlyMap<string, unknown>,
  after: ReadonlyMap<string, unknown>,
): string[] {
  const only = (one: ReadonlyMap<string, unknown>, other: ReadonlyMap<string, unknown>, which: string) =>
    [...one.keys()]
      .filter((name) => !other.has(name))
      .map((name) => `${what}${name} is only in the ${which} program`);
  return [...only(before, after, 'old'), ...only(after, before, 'new')];
}

/** Why two maps cannot be compared; '' where nobody would ask. */
function whyNot(before: MapSpec, after: MapSpec): string | undefined {
  // Constants: what comes of them is compared.
  if (before.frozen === true && after.frozen === true) return '';
  if (before.frozen === true || after.frozen === true) return 'it is constant in one of the programs only';
  if (before.type !== after.type)
    return `it is a ${mapTypeName(before.type)}, now a ${mapTypeName(after.type)}`;
  // What programs send through buffers is compared when it is sent; into the others they do not write.
  if (!WITH_KEYS.has(before.type) && !isQueueOrStack(before.type)) return '';
  const unreadable = whyUnreadable(before) ?? whyUnreadable(after);
  if (unreadable !== undefined) return unreadable;
  if (isGlobal(before) && isGlobal(after)) return undefined;
  if (before.keySize !== after.keySize) return `keys have ${before.keySize} bytes, now ${after.keySize}`;
  if (before.valueSize !== after.valueSize)
    return `values have ${before.valueSize} bytes, now ${after.valueSize}`;
  return undefined;
}

/** Maps that are for programs only, or in one way only. */
function whyUnreadable({ type, flags }: MapSpec): string | undefined {
  if ((flags & BPF_F_WRONLY) !== 0) return 'only programs may read it (BPF_F_WRONLY)';
  // Reading all of one means to take all out, and to put it in again.
  if (isQueueOrStack(type) && (flags & BPF_F_RDONLY) !== 0)
    return 'only programs may take something out of it (BPF_F_RDONLY)';
  return undefined;
}

/** In place of a value. */
const NOT_THERE = 'not there';

function* differencesOf(pair: MapPair): Generator<ValueDifference> {
  const { name, before, after, variables } = pair;
  if (variables !== undefined) {
    yield* variableDifferences(pair, variables);
    return;
  }
  if (isQueueOrStack(before.spec.type)) {
    yield* queueDifferences(pair);
    return;
  }
  if (haveSameBytes(before.map, after.map)) return;
  for (const key of keysOf(before.map)) {
    const [old, recent] = [before.map.lookup(key), after.map.lookup(key)];
    if (typeof old === 'number') continue;
    if (typeof recent !== 'number' && equal(old, recent)) continue;
    yield {
      what: elementName(name, before.spec, key),
      old: valueText(before.spec, old),
      new: typeof recent === 'number' ? NOT_THERE : valueText(after.spec, recent),
    };
  }
  for (const key of keysOf(after.map)) {
    const value = after.map.lookup(key);
    if (typeof value === 'number' || typeof before.map.lookup(key) !== 'number') continue;
    const what = elementName(name, after.spec, key);
    yield { what, old: NOT_THERE, new: valueText(after.spec, value) };
  }
}

/** Value by value, in the order in which they come out. */
function* queueDifferences({ name, before, after }: MapPair): Generator<ValueDifference> {
  const [old, recent] = [readQueueValues(before.map), readQueueValues(after.map)];
  if (typeof old === 'number' || typeof recent === 'number') return;
  for (let index = 0; index < Math.max(old.length, recent.length); index++) {
    const [was, is] = [old[index], recent[index]];
    if (was !== undefined && is !== undefined && equal(was, is)) continue;
    yield {
      what: `${name}, value ${index + 1}`,
      old: was === undefined ? NOT_THERE : valueText(before.spec, was),
      new: is === undefined ? NOT_THERE : valueText(after.spec, is),
    };
  }
}

function* variableDifferences(
  { name, before, after }: MapPair,
  variables: readonly SharedVariable[],
): Generator<ValueDifference> {
  const key = new Uint8Array(before.spec.keySize);
  const [old, recent] = [before.map.lookup(key), after.map.lookup(key)];
  if (typeof old === 'number' || typeof recent === 'number') return;
  for (const variable of variables) {
    const [was, is] = [cut(old, variable.before), cut(recent, variable.after)];
    if (equal(was, is)) continue;
    yield {
      what: `${name}.${variable.name}`,
      old: formatValue(variable.before.type, was),
      new: formatValue(variable.after.type, is),
    };
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

/** @param notes is told of those that are not compared */
function sharedVariables(
  map: string,
  before: MapSpec,
  after: MapSpec,
  notes: string[],
): readonly SharedVariable[] {
  const [old, recent] = [variablesOf(before), variablesOf(after)];
  notes.push(...notesOnOthers(`variable ${map}.`, old, recent));
  return [...old].flatMap(([name, variable]): SharedVariable[] => {
    const other = recent.get(name);
    if (other === undefined) return [];
    if (variable.size === other.size) return [{ name, before: variable, after: other }];
    notes.push(`variable ${map}.${name} is not compared: it has ${variable.size} bytes, now ${other.size}`);
    return [];
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
