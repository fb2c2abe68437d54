import { HELPER_NAMES, helperId } from '../../bpf/helper-ids.js';
import { OFFLOADABLE_HELPER_IDS } from './offloadable-helpers.js';

/**
 * The numbers of the helpers that a guest's driver lets an offloaded program call, of a list in which `default` stands for
 * OFFLOADABLE_HELPERS and `any` for every helper there is. Undefined: `default` alone. A name that is none adds nothing.
 */
export function driverHelpers(names: readonly string[] = ['default']): ReadonlySet<number> {
  return new Set(
    names.flatMap((name) => {
      if (name === 'default') return [...OFFLOADABLE_HELPER_IDS];
      if (name === 'any') return [...HELPER_NAMES.keys()];
      const id = helperId(name);
      return id === undefined ? [] : [id];
    }),
  );
}
