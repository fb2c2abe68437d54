import type { MapResult } from '../core/contract/result.js';

/** Types whose keys are a u32 index. The keys of the others may be anything, so their bytes are shown. */
const INDEXED_MAP = /^BPF_MAP_TYPE_(\w+_)?ARRAY(_OF_MAPS)?$|^BPF_MAP_TYPE_(DEV|CPU|XSK)MAP$/;

/**
 * An element in short: `[17]=1000`, `[{ bytes: "0a000001" }]=7`. The value is as its BTF type prints it, else a
 * number when it is as wide as one, else its bytes, as presets and cases take them. Guests are little-endian, as VIRTIO_F_VERSION_1 devices are.
 */
export function formatMapEntry(map: MapResult, entry: MapResult['entries'][number]): string {
  const key = INDEXED_MAP.test(map.type) ? littleEndian(entry.key, [4]) : undefined;
  const value = entry.text ?? littleEndian(entry.value, [1, 2, 4, 8]) ?? inBytes(entry.value);
  return `[${key ?? inBytes(entry.key)}]=${value}`;
}

function inBytes(hex: string): string {
  return `{ bytes: "${hex}" }`;
}

/** Hex bytes as an unsigned decimal number, or undefined when there are not as many bytes as one of `widths`. */
function littleEndian(hex: string, widths: readonly number[]): string | undefined {
  if (!/^([0-9a-f]{2})+$/i.test(hex) || !widths.includes(hex.length / 2)) return undefined;
  return BigInt(`0x${hex.match(/../g)!.reverse().join('')}`).toString();
}

/** What a map holds, in one line; says so when it holds nothing but zeros, or could not be read. */
export function formatMapContent(map: MapResult, entries: readonly string[]): string {
  const count = map.records?.length;
  const records = count === undefined ? [] : [count === 1 ? '1 record' : `${count} records`];
  const content = [...records, ...entries].join(' ');
  if (map.unreadable === undefined) return content || 'all zero';
  return `${content}${content === '' ? '' : ' '}(not read: ${map.unreadable})`;
}
