import { resizeMaps, type MapSizes } from '../../bpf/map-sizes.js';
import type { ObjectSpec } from '../../bpf/elf/object-spec.js';
import { XdpbedError } from '../diagnostic.js';
import { nearest } from '../nearest.js';
import { findMap } from '../testbed/map-input.js';

/** What `--map NAME.member=value` can set of a map. */
const MEMBERS = ['max_entries'];
const MAX_U32 = 0xffff_ffff;

/**
 * Sizes as the command line gives them, the last of several for one map. Throws `usage` for an argument that is not
 * `NAME.max_entries=N` with N from 1 to 2^32 - 1. A name may hold dots: the last one ends it.
 */
export function parseMapSizes(texts: readonly string[]): MapSizes {
  const sizes = Object.create(null) as Record<string, number>;
  for (const text of texts) {
    const [, name, member, value] = /^(.+)\.([^.=]*)=(.*)$/.exec(text) ?? [];
    if (name === undefined) {
      throw new XdpbedError('usage', `--map '${text}' is not NAME.max_entries=N`);
    }
    if (!MEMBERS.includes(member!)) {
      const near = nearest(member!, MEMBERS);
      throw new XdpbedError('usage', `--map '${text}': a map has no '${member}' that can be set`, {
        hint: near === undefined ? `what can be set: ${MEMBERS.join(', ')}` : `did you mean '${near}'?`,
      });
    }
    const size = /^\d{1,10}$/.test(value!) ? Number(value) : 0;
    if (size < 1 || size > MAX_U32) {
      throw new XdpbedError('usage', `--map '${text}': '${value}' is not a number from 1 to ${MAX_U32}`);
    }
    sizes[name] = size;
  }
  return sizes;
}

/** As `resizeMaps`; a map that is not there is told with the one that may have been meant. */
export function applyMapSizes(object: ObjectSpec, sizes: MapSizes): ObjectSpec {
  for (const name of Object.keys(sizes)) findMap(object.maps, name);
  return resizeMaps(object, sizes);
}
