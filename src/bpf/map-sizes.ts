import { XdpbedError } from '../core/diagnostic.js';
import type { ObjectSpec } from './elf/object-spec.js';
import type { MapSpec } from './map-spec.js';

/** `max_entries` by map name, where it is to be another than the object says. */
export type MapSizes = Readonly<Record<string, number>>;

/** Whether the object leaves the size of a map to its loader, or has one that a loader may change. */
export function isResizable(map: MapSpec): boolean {
  // The maps of global variables have one element, whose offsets the program's insns hold (libbpf likewise).
  return !map.name.startsWith('.');
}

/**
 * The object with other sizes of its maps, as `bpf_map__set_max_entries` of libbpf between open and load. Throws
 * `map-invalid` for a map that the object has not, or that holds global variables.
 */
export function resizeMaps(object: ObjectSpec, sizes: MapSizes): ObjectSpec {
  for (const name of Object.keys(sizes)) {
    const map = object.maps.find((candidate) => candidate.name === name);
    if (map === undefined) throw new XdpbedError('map-invalid', `the object has no map '${name}'`);
    if (!isResizable(map)) {
      throw new XdpbedError('map-invalid', `map ${name} holds global variables and has one element`);
    }
  }
  return {
    ...object,
    maps: object.maps.map((map) =>
      Object.hasOwn(sizes, map.name) ? { ...map, maxEntries: sizes[map.name]! } : map,
    ),
  };
}
