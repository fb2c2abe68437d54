import type { MapAttributes } from '../../src/bpf/map-spec.js';
import {
  allocationSize,
  type AddressSpace,
  type Region,
  type RegionDescription,
} from '../../src/bpf/runtime/address-space.js';
import { XdpbedError } from '../../src/core/diagnostic.js';

/** A region that a map will need: what `AddressSpace.allocate` takes. */
export interface PlannedRegion {
  readonly size: number;
  readonly description: RegionDescription;
}

/**
 * How a kind of map judges its attributes and what memory it needs, both computed without allocating. The
 * same plan is what `memoryCost` sums up and what `create` allocates, so that the two cannot disagree.
 */
export interface MapKind {
  /** 0, or the -errno with which the kernel's `map_alloc_check` and `map_alloc` refuse the attributes. */
  check(attributes: MapAttributes): number;
  /** The regions besides the header. Sizes may exceed every memory: attributes are hostile. */
  regions(attributes: MapAttributes, environment: PlanEnvironment): readonly PlannedRegion[];
}

export interface PlanEnvironment {
  /** How messages call the map, e.g. `map rxcnt`. */
  readonly label: string;
  readonly cpus: number;
  /** Bytes of each CPU's buffer of a PERF_EVENT_ARRAY. */
  readonly perfBufferBytes: number;
}

/**
 * The header, the region whose address is the map's `address`. Words of 32 bits:
 *
 * ```
 *   +0   count        elements in use
 *   +4   7 words of the map type's own, described with it
 * ```
 * Who may free the memory and whether the map is frozen is not among them: programs change neither, so both are
 * kept where a program that a verifier wrongly let pass cannot change them either.
 */
export const HEADER_SIZE = 32;
export const HEADER_WORD = { count: 0, own: 1 } as const;

export function headerRegion(label: string): PlannedRegion {
  return { size: HEADER_SIZE, description: { kind: 'map', label, access: 'none' } };
}

export function planCost(regions: readonly PlannedRegion[]): number {
  return regions.reduce((sum, region) => sum + allocationSize(region.size), 0);
}

/** All of a plan's regions, or undefined (and none of them) when the space cannot hold them. */
export function allocatePlan(space: AddressSpace, plan: readonly PlannedRegion[]): Region[] | undefined {
  const regions: Region[] = [];
  try {
    for (const { size, description } of plan) regions.push(space.allocate(size, description));
    return regions;
  } catch (error) {
    for (const region of regions) space.free(region);
    if (error instanceof XdpbedError && error.code === 'out-of-memory') return undefined;
    throw error;
  }
}
