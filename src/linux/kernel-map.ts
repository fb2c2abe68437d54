import type { MapBtf } from '../bpf/btf/map-btf.js';
import { errnoName } from '../bpf/errno.js';
import { BPF_MAP_TYPE, mapTypeName, type MapAttributes } from '../bpf/map-spec.js';
import { syscallValueSize, valueOfEveryCpu } from '../bpf/per-cpu-value.js';
import { btfLoad, closeFd, mapCreate, possibleCpus, type MapCreation } from './bpf-syscall.js';

export interface NamedMapAttributes extends MapAttributes {
  readonly name: string;
}

/**
 * Creates a map as libbpf does: a map of maps with a template of its inner map, a PERF_EVENT_ARRAY of no stated
 * size with a slot for each CPU, a RINGBUF rounded up to a power of two of whole pages; with its BTF, and without it
 * where the kernel does not take that. A file descriptor, or `-errno`.
 */
export function createKernelMap(map: NamedMapAttributes): number {
  const { name, type, keySize, valueSize, flags, inner } = map;
  const maxEntries = kernelMaxEntries(map);
  let innerMapFd: number | undefined;
  if (inner !== undefined) {
    innerMapFd = createKernelMap({ ...inner, name: `${name.slice(0, 10)}.inner` });
    if (innerMapFd < 0) return innerMapFd;
  }
  try {
    return createWithBtf({ name, type, keySize, valueSize, maxEntries, flags, innerMapFd }, map.btf);
  } finally {
    // The kernel copies the attributes: the template itself is not in the map.
    if (innerMapFd !== undefined) closeFd(innerMapFd);
  }
}

/**
 * BPF_MAP_CREATE with the BTF of keys and values, and without it where the kernel does not take that, as libbpf does: a
 * file descriptor, or `-errno`.
 */
export function createWithBtf(creation: MapCreation, btf: MapBtf | undefined): number {
  if (btf === undefined) return mapCreate(creation);
  const fd = btfLoad(btf.bytes);
  if (fd < 0) return mapCreate(creation);
  try {
    const { keyType, valueType } = btf;
    const map = mapCreate({ ...creation, btf: { fd, keyType, valueType } });
    return map >= 0 ? map : mapCreate(creation);
  } finally {
    closeFd(fd);
  }
}

/** `map flows (BPF_MAP_TYPE_HASH, …) cannot be created in the kernel: EINVAL`. */
export function mapCreationProblem(map: NamedMapAttributes, errno: number): string {
  const { name, type, keySize, valueSize, maxEntries } = map;
  return `map ${name} (${mapTypeName(type)}, keys of ${keySize} bytes, values of ${valueSize} bytes, ${maxEntries} entries) cannot be created in the kernel: ${errnoName(errno)}`;
}

/** Bytes of a value as the system call passes it. */
export function kernelValueSize(map: MapAttributes): number {
  return syscallValueSize(map, possibleCpus());
}

/** A value for the system call: one that was given for one CPU stands for every CPU. */
export function kernelValue(map: MapAttributes, value: Uint8Array): Uint8Array {
  return valueOfEveryCpu(map, value, kernelValueSize(map));
}

/** A file descriptor as an element of a PROG_ARRAY or a map of maps: a u32. */
export function fdValue(fd: number): Uint8Array {
  const value = new Uint8Array(4);
  new DataView(value.buffer).setUint32(0, fd, true);
  return value;
}

function kernelMaxEntries({ type, maxEntries }: MapAttributes): number {
  if (type === BPF_MAP_TYPE.BPF_MAP_TYPE_PERF_EVENT_ARRAY && maxEntries === 0) return possibleCpus();
  if (type === BPF_MAP_TYPE.BPF_MAP_TYPE_RINGBUF && maxEntries > 0) {
    return Math.min(2 ** 31, Math.max(PAGE_SIZE, 2 ** Math.ceil(Math.log2(maxEntries))));
  }
  return maxEntries;
}

/** The smallest page of the architectures that `libc` knows; a larger one makes the kernel say EINVAL. */
export const PAGE_SIZE = 4096;
