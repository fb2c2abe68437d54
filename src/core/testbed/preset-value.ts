import type { ParseOptions } from '../../bpf/btf/parse-value.js';
import { XdpbedError } from '../diagnostic.js';
import { suggest } from './wiring.js';

/** What the references in preset values stand for. */
export interface PresetNames {
  readonly ifindexes: ReadonlyMap<string, number>;
  /** MAC addresses by node: `host.eth0`, `guest0.eth0`. */
  readonly macs: ReadonlyMap<string, string>;
}

/**
 * `{ ifindex: INTERFACE }` and `{ mac: INTERFACE }` stand, at any depth of a preset value, for the number and the address of an
 * interface of the testbed.
 */
export function presetReference(names: PresetNames): NonNullable<ParseOptions['reference']> {
  const tables: Readonly<Record<string, ReadonlyMap<string, number | string>>> = {
    ifindex: names.ifindexes,
    mac: names.macs,
  };
  return (name, target) => {
    const table = Object.hasOwn(tables, name) ? tables[name]! : undefined;
    if (table === undefined) return undefined;
    const found = table.get(target);
    // What is an address as it stands, or a number, is no name.
    if (found !== undefined || /^(?:[0-9a-f]{2}:){5}[0-9a-f]{2}$|^\d+$/i.test(target)) return found;
    throw new XdpbedError('map-invalid', `there is no interface '${target}'`, {
      hint: suggest(target, [...table.keys()], 'interfaces'),
    });
  };
}
