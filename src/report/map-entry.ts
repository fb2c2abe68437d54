import { isGlobalData } from '../bpf/map-spec.js';
import type { ElementWords } from '../core/contract/reporter.js';
import type { MapResult } from '../core/contract/result.js';

type Entry = MapResult['entries'][number];

/** Types whose keys are a u32 index. The keys of the others may be anything, so their bytes are shown. */
const INDEXED_MAP = /^BPF_MAP_TYPE_(\w+_)?ARRAY(_OF_MAPS)?$|^BPF_MAP_TYPE_(DEV|CPU|XSK)MAP$/;
const PER_CPU_MAP = /^BPF_MAP_TYPE_(LRU_)?PERCPU_/;

/**
 * An element in short: `[17]=1000`, `[10.0.0.1]={ packets: 3 }`, `[0]=cpus { 0: 5, 3: 7 }`, of global variables `{ limit: 3 }`.
 * Key and value are in words where there are some, else a number when they are as wide as one (a key: if it is an index), else
 * bytes, as presets and cases take them. Guests are little-endian, as VIRTIO_F_VERSION_1 devices are.
 */
export function formatMapEntry(map: MapResult, entry: Entry, words: ElementWords = {}): string {
  const { key, value, cpus } = partsOf(map, entry, words);
  if (isGlobalData(map) && words.value !== undefined) return words.value;
  return `[${key}]=${cpus === undefined ? value : `cpus ${cpus}`}`;
}

/** An element as content of maps is written: `- { key: 10.0.0.1, value: { packets: 3 } }`, of global variables the object. */
export function formatMapItem(map: MapResult, entry: Entry, words: ElementWords): string {
  const { key, value, cpus } = partsOf(map, entry, words);
  if (isGlobalData(map) && words.value !== undefined) return words.value;
  return `- { key: ${key}, ${cpus === undefined ? `value: ${value}` : `cpus: ${cpus}`} }`;
}

function partsOf(map: MapResult, { key, value }: Entry, words: ElementWords) {
  const index = INDEXED_MAP.test(map.type) ? littleEndian(key, [4]) : undefined;
  return {
    key: words.key ?? index ?? inBytes(key),
    value: words.value ?? littleEndian(value, [1, 2, 4, 8]) ?? inBytes(value),
    cpus: PER_CPU_MAP.test(map.type) ? words.value : undefined,
  };
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
