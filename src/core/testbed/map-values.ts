import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { parseBytes, parseValue, ValueProblem, type ParseOptions } from '../../bpf/btf/parse-value.js';
import { BPF_MAP_TYPE as T, isGlobalData, type MapSpec } from '../../bpf/map-spec.js';
import type { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { YamlPath } from './yaml-source.js';

export { isGlobalData };

/** What is wrong with map content, at a path within it. `onKey`: the key itself is wrong, not what is behind it. */
export interface MapProblem {
  readonly path: YamlPath;
  readonly message: string;
  readonly hint?: string | undefined;
  readonly onKey?: boolean | undefined;
}

/** The bytes of a key or value of a map, by its type if there is one that fits. Throws `ValueProblem`. */
export function parseElement(
  type: BtfTypeRef | undefined,
  size: number,
  input: unknown,
  options: ParseOptions = {},
): Uint8Array {
  return type === undefined || type.btf.sizeOf(type.id) !== size
    ? parseBytes(size, input, options)
    : parseValue(type, input, options);
}

/** What a key or value is refused for, below the path where it stands. */
export function mapProblem(error: XdpbedError, path: YamlPath): MapProblem {
  if (!(error instanceof ValueProblem)) return { path, message: error.message, hint: error.hint };
  const { unknown } = error;
  const near = unknown === undefined ? undefined : nearest(unknown.name, unknown.known);
  const isName = unknown !== undefined && error.path.at(-1) === unknown.name;
  return {
    path: [...path, ...error.path],
    message: error.message,
    hint: near === undefined ? error.hint : `did you mean '${near}'?`,
    onKey: isName,
  };
}

/** Whether its elements are programs or maps of the object, and written by their names. */
export function holdsObjects({ type }: Pick<MapSpec, 'type'>): boolean {
  return (
    type === T.BPF_MAP_TYPE_PROG_ARRAY ||
    type === T.BPF_MAP_TYPE_ARRAY_OF_MAPS ||
    type === T.BPF_MAP_TYPE_HASH_OF_MAPS
  );
}

/** Map types whose keys are an index below the number of entries. */
const INDEXED: ReadonlySet<number> = new Set([
  T.BPF_MAP_TYPE_ARRAY,
  T.BPF_MAP_TYPE_PERCPU_ARRAY,
  T.BPF_MAP_TYPE_PROG_ARRAY,
  T.BPF_MAP_TYPE_ARRAY_OF_MAPS,
  T.BPF_MAP_TYPE_DEVMAP,
  T.BPF_MAP_TYPE_CPUMAP,
  T.BPF_MAP_TYPE_XSKMAP,
]);

/** Whether its keys are indexes. */
export function isIndexed({ type }: Pick<MapSpec, 'type'>): boolean {
  return INDEXED.has(type);
}

/** Why there is no element under a key, for a map whose elements are there from the start; undefined otherwise. */
export function beyondEntries(map: MapSpec, key: Uint8Array, maxEntries: number): string | undefined {
  // Without a size the map is not made at all.
  if (!isIndexed(map) || key.length !== 4 || maxEntries === 0) return undefined;
  const index = new DataView(key.buffer, key.byteOffset).getUint32(0, true);
  if (index < maxEntries) return undefined;
  return `map ${map.name} has no element ${index}, its last is ${maxEntries - 1}`;
}
