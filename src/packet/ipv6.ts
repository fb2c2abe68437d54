/** IPv6 (RFC 8200) and its addresses as text (RFC 4291 section 2.2, RFC 5952). */

import { XdpbedError } from '../core/diagnostic.js';
import { formatIpv4Address, parseIpv4Address } from './ipv4.js';
import { readU16, readU32, writeU16, writeU32 } from './network-order.js';

export const IPV6_HEADER_BYTES = 40;

/** Next-header values of the extension headers that are walked over (RFC 8200 section 4). */
export const IPV6_EXTENSION = {
  HOP_BY_HOP: 0,
  ROUTING: 43,
  FRAGMENT: 44,
  NO_NEXT_HEADER: 59,
  DESTINATION_OPTIONS: 60,
} as const;

export interface Ipv6Header {
  /** Must be 6 in a valid packet; reported as it is found. */
  readonly version: number;
  readonly trafficClass: number;
  /** 20 bits. */
  readonly flowLabel: number;
  /** What follows the 40-byte header, extension headers included, in bytes. */
  readonly payloadLength: number;
  readonly nextHeader: number;
  readonly hopLimit: number;
  readonly src: string;
  readonly dst: string;
}

function malformed(text: string): XdpbedError {
  return new XdpbedError('packet-invalid', `"${text}" is not an IPv6 address`, {
    hint: 'as in 2001:db8::1, without a zone',
  });
}

/** The bytes of a colon-separated run of groups; the last may be an IPv4 address where that is allowed. */
function groupBytes(run: string, text: string, ipv4AtEnd: boolean): number[] {
  if (run === '') return [];
  const groups = run.split(':');
  return groups.flatMap((group, index) => {
    if (ipv4AtEnd && index === groups.length - 1 && group.includes('.')) {
      return [...parseIpv4Address(group)];
    }
    if (!/^[0-9a-f]{1,4}$/i.test(group)) throw malformed(text);
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/**
 * Reads every text form of RFC 4291 section 2.2, without a zone or prefix length.
 * @throws XdpbedError `packet-invalid`
 */
export function parseIpv6Address(text: string): Uint8Array {
  const halves = text.split('::');
  if (halves.length > 2) throw malformed(text);
  const head = groupBytes(halves[0]!, text, halves.length === 1);
  const tail = halves.length === 2 ? groupBytes(halves[1]!, text, true) : [];
  const length = head.length + tail.length;
  // "::" stands for at least one group.
  if (halves.length === 1 ? length !== 16 : length > 14) throw malformed(text);
  const bytes = new Uint8Array(16);
  bytes.set(head);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** The canonical text of RFC 5952: lower case, no leading zeros, the first longest run of zero groups as `::`. */
export function formatIpv6Address(bytes: Uint8Array, offset = 0): string {
  const groups = Array.from({ length: 8 }, (_, index) => readU16(bytes, offset + 2 * index));
  // RFC 5952 section 5: addresses known to embed an IPv4 address; only the mapped prefix is known by itself.
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${formatIpv4Address(bytes, offset + 12)}`;
  }
  let bestStart = -1;
  // A single zero group is not shortened (RFC 5952 section 4.2.2).
  let bestLength = 1;
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > bestLength) {
      bestStart = start;
      bestLength = end - start;
    }
  }
  const hex = groups.map((group) => group.toString(16));
  if (bestStart < 0) return hex.join(':');
  return `${hex.slice(0, bestStart).join(':')}::${hex.slice(bestStart + bestLength).join(':')}`;
}

/** The header at `offset`, or undefined when fewer than 40 bytes are left. Judges nothing. */
export function readIpv6(bytes: Uint8Array, offset = 0): Ipv6Header | undefined {
  if (offset + IPV6_HEADER_BYTES > bytes.length) return undefined;
  const first = readU32(bytes, offset);
  return {
    version: first >>> 28,
    trafficClass: (first >>> 20) & 0xff,
    flowLabel: first & 0xfffff,
    payloadLength: readU16(bytes, offset + 4),
    nextHeader: bytes[offset + 6]!,
    hopLimit: bytes[offset + 7]!,
    src: formatIpv6Address(bytes, offset + 8),
    dst: formatIpv6Address(bytes, offset + 24),
  };
}

/** Writes 40 bytes at `offset`. @throws XdpbedError `packet-invalid` for a malformed address */
export function writeIpv6(bytes: Uint8Array, offset: number, header: Omit<Ipv6Header, 'version'>): void {
  writeU32(bytes, offset, ((6 << 28) | (header.trafficClass << 20) | header.flowLabel) >>> 0);
  writeU16(bytes, offset + 4, header.payloadLength);
  bytes[offset + 6] = header.nextHeader;
  bytes[offset + 7] = header.hopLimit;
  bytes.set(parseIpv6Address(header.src), offset + 8);
  bytes.set(parseIpv6Address(header.dst), offset + 24);
}
