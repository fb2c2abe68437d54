import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { parseBytes, parseValue, ValueProblem, type ParseOptions } from '../../bpf/btf/parse-value.js';
import { BPF_MAP_TYPE, type MapSpec } from '../../bpf/map-spec.js';
import type { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import type { YamlPath } from './yaml-source.js';

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

/** Whether it is a map of global variables, whose content is written by variable. */
export function isGlobalData(map: MapSpec): boolean {
  // As libbpf has it: no other map can have such a name.
  return /^\.(?:data|rodata|bss|kconfig)\b/.test(map.name);
}
