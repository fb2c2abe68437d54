import { EINVAL, ENOMEM, errnoName } from '../../bpf/errno.js';
import { mapTypeName, type MapAttributes } from '../../bpf/map-spec.js';
import type { MapBackend } from '../contract/map-backend.js';

/** Why a backend created no map: what `create` answered (`-errno`), with the limit where there is one. */
export function explainMapRefusal(backend: MapBackend, attributes: MapAttributes, status: number): string {
  const memory = status === -ENOMEM ? backend.memory?.() : undefined;
  if (memory === undefined) return errnoName(status);
  const wanted = backend.memoryCost(attributes);
  const used = memory.used === 0 ? '' : `, of which ${mebibytes(memory.used)} are in use`;
  return `it wants ${mebibytes(wanted)}; the address space has ${mebibytes(memory.total)}${used} (${errnoName(status)})`;
}

/** `map flows (BPF_MAP_TYPE_HASH, keys of 4 bytes, values of 8 bytes, 100 entries)` */
export function describeMap(name: string, { type, keySize, valueSize, maxEntries }: MapAttributes): string {
  return `map ${name} (${mapTypeName(type)}, keys of ${keySize} bytes, values of ${valueSize} bytes, ${maxEntries} entries)`;
}

/** What whoever loads an object can do about a map that was not created, if its size is what is wrong. */
export function mapSizeHint(name: string, { maxEntries }: MapAttributes, status: number): string | undefined {
  const set = `set --map ${name}.max_entries=N, or max-entries in a testbed or a file of cases`;
  if (status === -EINVAL && maxEntries === 0) return `the object leaves the size to its loader: ${set}`;
  return status === -ENOMEM ? set : undefined;
}

function mebibytes(bytes: number): string {
  const count = bytes / 2 ** 20;
  return `${count < 10 ? Math.ceil(count * 10) / 10 : Math.ceil(count)} MiB`;
}
