import { readUntyped, readValue, type BtfValue } from '../../bpf/btf/read-value.js';
import { mapTypeName, type MapSpec } from '../../bpf/map-spec.js';
import { cpuValues, isPerCpu } from '../../bpf/per-cpu-value.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import { beyondEntries, isGlobalData, mapProblem, parseElement, type MapProblem } from './map-values.js';

/** Where a number stands in a map, as an `expect` check names it. */
export interface MapNumberSection {
  readonly map: string;
  readonly key?: unknown;
  readonly member?: string | undefined;
  readonly cpu?: number | undefined;
}

/** A number in one map of one program. */
export interface MapNumber {
  /** Of the element, as hex digits without spaces, as results have it. */
  readonly key: string;
  /** Of one CPU, or the sum of all that there are; exact. Throws `map-invalid` where there is no number. */
  read(value: Uint8Array): bigint;
}

/** Numbers by the run's id, then by the nic whose program has the map (`guest0.eth0`). */
export type MapNumbers = ReadonlyMap<string, ReadonlyMap<string, MapNumber>>;

/** The number that a check names in maps of these programs, or what is wrong, at a path within the check. */
export type MapNumberFound =
  { readonly number: MapNumber } | { readonly problems: readonly [MapProblem, ...MapProblem[]] };

/** `maxEntries`: how many elements the map has in the run, where it is not what the object says. */
export function findMapNumber(
  map: MapSpec,
  section: MapNumberSection,
  maxEntries = map.maxEntries,
): MapNumberFound {
  const problems: MapProblem[] = [];
  const attempt = <T>(path: string, work: () => T): T | undefined => {
    try {
      return work();
    } catch (error) {
      if (!(error instanceof XdpbedError)) throw error;
      problems.push(mapProblem(error, [path]));
      return undefined;
    }
  };
  const key = attempt('key', () => keyOf(map, section, maxEntries));
  const { member = '', cpu } = section;
  if (cpu !== undefined && !isPerCpu(map)) {
    problems.push({
      path: ['cpu'],
      message: `map ${map.name} is a ${mapTypeName(map.type)}, not per CPU`,
      onKey: true,
    });
  }
  // Whether there is such a member, and whether it is a number, zeros tell as well as any other bytes.
  attempt(section.member === undefined ? 'map' : 'member', () =>
    numberIn(map, new Uint8Array(map.valueSize), member),
  );
  const [first, ...others] = problems;
  if (first !== undefined) return { problems: [first, ...others] };
  return {
    number: {
      key: Buffer.from(key!).toString('hex'),
      read: (value) => valuesOf(map, value, cpu).reduce((sum, own) => sum + numberIn(map, own, member), 0n),
    },
  };
}

function keyOf(map: MapSpec, section: MapNumberSection, maxEntries: number): Uint8Array {
  if (map.keySize === 0) throw invalid(`map ${map.name} is a ${mapTypeName(map.type)} and has no keys`);
  if (section.key === undefined) {
    // All global variables of a section are one element.
    if (isGlobalData(map)) return new Uint8Array(map.keySize);
    throw invalid(`'key' is missing: which element of map ${map.name}`);
  }
  const key = parseElement(map.keyType, map.keySize, section.key, { what: `${map.name}.key` });
  const beyond = beyondEntries(map, key, maxEntries);
  if (beyond !== undefined) throw invalid(beyond);
  return key;
}

/** The values of the CPUs that count: of one, or of all. */
function valuesOf(map: MapSpec, value: Uint8Array, cpu: number | undefined): readonly Uint8Array[] {
  const values = cpuValues(map, value);
  if (cpu === undefined || !isPerCpu(map)) return values;
  const own = values[cpu];
  if (own === undefined)
    throw invalid(`there is no CPU ${cpu}, the last with a value is ${values.length - 1}`);
  return [own];
}

/** The integer at a member of a value. `true` is 1. */
function numberIn(map: MapSpec, bytes: Uint8Array, member: string): bigint {
  const { valueType: type, valueSize } = map;
  const isTyped = type !== undefined && type.btf.sizeOf(type.id) === valueSize;
  if (!isTyped && member !== '')
    throw invalid(`values of map ${map.name} have no members: the object has no type for them`);
  let value: BtfValue = isTyped ? readValue(type, bytes) : readUntyped(bytes);
  let place = map.name;
  for (const step of member.match(/[^.[\]]+/g) ?? []) {
    const isList = Array.isArray(value);
    value = stepInto(value, step, place);
    place += isList ? `[${step}]` : `.${step}`;
  }
  if (typeof value === 'bigint') return value;
  if (typeof value === 'boolean') return value ? 1n : 0n;
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt(value);
  const names = memberNames(value);
  throw invalid(
    `${place} is not an integer`,
    names.length === 0 ? undefined : `give one of its members as 'member': ${shortList(names)}`,
  );
}

function stepInto(value: BtfValue, step: string, place: string): BtfValue {
  const names = memberNames(value);
  const inner = names.includes(step) ? (value as Readonly<Record<string, BtfValue>>)[step] : undefined;
  if (inner !== undefined) return inner;
  if (names.length === 0) throw invalid(`${place} has no members`);
  const near = Array.isArray(value) ? undefined : nearest(step, names);
  throw invalid(
    `${place} has no ${Array.isArray(value) ? 'element' : 'member'} ${step}`,
    near === undefined ? `there are ${shortList(names)}` : `did you mean '${near}'?`,
  );
}

/** Members of a value, or the indexes of a list; none of a plain one. */
function memberNames(value: BtfValue): string[] {
  return typeof value !== 'object' || value instanceof Uint8Array ? [] : Object.keys(value);
}

/** Names for a message; an array of BTF may have a million. */
function shortList(names: readonly string[]): string {
  return `${names.slice(0, 12).join(', ')}${names.length > 12 ? ' …' : ''}`;
}

function invalid(message: string, hint?: string): XdpbedError {
  return new XdpbedError('map-invalid', message, { hint });
}
