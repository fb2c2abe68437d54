import { BPF_MAP_TYPE, type MapAttributes, type MapValueEntry } from './map-spec.js';
import { roundUp } from './runtime/address-space.js';

const PER_CPU_TYPES: ReadonlySet<number> = new Set([
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_HASH,
  BPF_MAP_TYPE.BPF_MAP_TYPE_PERCPU_ARRAY,
  BPF_MAP_TYPE.BPF_MAP_TYPE_LRU_PERCPU_HASH,
]);

/** Whether each CPU has a value of its own under a key. */
export function isPerCpu({ type }: Pick<MapAttributes, 'type'>): boolean {
  return PER_CPU_TYPES.has(type);
}

/** Bytes from one CPU's value to the next in what the system call passes. */
export function cpuStride({ valueSize }: Pick<MapAttributes, 'valueSize'>): number {
  return roundUp(valueSize, 8);
}

/** Bytes of a value as the system call passes it: of a per-CPU map the values of all CPUs, each padded to 8 bytes. */
export function syscallValueSize(map: Pick<MapAttributes, 'type' | 'valueSize'>, cpus: number): number {
  return isPerCpu(map) ? cpuStride(map) * cpus : map.valueSize;
}

/** The value of each CPU in what the system call passes; of a map that is not per CPU the only one. */
export function cpuValues(
  map: Pick<MapAttributes, 'type' | 'valueSize'>,
  value: Uint8Array,
): readonly Uint8Array[] {
  if (!isPerCpu(map) || map.valueSize === 0) return [value];
  const values: Uint8Array[] = [];
  for (let at = 0; at + map.valueSize <= value.length; at += cpuStride(map))
    values.push(value.subarray(at, at + map.valueSize));
  return values;
}

/** A value of one CPU as the value of every CPU, in `size` bytes; one of another length is left for the call to refuse. */
export function valueOfEveryCpu(
  map: Pick<MapAttributes, 'valueSize'>,
  value: Uint8Array,
  size: number,
): Uint8Array {
  if (value.length !== map.valueSize || size === map.valueSize) return value;
  const all = new Uint8Array(size);
  for (let at = 0; at + value.length <= size; at += cpuStride(map)) all.set(value, at);
  return all;
}

/**
 * The value of an element as the system call takes it, in `size` bytes: a value that is given once stands for every CPU, and
 * CPUs that are not named have 0. A string says why there is none.
 */
export function syscallValue(
  map: Pick<MapAttributes, 'valueSize'>,
  entry: MapValueEntry,
  size: number,
): Uint8Array | string {
  if ('value' in entry) return valueOfEveryCpu(map, entry.value, size);
  const stride = cpuStride(map);
  const all = new Uint8Array(size);
  const cpus = Math.floor(size / stride);
  for (const { cpu, value } of entry.cpuValues) {
    if (cpu >= cpus) return `there is no CPU ${cpu}: an element has values of CPUs 0 to ${cpus - 1}`;
    all.set(value, cpu * stride);
  }
  return all;
}
