import type { MapAttributes } from '../../bpf/map-spec.js';
import type { BpfMap } from '../../bpf/runtime/bpf-map.js';
import type { BpfRuntime } from '../../bpf/runtime/bpf-runtime.js';
import { token } from './injection.js';

/**
 * Role `map-backend`: creates maps and serves them, with the kernel's errno values. A map operation that fails
 * is an expected outcome and returns `-errno`; nothing here throws for what a guest can send.
 */
export interface MapBackend {
  readonly name: string;
  /** Values in a per-CPU map, where that is not for the party to say. */
  readonly cpus?: number;
  /** Creates a map: the map, or `-errno` (EINVAL for bad attributes, E2BIG, ENOMEM, EPERM …). */
  create(attributes: MapAttributes, options: MapCreateOptions): BpfMap | number;
  /** Bytes that a map of these attributes would take of the host's memory: what a quota is counted in. */
  memoryCost(attributes: MapAttributes): number;
  /** Bytes that there are for maps and all else that lies beside them, and how many of them are taken. */
  memory?(): { readonly total: number; readonly used: number };
  /**
   * Makes up to so many bytes of what closed maps left behind ready for others, which `create` otherwise does in one go: whether
   * there is more.
   */
  tidy?(mostBytes: number): boolean;
}

export interface MapCreateOptions {
  readonly name: string;
  /** The inner map template of an ARRAY_OF_MAPS or HASH_OF_MAPS (bpf(2)'s inner_map_fd). */
  readonly innerTemplate?: BpfMap | undefined;
}

export const MAP_BACKEND = token<MapBackend>('map-backend');
/** The runtime of the scope a map backend or executor is created in. */
export const BPF_RUNTIME = token<BpfRuntime>('bpf-runtime');
