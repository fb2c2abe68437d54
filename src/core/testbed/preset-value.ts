import { parseMac } from '../../packet/mac-address.js';
import type { BtfTypeRef } from '../../bpf/btf/btf-type-ref.js';
import { parseValue } from '../../bpf/btf/parse-value.js';
import { XdpbedError } from '../diagnostic.js';
import type { PresetValue } from '../contract/plan.js';

/** What the references in preset values stand for. */
export interface PresetNames {
  readonly ifindexes: ReadonlyMap<string, number>;
  /** MAC addresses by node: `host.eth0`, `guest0.eth0`. */
  readonly macs: ReadonlyMap<string, string>;
}

/** The bytes of a preset value, or why there are none. */
export type Encoded =
  { readonly bytes: Uint8Array } | { readonly problem: string; readonly candidates?: readonly string[] };

const HEX = /^0x([0-9a-f]{2})+$/i;
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i;

/**
 * Encodes a key or value of `size` bytes: numbers little-endian in the whole width, hex and MAC text as it
 * stands padded with zero bytes behind, lists as elements of equal width, objects by the BTF type if there is one.
 */
export function encodePreset(
  value: PresetValue,
  size: number,
  names: PresetNames,
  type?: BtfTypeRef,
): Encoded {
  if (value === null || value === undefined) return { problem: 'nothing stands here' };
  if (typeof value === 'number')
    return encodeNumber(BigInt(Math.trunc(value)), Number.isInteger(value), size);
  if (typeof value === 'string') {
    if (MAC.test(value)) return padded(parseMac(value), size);
    if (HEX.test(value)) return padded(Uint8Array.from(Buffer.from(value.slice(2), 'hex')), size);
    if (/^-?\d+$/.test(value)) return encodeNumber(BigInt(value), true, size);
    return { problem: `'${value}' is neither a number, hex bytes (0x…) nor a MAC address` };
  }
  if (Array.isArray(value)) return encodeList(value as readonly PresetValue[], size, names);
  const entries = Object.entries(value);
  const [reference, target] = entries[0] ?? [];
  if (
    entries.length === 1 &&
    typeof target === 'string' &&
    (reference === 'ifindex' || reference === 'mac')
  ) {
    const table: ReadonlyMap<string, number | string> =
      reference === 'ifindex' ? names.ifindexes : names.macs;
    const found = table.get(target);
    if (found === undefined)
      return { problem: `there is no interface '${target}'`, candidates: [...table.keys()] };
    return typeof found === 'number'
      ? encodeNumber(BigInt(found), true, size)
      : padded(parseMac(found), size);
  }
  if (type !== undefined && type.btf.sizeOf(type.id) === size) {
    try {
      return { bytes: parseValue(type, value) };
    } catch (error) {
      if (error instanceof XdpbedError) return { problem: error.message };
      throw error;
    }
  }
  return { problem: 'expected a number, bytes, a list, { ifindex: … } or { mac: … }' };
}

function encodeNumber(value: bigint, whole: boolean, size: number): Encoded {
  if (!whole) return { problem: `${value} is not a whole number` };
  const bits = BigInt(size * 8);
  if (value >= 1n << bits || value < -(1n << (bits - 1n)))
    return { problem: `${value} does not fit in ${size} bytes` };
  const bytes = new Uint8Array(size);
  let rest = BigInt.asUintN(size * 8, value);
  for (let i = 0; i < size && rest > 0n; i++, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return { bytes };
}

function padded(bytes: Uint8Array, size: number): Encoded {
  if (bytes.length > size) return { problem: `${bytes.length} bytes do not fit in ${size}` };
  const whole = new Uint8Array(size);
  whole.set(bytes);
  return { bytes: whole };
}

function encodeList(items: readonly PresetValue[], size: number, names: PresetNames): Encoded {
  if (items.length === 0 || size % items.length !== 0) {
    return { problem: `${items.length} items do not divide ${size} bytes evenly` };
  }
  const width = size / items.length;
  const bytes = new Uint8Array(size);
  for (const [index, item] of items.entries()) {
    const encoded = encodePreset(item, width, names);
    if (!('bytes' in encoded)) return encoded;
    bytes.set(encoded.bytes, index * width);
  }
  return { bytes };
}
