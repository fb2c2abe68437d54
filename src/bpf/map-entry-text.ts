import type { MapInitialEntry, ObjectPart } from './map-spec.js';

/** A `MapInitialEntry` as JSON has it: bytes in hex, in the order of memory. */
export type MapEntryText = { readonly key: string } & (
  { readonly value: string } | { readonly cpuValues: { cpu: number; value: string }[] } | ObjectPart
);

export function entryToText(entry: MapInitialEntry): MapEntryText {
  const key = hex(entry.key);
  if ('value' in entry) return { key, value: hex(entry.value) };
  if ('cpuValues' in entry)
    return { key, cpuValues: entry.cpuValues.map(({ cpu, value }) => ({ cpu, value: hex(value) })) };
  return { ...entry, key };
}

export function entryFromText(text: MapEntryText): MapInitialEntry {
  const key = bytes(text.key);
  if ('value' in text) return { key, value: bytes(text.value) };
  if ('cpuValues' in text)
    return { key, cpuValues: text.cpuValues.map(({ cpu, value }) => ({ cpu, value: bytes(value) })) };
  return { ...text, key };
}

function hex(data: Uint8Array): string {
  return Buffer.from(data).toString('hex');
}

function bytes(digits: string): Uint8Array {
  return Uint8Array.from(Buffer.from(digits, 'hex'));
}
