import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { XdpbedError } from '../diagnostic.js';
import type { PresetValue } from '../contract/plan.js';
import { mapProblem, parseElement, type MapProblem } from './map-values.js';
import { suggest } from './wiring.js';

/** What the references in preset values stand for. */
export interface PresetNames {
  readonly ifindexes: ReadonlyMap<string, number>;
  /** MAC addresses by node: `host.eth0`, `guest0.eth0`. */
  readonly macs: ReadonlyMap<string, string>;
}

/** The bytes of a preset value, or why there are none. */
export type Encoded = { readonly bytes: Uint8Array } | { readonly problem: MapProblem };

/**
 * Encodes a key or value of `size` bytes as `parseValue` has it written. `{ ifindex: INTERFACE }` and `{ mac: INTERFACE }`
 * stand, at any depth, for the number and the address of an interface of the testbed.
 *
 * @param what how messages call it
 */
export function encodePreset(
  value: PresetValue,
  size: number,
  names: PresetNames,
  type?: BtfTypeRef,
  what = 'value',
): Encoded {
  const tables: Readonly<Record<string, ReadonlyMap<string, number | string>>> = {
    ifindex: names.ifindexes,
    mac: names.macs,
  };
  const reference = (name: string, target: string): number | string | undefined => {
    const table = Object.hasOwn(tables, name) ? tables[name]! : undefined;
    if (table === undefined) return undefined;
    const found = table.get(target);
    // What is an address as it stands, or a number, is no name.
    if (found !== undefined || /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$|^\d+$/i.test(target)) return found;
    throw new XdpbedError('map-invalid', `there is no interface '${target}'`, {
      hint: suggest(target, [...table.keys()], 'interfaces'),
    });
  };
  try {
    return { bytes: parseElement(type, size, value, { what, reference }) };
  } catch (error) {
    if (error instanceof XdpbedError) return { problem: mapProblem(error, []) };
    throw error;
  }
}
